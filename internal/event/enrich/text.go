// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bytes"

	"tetragon/internal/event"
)

// appendArgs renders an argument block, argv[0] included and strings ended by NUL, as the arguments field has it: argv[0]
// left out, a word with a space in quotes and always after a space, an empty first word dropped (events.md 7.2).
func appendArgs(b, block []byte) []byte {
	i := bytes.IndexByte(block, 0)
	if i < 0 {
		return b
	}
	rest := bytes.TrimRight(block[i+1:], "\x00")
	start := len(b)
	for len(rest) > 0 {
		word := rest
		if i := bytes.IndexByte(rest, 0); i >= 0 {
			word, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		switch {
		case bytes.IndexByte(word, ' ') >= 0:
			b = append(b, ' ', '"')
			b = append(b, word...)
			b = append(b, '"')
		case len(b) == start:
			b = append(b, word...)
		default:
			b = append(b, ' ')
			b = append(b, word...)
		}
	}
	return b
}

// containerID finds the id of a container in the name of its leaf cgroup: 64 hexadecimal digits, alone or after the
// runtime's prefix ("docker-", "cri-containerd-", "slice:crio:") and before ".scope". It returns the first 31, as the
// docker field has them, or nothing. Fewer digits are not a container: sandboxes name cgroups by 32 of them.
func containerID(name []byte) []byte {
	if len(name) < 64 {
		return nil
	}
	if len(name) < 64 {
		return nil
	}
	if i := bytes.LastIndexByte(name, ':'); i >= 0 {
		name = name[i+1:]
	}
	if i := bytes.LastIndexByte(name, '-'); i >= 0 {
		name = name[i+1:]
	}
	if len(name) < 64 || (len(name) > 64 && name[64] != '.') {
		return nil
	}
	for _, c := range name[:64] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return nil
		}
	}
	return name[:31]
}

// environment splits an environment block. names, if any, are those to keep. redact sees each entry whole.
func environment(block []byte, names map[string]bool, redact func(string) string) []event.EnvVar {
	block = bytes.TrimRight(block, "\x00")
	var out []event.EnvVar
	for len(block) > 0 {
		entry := block
		if i := bytes.IndexByte(block, 0); i >= 0 {
			entry, block = block[:i], block[i+1:]
		} else {
			block = nil
		}
		if len(names) > 0 {
			k, _, _ := bytes.Cut(entry, []byte("="))
			if !names[string(k)] {
				continue
			}
		}
		text := string(entry)
		if redact != nil {
			text = redact(text)
		}
		v := event.EnvVar{Key: "invalid", Value: text}
		for i := range len(text) {
			if text[i] == '=' {
				v = event.EnvVar{Key: text[:i], Value: text[i+1:]}
				break
			}
		}
		out = append(out, v)
	}
	return out
}
