// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/cli"
	"tetragon/internal/config"
	"tetragon/internal/metrics"
	"tetragon/internal/server"
)

// upstreamCommands are the commands of upstream's tetra.
var upstreamCommands = []string{
	"bugtool", "cgtracker", "completion", "cri", "debug dump policyfilter", "debug dump processcache", "debug dump execve", "debug dump errmetrics",
	"debug enable-stats", "debug maps", "debug progs", "eventlog get", "eventlog set", "explain", "getevents", "info", "loglevel get", "loglevel set",
	"policyfilter", "policytest", "probe", "probe config", "rthooks", "sensors", "status", "tracingpolicy add", "tracingpolicy delete",
	"tracingpolicy disable", "tracingpolicy domains", "tracingpolicy enable", "tracingpolicy generate all-syscalls",
	"tracingpolicy generate all-syscalls-list", "tracingpolicy generate empty", "tracingpolicy generate ftrace-list",
	"tracingpolicy generate uprobes", "tracingpolicy generate usdts", "tracingpolicy list", "tracingpolicy modify", "tracingpolicy set-mode", "version",
}

// otherNames are commands that have another name here, or are made by the library, and parts that are refused as unknown.
var otherNames = map[string]string{
	"completion":              "there",
	"debug dump processcache": "there, also as `tetra dump processes`",
	"debug dump policyfilter": "not here: policies for pods are not supported yet",
	"debug dump execve":       "not here: processes live in task storage, which has no table; `tetra dump processes` prints what the agent knows",
	"debug dump errmetrics":   "not here: the kernel side counts what it loses, in `tetra status`",
}

// podAttributes are attributes of filters that look at the pod of a process.
var podAttributes = []string{"namespace", "namespace_regex", "pod_regex", "container_name_regex", "labels", "health_check"}

func coverage() string {
	var b strings.Builder
	b.WriteString("# What is there of upstream, and what is not\n\n" + generated)
	b.WriteString("Made from the tables that the programs run on. What is not there is refused by name, or says why it has no effect.\n")

	b.WriteString("\n## Calls\n\n| Call | Here |\n|---|---|\n")
	var services []protoreflect.ServiceDescriptor
	for _, f := range []protoreflect.FileDescriptor{tetragon.File_tetragon_sensors_proto, tetragon.File_tetragon_eventlogservice_proto} {
		for i := range f.Services().Len() {
			services = append(services, f.Services().Get(i))
		}
	}
	for _, s := range services {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			here := "there"
			if why := server.Refusal(fmt.Sprintf("/%s/%s", s.FullName(), m.Name())); why != "" {
				here = "UNIMPLEMENTED: " + why
			}
			fmt.Fprintf(&b, "| `%s.%s` | %s |\n", s.Name(), m.Name(), cell(here))
		}
	}

	b.WriteString("\n## Attributes of filters\n\n| Attribute | Here |\n|---|---|\n")
	fields := new(tetragon.Filter).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		name, here := string(fields.Get(i).Name()), "there"
		if slices.Contains(podAttributes, name) {
			here = "there; every process is outside of pods, because Kubernetes is not supported yet"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, here)
	}

	b.WriteString("\n## Commands\n\n| Command | Here |\n|---|---|\n")
	have := map[string]cli.Command{}
	for _, c := range cli.Commands() {
		have[c.Path] = c
	}
	for _, name := range upstreamCommands {
		c, ok := have[name]
		here := otherNames[name]
		switch {
		case ok && c.Absent != "":
			here = "not here: " + c.Absent
		case ok:
			here = "there"
		case here == "":
			here = "not here" // the test of this table demands a reason
		}
		fmt.Fprintf(&b, "| `tetra %s` | %s |\n", name, cell(here))
	}

	b.WriteString("\n## Keys of the agent\n\n| Key | Here |\n|---|---|\n")
	for _, k := range config.Keys() {
		here := "there"
		switch {
		case k.NoEffect != "":
			here = "no effect: " + k.NoEffect
		case k.Refused != "":
			here = "not supported: " + k.Refused
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", k.Name, cell(here))
	}

	b.WriteString("\n## Metrics\n\n| Metric | Here |\n|---|---|\n")
	all := metrics.Table()
	slices.SortStableFunc(all, func(a, b metrics.Metric) int { return strings.Compare(a.Name, b.Name) })
	for i := range all {
		m := &all[i]
		here := "there"
		switch {
		case m.Ours:
			here = "there; ours"
		case m.Idle != "":
			here = "always 0, or without series: " + m.Idle
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", m.Name, cell(here))
	}
	return b.String()
}

func commands() string {
	var b strings.Builder
	b.WriteString("# The command line `tetra`\n\n" + generated)
	b.WriteString("What `tetra help` and `tetra man` say too. The flags of `tetra` itself go with every command.\n")
	for _, c := range cli.Commands() {
		if c.Absent != "" {
			continue
		}
		fmt.Fprintf(&b, "\n## `%s`\n\n%s.\n", strings.TrimSpace("tetra "+c.Path), strings.TrimSuffix(c.Short, "."))
		if c.Long != "" {
			fmt.Fprintf(&b, "\n%s\n", c.Long)
		}
		fmt.Fprintf(&b, "\n    %s\n", c.Usage)
		if len(c.Flags) == 0 {
			continue
		}
		b.WriteString("\n| Flag | Type | Default | Meaning |\n|---|---|---|---|\n")
		for _, f := range c.Flags {
			name, def := "`--"+f.Name+"`", ""
			if f.Short != "" {
				name += ", `-" + f.Short + "`"
			}
			if f.Default != "" && f.Default != "[]" && f.Default != "false" {
				def = "`" + f.Default + "`"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, f.Type, def, cell(f.Help))
		}
	}
	return b.String()
}
