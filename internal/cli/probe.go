// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tetragon/internal/kernel"
)

// probeCommand tells in upstream's words and form what "tetra doctor" explains.
func (a *app) probeCommand() *cobra.Command {
	var btf string
	cmd := &cobra.Command{
		Use: "probe", Short: "Tell what this kernel can do, a name and true or false on each line",
		Long: `Tries out what this kernel can do and prints a name and true or false on each line, for scripts. "tetra doctor" says why
something is not there, and what to do.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := kernel.Read(kernel.Options{BTF: btf})
			if err != nil {
				return hint(err, "without rights, \"tetra probe config\" tells what the kernel was built with")
			}
			for _, p := range f.Probes() {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %t\n", p.Name, p.Has); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&btf, "btf", "", "file with the types of the kernel")
	cmd.AddCommand(&cobra.Command{
		Use: "config", Short: "Tell what of importance the kernel was built with", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var u unix.Utsname
			if err := unix.Uname(&u); err != nil {
				return fmt.Errorf("ask the kernel for its release: %w", err)
			}
			conf, from, err := kernel.BuildConfig(unix.ByteSliceToString(u.Release[:]))
			if err != nil {
				return err
			}
			a.debugf("read %s", from)
			for _, name := range kernel.ConfigOptions {
				v, ok := conf[name]
				if !ok {
					v = "n"
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s:%s\n", name, v); err != nil {
					return err
				}
			}
			return nil
		},
	})
	return cmd
}
