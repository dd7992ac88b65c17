// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// protoFiles are those that events are made of, in the order of the reference.
var protoFiles = []string{"events.proto", "tetragon.proto", "capabilities.proto", "bpf.proto"}

var (
	protoBlock = regexp.MustCompile(`^(message|enum) (\w+) \{\}?$`)
	protoField = regexp.MustCompile(`^((?:repeated )?(?:map<[^>]+>|[\w.]+)) (\w+) = (\d+)(?: \[[^\]]*\])?;`)
	protoValue = regexp.MustCompile(`^(\w+) = (\d+)(?: \[[^\]]*\])?;`)
	protoOneof = regexp.MustCompile(`^oneof (\w+) \{$`)
)

// eventsReference makes tables of the .proto files, whose comments say what each part means. They are written in one way,
// which TestEventsReference holds: a block or a field a line, comments in front.
func eventsReference(dir string) (string, error) {
	var b strings.Builder
	b.WriteString("# Events\n\n" + generated)
	b.WriteString(`What the agent writes, from the comments of ` + "[the .proto files](../../api/v1/tetragon)" + `. In JSON a field has the name that it has
here. One that is empty, 0 or false is left out, but for those of the types UInt32Value, Int32Value and BoolValue, which are there
when they are known. 64-bit numbers are text, times are RFC 3339 in UTC. Fields from number 1000 on are not upstream's.

One line of a file, or message of a stream, is a GetEventsResponse.
`)
	for _, name := range protoFiles {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		var comment []string
		inMessage, oneof := false, ""
		for _, line := range strings.Split(string(text), "\n") {
			line = strings.TrimSpace(line)
			said := cell(strings.Join(comment, " "))
			c, isComment := strings.CutPrefix(line, "//")
			if isComment {
				comment = append(comment, strings.TrimSpace(c))
				continue
			}
			comment = nil
			if m := protoBlock.FindStringSubmatch(line); m != nil {
				inMessage = m[1] == "message"
				fmt.Fprintf(&b, "\n## %s\n", m[2])
				if said != "" {
					fmt.Fprintf(&b, "\n%s\n", said)
				}
				if inMessage {
					b.WriteString("\n| Field | Type | Number | Meaning |\n|---|---|---|---|\n")
				} else {
					b.WriteString("\n| Value | Number | Meaning |\n|---|---|---|\n")
				}
				continue
			}
			switch m := protoOneof.FindStringSubmatch(line); {
			case m != nil:
				oneof = m[1]
				continue
			case line == "}":
				oneof = ""
				continue
			}
			if m := protoField.FindStringSubmatch(line); m != nil && inMessage {
				if oneof != "" {
					said = strings.TrimSpace("One of these. " + said)
				}
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m[2], cell(strings.TrimPrefix(m[1], "google.protobuf.")), m[3], said)
			} else if m := protoValue.FindStringSubmatch(line); m != nil && !inMessage {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m[1], m[2], said)
			}
		}
	}
	return b.String(), nil
}
