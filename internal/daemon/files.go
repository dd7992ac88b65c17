// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"tetragon/internal/config"
)

// writePid takes the pid file, which a second agent would need as well. The lock on it, not its text, tells whether its
// owner lives, so a file that a killed agent left is no obstacle.
func writePid(path string) (release func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the run directory: %w; name another one with --run-dir", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the pid file: %w; name another directory with --run-dir", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("create pid file %s: another agent, pid %s, seems to be up and running; stop it, or give this one a directory of its own with --run-dir", path, strings.TrimSpace(string(pid)))
		}
		return nil, fmt.Errorf("lock pid file %s: %w", path, err)
	}
	if err := f.Truncate(0); err != nil {
		return nil, fmt.Errorf("write pid file %s: %w", path, err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return nil, fmt.Errorf("write pid file %s: %w", path, err)
	}
	return func() {
		_ = os.Remove(path) // before the lock goes, so that it is ours that is removed
		_ = f.Close()
	}, nil
}

// agentInfo is the info file, which tetra reads; its keys are the wire contract's.
type agentInfo struct {
	ExportFname    string `json:"export_fname"`
	LibDir         string `json:"lib_dir"`
	BTFFname       string `json:"btf_fname"`
	ServerAddress  string `json:"server_address"`
	MetricsAddress string `json:"metrics_address"`
	GopsAddress    string `json:"gops_address"`
	MapDir         string `json:"map_dir"`
	BpftoolPath    string `json:"bpftool_path"`
	GopsPath       string `json:"gops_path"`
	MaxRecvSize    int    `json:"max_recv_size"`
	Pid            int    `json:"pid"`
}

// writeInfo writes the info file at once or not at all, and returns how to remove it.
func writeInfo(cfg *config.Config, address string) (remove func(), err error) {
	path := filepath.Join(cfg.RunDir, "tetragon-info.json")
	b, err := json.Marshal(agentInfo{
		ExportFname: cfg.ExportFilename, LibDir: cfg.BPFLib, BTFFname: cfg.BTF, ServerAddress: address,
		MetricsAddress: cfg.MetricsServer, GopsAddress: cfg.GopsAddress, MapDir: cfg.BPFDir, Pid: os.Getpid(),
	})
	if err != nil {
		return nil, fmt.Errorf("write info file %s: %w", path, err)
	}
	tmp := path + ".new"
	// Executable for its owner: so is upstream's.
	if err := os.WriteFile(tmp, append(b, '\n'), 0o744); err != nil {
		return nil, fmt.Errorf("write info file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, fmt.Errorf("write info file: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}

// newLogger makes the logger that the configuration asks for. It writes to standard output, as upstream's does, unless
// events go there.
func newLogger(cfg *config.Config, level *slog.LevelVar, stdout, stderr io.Writer) (*slog.Logger, func(), error) {
	w := stdout
	if cfg.ExportStdout != "" {
		w = stderr
	}
	closeLog := func() {}
	if cfg.LogFile != "" {
		f, err := os.Create(cfg.LogFile)
		if err != nil {
			return nil, nil, fmt.Errorf("open the log file: %w", err)
		}
		w = io.MultiWriter(w, f)
		closeLog = func() { _ = f.Close() }
	}
	format, times := strings.CutSuffix(cfg.LogFormat, "-ts")
	o := &slog.HandlerOptions{
		Level: level, AddSource: cfg.Level() < slog.LevelInfo,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch {
			case a.Key == slog.TimeKey && !times:
				return slog.Attr{}
			case a.Key == slog.LevelKey:
				a.Value = slog.StringValue(strings.ToLower(a.Value.String()))
			}
			return a
		},
	}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), closeLog, nil
	}
	return slog.New(slog.NewTextHandler(w, o)), closeLog, nil
}

// isTerminal says whether colours may be written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}
