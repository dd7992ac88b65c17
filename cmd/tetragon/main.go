// SPDX-License-Identifier: Apache-2.0

// Command tetragon is the agent; see internal/daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"tetragon/internal/config"
	"tetragon/internal/daemon"
)

// version is set by the linker.
var version = "dev"

func main() {
	os.Exit(run())
}

// run returns the exit code: 0 after a clean stop, 1 for a wrong command line or configuration, 255 for all else.
func run() int {
	cfg, err := config.Load(os.Args[1:], config.Options{})
	switch {
	case errors.Is(err, config.ErrDone):
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "tetragon: error: %v\n", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// A reader of standard output that goes away must not take the agent with it: the sink counts what it cannot write.
	signal.Ignore(syscall.SIGPIPE)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	err = daemon.Run(ctx, daemon.Options{Config: cfg, Version: version, Stdout: os.Stdout, Stderr: os.Stderr, Hangup: hup,
		Reload: func() (*config.Config, error) { return config.Load(os.Args[1:], config.Options{}) },
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "tetragon: error: %v\n", err)
		return 255
	}
	return 0
}
