// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tetragon/api/v1/tetragon"
)

// perPart is how long one part of the archive may take.
const perPart = 5 * time.Second

func (a *app) bugtoolCommand() *cobra.Command {
	var out, bpftool string
	cmd := &cobra.Command{
		Use:   "bugtool",
		Short: "Collect what helps to find a fault into one archive, without secrets",
		Long: `Collects into a tar archive what helps to find a fault: what the agent says of itself, its process table and policies,
metrics, memory, and what this kernel can do. Command lines, environments, working directories and events are left out,
and so are filters and redaction patterns of the configuration. A part that cannot be had is named in the archive's log.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := &bugtool{app: a, top: "tetragon-bugtool-" + time.Now().UTC().Format("20060102150405"), bpftool: bpftool}
			text, err := b.collect(cmd.Context())
			if err != nil {
				return err
			}
			if err := writeWhole(out, text); err != nil {
				return fmt.Errorf("write the archive: %w; --out names another file", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d parts, %d could not be had; read it before you give it away\n", out, b.parts, b.failed)
			return err
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "tetragon-bugtool.tar.gz", "file to write")
	cmd.Flags().StringVar(&bpftool, "bpftool", "bpftool", "program that lists programs and maps")
	return cmd
}

// writeWhole writes a file that only its owner can read, at once or not at all.
func writeWhole(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".bugtool") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// bugtool is an archive in the making.
type bugtool struct {
	app     *app
	top     string
	bpftool string

	text   bytes.Buffer
	zip    *gzip.Writer
	tar    *tar.Writer
	log    bytes.Buffer
	parts  int
	failed int
}

func (b *bugtool) collect(ctx context.Context) ([]byte, error) {
	b.zip = gzip.NewWriter(&b.text)
	b.tar = tar.NewWriter(b.zip)
	for _, p := range b.list() {
		fmt.Fprintf(b.app.opts.Err, "collecting %s\n", p.name)
		c, cancel := context.WithTimeout(ctx, perPart)
		text, err := p.get(c)
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			b.failed++
			fmt.Fprintf(&b.log, "%s: %s\n", p.name, printable(err.Error()))
			continue
		}
		if err := b.add(p.name, text); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(&b.log, "%d parts, %d could not be had; command lines, environments, working directories, events, filters left out\n", b.parts, b.failed)
	err := b.add("tetragon-bugtool.log", b.log.Bytes())
	err = errors.Join(err, b.tar.Close(), b.zip.Close())
	return b.text.Bytes(), err
}

func (b *bugtool) add(name string, text []byte) error {
	b.parts++
	h := &tar.Header{Name: b.top + "/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: time.Now(), Typeflag: tar.TypeReg}
	if err := b.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := b.tar.Write(text)
	return err
}

// part is one file of the archive.
type part struct {
	name string
	get  func(context.Context) ([]byte, error)
}

// list is all that is collected, in order.
func (b *bugtool) list() []part {
	a := b.app
	parts := []part{
		{"tetragon-info.json", readPart(filepath.Join(a.opts.RunDir, "tetragon-info.json"))},
		{"version.txt", func(context.Context) ([]byte, error) {
			return []byte("CLI version: " + a.opts.Version + "\n" + buildText()), nil
		}},
		{"status.txt", b.ask(func(ctx context.Context, c tetragon.FineGuidanceSensorsClient, w *bytes.Buffer) error {
			h, err := c.GetHealth(ctx, &tetragon.GetHealthStatusRequest{})
			if err != nil {
				return err
			}
			return writeStatus(w, h)
		})},
		{"info.json", b.ask(func(ctx context.Context, c tetragon.FineGuidanceSensorsClient, w *bytes.Buffer) error {
			m, err := c.GetInfo(ctx, &tetragon.GetInfoRequest{})
			if err != nil {
				return err
			}
			text, err := infoJSON(m, true)
			w.Write(text)
			return err
		})},
		{"tracing-policies.json", b.ask(func(ctx context.Context, c tetragon.FineGuidanceSensorsClient, w *bytes.Buffer) error {
			m, err := c.ListTracingPolicies(ctx, &tetragon.ListTracingPoliciesRequest{})
			if err != nil {
				return err
			}
			line, err := messageLine(m)
			w.Write(line)
			return err
		})},
		{"processcache.json", b.ask(func(ctx context.Context, c tetragon.FineGuidanceSensorsClient, w *bytes.Buffer) error {
			list, err := dumpProcesses(ctx, c, &tetragon.DumpProcessCacheReqArgs{})
			if err != nil {
				return err
			}
			for _, p := range list {
				withoutSecrets(p.GetProcess())
				line, err := messageLine(p)
				if err != nil {
					return err
				}
				w.Write(line)
			}
			return nil
		})},
		{"metrics", func(ctx context.Context) ([]byte, error) {
			info, err := a.agentInfo()
			if err != nil {
				return nil, err
			}
			if info.MetricsAddress == "" {
				return nil, errors.New("the agent serves no metrics")
			}
			text, err := fetchMetrics(ctx, info.MetricsAddress)
			return []byte(text), err
		}},
		{"doctor.txt", func(ctx context.Context) ([]byte, error) {
			var w bytes.Buffer
			err := writeFindings(&w, append(append(examineKernel(""), examineMounts()...), a.examineAgent(ctx)...))
			return w.Bytes(), err
		}},
		{"export-files.txt", func(context.Context) ([]byte, error) { return b.exports() }},
		{"os-release", readPart("/etc/os-release")},
		{"kernel.txt", readPart("/proc/version")},
		{"meminfo", readPart("/proc/meminfo")},
		{"cpus", readPart("/sys/devices/system/cpu/possible")},
		{"lockdown", readPart("/sys/kernel/security/lockdown")},
	}
	for _, name := range []string{"status", "limits", "smaps_rollup", "cgroup", "schedstat"} {
		parts = append(parts, part{"agent/" + name, b.ofAgent(name)})
	}
	for _, what := range []string{"prog", "map", "link", "cgroup tree"} {
		parts = append(parts, part{"bpftool-" + strings.ReplaceAll(what, " ", "-") + ".json", b.run(what)})
	}
	return parts
}

// withoutSecrets takes out what a person typed or a program was given.
func withoutSecrets(p *tetragon.Process) {
	if p != nil {
		p.Arguments, p.Cwd, p.EnvironmentVariables = "", "", nil
	}
}

func readPart(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return os.ReadFile(path) }
}

func (b *bugtool) ask(do func(context.Context, tetragon.FineGuidanceSensorsClient, *bytes.Buffer) error) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		var w bytes.Buffer
		quick := *b.app
		quick.retries = 0
		err := quick.unary(ctx, func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
			w.Reset()
			return do(ctx, c, &w)
		})
		return w.Bytes(), err
	}
}

func (b *bugtool) ofAgent(name string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		info, err := b.app.agentInfo()
		if err != nil {
			return nil, err
		}
		return os.ReadFile(filepath.Join("/proc", strconv.Itoa(info.Pid), name))
	}
}

// exports lists the export file and its backups: how large, how old, not what is in them.
func (b *bugtool) exports() ([]byte, error) {
	info, err := b.app.agentInfo()
	if err != nil {
		return nil, err
	}
	if info.ExportFilename == "" {
		return nil, errors.New("the agent exports to no file")
	}
	ext := filepath.Ext(info.ExportFilename)
	stem := strings.TrimSuffix(filepath.Base(info.ExportFilename), ext)
	entries, err := os.ReadDir(filepath.Dir(info.ExportFilename))
	if err != nil {
		return nil, err
	}
	var w bytes.Buffer
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), stem) {
			continue
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&w, "%s %12d %s %s\n", st.Mode(), st.Size(), st.ModTime().UTC().Format(time.RFC3339), e.Name())
	}
	return w.Bytes(), nil
}

func (b *bugtool) run(what string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		args := append([]string{"-j"}, strings.Fields(what)...)
		if len(args) == 2 {
			args = append(args, "show")
		}
		text, err := exec.CommandContext(ctx, b.bpftool, args...).Output()
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			return nil, fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return text, err
	}
}
