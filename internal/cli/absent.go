// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// absent are commands that upstream has and this program has not, with the reason: what somebody is to be told who types one.
var absent = []struct{ name, why string }{
	{"cri", "container runtimes are not asked yet"},
	{"cgtracker", "cgroups are followed by the kernel's own hierarchy, not by a table that could be shown or changed"},
	{"policyfilter", "policies for pods are not supported yet"},
	{"policytest", "what policies do is tested by \"tetra policy simulate\" and by the scenarios of the source"},
	{"rthooks", "container runtimes are not followed yet"},
	{"sensors", "sensors are deprecated; \"tetra tracingpolicy\" works on policies"},
}

// absentCommands refuse by name.
func absentCommands() []*cobra.Command {
	var out []*cobra.Command
	for _, x := range absent {
		out = append(out, &cobra.Command{
			Use: x.name, Hidden: true, DisableFlagParsing: true, Short: "Not supported: " + x.why,
			RunE: func(*cobra.Command, []string) error { return fmt.Errorf("%s is not supported: %s", x.name, x.why) },
		})
	}
	return out
}
