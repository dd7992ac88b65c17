// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// agentInfo is what the agent's info file says that we use.
type agentInfo struct {
	ExportFilename string `json:"export_fname"`
	ServerAddress  string `json:"server_address"`
	MetricsAddress string `json:"metrics_address"`
	Pid            int    `json:"pid"`
}

func (a *app) agentInfo() (*agentInfo, error) {
	b, err := os.ReadFile(filepath.Join(a.opts.RunDir, "tetragon-info.json"))
	if err != nil {
		return nil, err
	}
	i := new(agentInfo)
	if err := json.Unmarshal(b, i); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(a.opts.RunDir, "tetragon-info.json"), err)
	}
	return i, nil
}

func (a *app) metricsCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use: "metrics [PREFIX...]", Short: "Print the agent's metrics, or those whose names begin with a prefix",
		Example: "  tetra metrics tetragon_ledger tetragon_policy",
		RunE: func(cmd *cobra.Command, args []string) error {
			if address == "" {
				info, err := a.agentInfo()
				if err != nil {
					return hint(fmt.Errorf("find the agent's metrics: %w", err), "is the agent running? --address names another place")
				}
				if info.MetricsAddress == "" {
					return hint(errors.New("the agent serves no metrics"), "start it with --metrics-server=localhost:2112")
				}
				address = info.MetricsAddress
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
			defer cancel()
			text, err := fetchMetrics(ctx, address)
			if err != nil {
				return err
			}
			return writeMetrics(cmd.OutOrStdout(), text, args)
		},
	}
	cmd.Flags().StringVar(&address, "address", "", "host:port of the metrics server (default: what the agent on this machine says)")
	return cmd
}

// maxMetrics bounds what is taken for metrics.
const maxMetrics = 64 << 20

// fetchMetrics asks for them in HTTP/1.0, in which an answer is what comes until the end. A library for more than that would
// be the largest part of this program.
func fetchMetrics(ctx context.Context, address string) (text string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("read the metrics of %s: %w", address, err)
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return "", fmt.Errorf("read the metrics of %s: %w", address, err)
	}
	defer conn.Close() //nolint:errcheck // read to its end
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d)
	} else {
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n"); err != nil {
		return "", fmt.Errorf("read the metrics of %s: %w", address, err)
	}
	b, err := io.ReadAll(io.LimitReader(conn, maxMetrics))
	if err != nil {
		return "", fmt.Errorf("read the metrics of %s: %w", address, err)
	}
	head, body, ok := strings.Cut(string(b), "\r\n\r\n")
	status, _, _ := strings.Cut(head, "\r\n")
	if !ok || !strings.HasPrefix(status, "HTTP/1.") || !strings.Contains(status, " 200 ") {
		return "", fmt.Errorf("read the metrics of %s: it answers %q", address, status)
	}
	return body, nil
}

// writeMetrics writes those that begin with one of the prefixes, with what is said of them.
func writeMetrics(out io.Writer, text string, prefixes []string) error {
	w := bufio.NewWriter(out)
	for line := range strings.Lines(text) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		wanted := len(prefixes) == 0
		for _, p := range prefixes {
			wanted = wanted || strings.HasPrefix(name, p)
		}
		if wanted {
			if _, err := w.WriteString(printable(strings.TrimSuffix(line, "\n")) + "\n"); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}
