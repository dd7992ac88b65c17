// SPDX-License-Identifier: Apache-2.0

// Package config is the agent's configuration: one struct, filled once at start from files, environment and flags.
//
// It stands between the outside (command line, TETRAGON_* variables, drop-in directories, YAML files) and internal/daemon,
// which hands each part only the few values that it needs. The table in keys.go is the single source of every key: its
// type, default, help and whether this version acts on it. Flags, files, checks, --help and --print-config all read it.
//
// Not here: what the values mean to others (the text of filters, whether a file can be opened, whether a port is free).
//
// Nothing that a user wrote is silently ignored: an unknown key, a value that cannot be read, a key that this version
// does not support are errors, all reported at once, each with its place; a key without effect is a warning.
// A Config is read-only after Load, and then safe for concurrent use.
package config
