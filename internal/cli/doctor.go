// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/kernel"
)

// finding is what the doctor says of one thing.
type finding struct {
	What  string `json:"what"`
	State string `json:"state"` // ok, limited or broken
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

const (
	stateOK      = "ok"
	stateLimited = "limited"
	stateBroken  = "broken"
)

func (a *app) doctorCommand() *cobra.Command {
	var output, btf string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what works on this machine and what does not, why, and what to do",
		Long: `Looks at what the agent needs and can use on this machine, by trying it out: rights, types of the kernel, ways to run
programs, mounts. Then asks the agent, if it runs, what it lacks and what it lost. Fails if the agent cannot work here.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fs := append(examineKernel(btf), examineMounts()...)
			fs = append(fs, a.examineAgent(cmd.Context())...)
			switch output {
			case "text":
				if err := writeFindings(cmd.OutOrStdout(), fs); err != nil {
					return err
				}
			case "json":
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(fs); err != nil {
					return err
				}
			default:
				return fmt.Errorf("--output: %q is not text or json", output)
			}
			for _, f := range fs {
				if f.State == stateBroken {
					return errors.New("the agent cannot work on this machine as it is")
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&btf, "btf", "", "file with the types of the kernel")
	return cmd
}

// uses says what each way of running programs is for, and what helps where it is missing.
var uses = map[kernel.Feature]struct{ what, hint string }{
	kernel.Fentry:      {"the cheapest way to hook a function", "kprobes are used instead, where there are any; CONFIG_FUNCTION_TRACER and CONFIG_DYNAMIC_FTRACE bring it"},
	kernel.Kprobe:      {"hooks on any function, also in its middle", "equivalents are used (system calls, tracepoints, cgroup programs); \"tetra policy explain\" says which; CONFIG_KPROBES brings it"},
	kernel.KprobeMulti: {"hooks on many functions at once", "one program for each function is attached instead, which takes longer; CONFIG_FPROBE brings it"},
	kernel.Tracepoint:  {"policies on tracepoints", "mount -t tracefs nodev /sys/kernel/tracing"},
	kernel.Modules:     {"policies on loadable modules, and on functions in them", "CONFIG_MODULES brings it"},
	kernel.WriteUser:   {"Set: arguments of static probes are changed", "policies with Set are refused; an unlocked kernel with CONFIG_KPROBES brings it (lockdown=none)"},
	kernel.ImaHash:     {"imaHash, and Digest and NotDigest by the bytes of files", "policies with them are refused; CONFIG_IMA brings it"},
	kernel.LsmSleep:    {"denying by the digest of a file", "policies with that are refused; boot 6.2 or later, or a stable 6.1 of 2023 or later"},
	kernel.Verity:      {"Digest and NotDigest by fs-verity", "policies with such digests are refused; 6.8 or later with CONFIG_FS_VERITY brings it"},
	kernel.Cgroup2:     {"hooks on connections where the kernel has no kprobes", "mount -t cgroup2 none /sys/fs/cgroup/unified"},
}

func examineKernel(btf string) []finding {
	f, err := kernel.Read(kernel.Options{BTF: btf})
	if err != nil {
		return []finding{{"kernel", stateBroken, err.Error(), ""}}
	}
	fs := []finding{{"kernel", stateOK, fmt.Sprintf("%s, %d CPUs, with type information; programs may be loaded", f.Release, f.CPUs), ""}}
	for _, name := range []string{"sched_process_fork", "sched_process_exec", "sched_process_exit"} {
		if !f.HasTracepoint(name) {
			fs = append(fs, finding{"processes", stateBroken, "the kernel has no tracepoint " + name + " with type information",
				"boot 5.17 or later with CONFIG_DEBUG_INFO_BTF=y"})
		}
	}
	for _, x := range kernel.AllFeatures {
		use := uses[x]
		if why := f.Lacks(x); why != "" {
			fs = append(fs, finding{string(x), stateLimited, join(why, use.what), use.hint})
			continue
		}
		fs = append(fs, finding{string(x), stateOK, use.what, ""})
	}
	for _, m := range f.Missing {
		fs = append(fs, finding{"kernel", stateLimited, m, ""})
	}
	if mode, locked := lockdown(); locked {
		fs = append(fs, finding{"lockdown", stateBroken, "the kernel is locked down (" + mode + "): programs may not read its memory",
			"boot with lockdown=integrity or without it"})
	}
	return fs
}

// join says why something is not there, and what it is for.
func join(why, what string) string {
	if what == "" {
		return why
	}
	return why + "; it is for " + what
}

// lockdown says whether the kernel denies what we read.
func lockdown() (mode string, locked bool) {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return "", false
	}
	_, rest, ok := strings.Cut(string(b), "[")
	mode, _, _ = strings.Cut(rest, "]")
	return mode, ok && mode == "confidentiality"
}

func examineMounts() []finding {
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return []finding{{"procfs", stateBroken, "read /proc/mounts: " + err.Error(), "mount -t proc proc /proc"}}
	}
	types := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && types[f[2]] == "" {
			types[f[2]] = f[1]
		}
	}
	fs := []finding{{"procfs", stateOK, "mounted at " + types["proc"], ""}}
	if at := types["bpf"]; at != "" {
		fs = append(fs, finding{"bpffs", stateOK, "mounted at " + at, ""})
	} else {
		fs = append(fs, finding{"bpffs", stateLimited, "not mounted: nothing can outlive the agent", "mount -t bpf bpf /sys/fs/bpf"})
	}
	return fs
}

// examineAgent asks the agent. That it does not run says nothing against the machine.
func (a *app) examineAgent(ctx context.Context) []finding {
	var h *tetragon.GetHealthStatusResponse
	quick := *a
	quick.retries = 0
	err := quick.unary(ctx, func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
		var err error
		h, err = c.GetHealth(ctx, &tetragon.GetHealthStatusRequest{})
		return err
	})
	if err != nil {
		f := finding{"agent", stateLimited, err.Error(), ""}
		var he *hintError
		if errors.As(err, &he) {
			f.Hint = he.hint
		}
		return []finding{f}
	}
	fs := []finding{{"agent", stateOK, "answers at " + a.target(), ""}}
	for _, n := range h.GetNotes() {
		fs = append(fs, finding{"agent", stateLimited, n, ""})
	}
	for _, b := range h.GetBalance() {
		for _, d := range b.GetDropped() {
			if d.GetCount() > 0 && lossy(d.GetReason()) {
				fs = append(fs, finding{"events", stateLimited, fmt.Sprintf("%d were lost at stage %s (%s)", d.GetCount(), b.GetStage(), d.GetReason()),
					lossHint(d.GetReason())})
			}
		}
	}
	return fs
}

// lossy says whether a reason for a drop is one that nobody asked for.
func lossy(reason string) bool {
	return strings.HasPrefix(reason, "ring_full") || reason == "queue_full" || reason == "write_error" || reason == "bad_record"
}

func lossHint(reason string) string {
	switch {
	case strings.HasPrefix(reason, "ring_full"):
		return "a larger ring: --rb-size-total"
	case reason == "queue_full":
		return "the reader is too slow: filter more, or --event-queue-size for gRPC"
	case reason == "write_error":
		return "the log of the agent says what the file system answered"
	}
	return "please report this"
}

func writeFindings(out io.Writer, fs []finding) error {
	w := bufio.NewWriter(out)
	for _, f := range fs {
		fmt.Fprintf(w, "%-8s %-13s %s\n", f.State, f.What, printable(f.Text))
		if f.Hint != "" {
			fmt.Fprintf(w, "%-8s %-13s -> %s\n", "", "", printable(f.Hint))
		}
	}
	return w.Flush()
}
