// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"tetragon/api/v1/tetragon"
)

func (a *app) versionCommand() *cobra.Command {
	var server, build bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program, and of the agent",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if _, err := fmt.Fprintf(out, "CLI version: %s\n", a.opts.Version); err != nil {
				return err
			}
			if build {
				if _, err := fmt.Fprint(out, buildText()); err != nil {
					return err
				}
			}
			if !server {
				return nil
			}
			return a.unary(cmd.Context(), func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
				v, err := c.GetVersion(ctx, &tetragon.GetVersionRequest{})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(out, "Server version: %s\n", printable(v.GetVersion()))
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&server, "server", "s", false, "ask the agent for its version as well")
	cmd.Flags().BoolVarP(&build, "build", "b", false, "tell how this program was built")
	return cmd
}

// buildText says what the Go tool noted in the binary.
func buildText() string {
	vcs := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			vcs[s.Key] = s.Value
		}
	}
	state := ""
	switch vcs["vcs.modified"] {
	case "true":
		state = "dirty"
	case "false":
		state = "clean"
	}
	return fmt.Sprintf("GoVersion: %s\nDate: %s\nGitCommit: %s\nGitTreeState: %s\n",
		runtime.Version(), vcs["vcs.time"], vcs["vcs.revision"], state)
}
