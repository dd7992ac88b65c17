// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tetragon/api/v1/tetragon"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tell whether the agent runs, and what became of the events",
		Long: `Tells whether the agent runs. Then one line for each stage on the way of the events: how many it has seen, how many
it passed on, and how many it dropped for which reason.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.unary(cmd.Context(), func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
				h, err := c.GetHealth(ctx, &tetragon.GetHealthStatusRequest{})
				if err != nil {
					return err
				}
				return writeStatus(cmd.OutOrStdout(), h)
			})
		},
	}
}

func writeStatus(out io.Writer, h *tetragon.GetHealthStatusResponse) error {
	w := bufio.NewWriter(out)
	details := "no status available"
	if s := h.GetHealthStatus(); len(s) > 0 {
		details = printable(s[0].GetDetails())
	}
	fmt.Fprintf(w, "Health Status: %s\n", details)
	for _, n := range h.GetNotes() {
		fmt.Fprintf(w, "Note: %s\n", printable(n))
	}
	for _, b := range h.GetBalance() {
		fmt.Fprintf(w, "%-18s seen %d delivered %d", printable(b.GetStage()), b.GetSeen(), b.GetDelivered())
		for _, d := range b.GetDropped() {
			if d.GetCount() > 0 {
				fmt.Fprintf(w, " dropped[%s] %d", printable(d.GetReason()), d.GetCount())
			}
		}
		if b.GetPending() != 0 {
			fmt.Fprintf(w, " pending %d", b.GetPending())
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
