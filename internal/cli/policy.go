// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tetragon/internal/elf"
	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/lint"
	"tetragon/internal/policy/parse"
	"tetragon/internal/policy/plan"
	"tetragon/internal/policy/simulate"
	"tetragon/policies"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check, explain and try out policies, without an agent",
		Long: `Works on policies in files, without an agent. A FILE that is not there, but is the name of a ready-made policy, stands for
that one.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.policyCheck(), a.policyLint(), a.policyExplain(), a.policySimulate(), a.policyRecordKernel(), a.policyReadyMade())
	return cmd
}

// target is the kernel that a policy is compiled for.
type targetKernel struct {
	recorded string
	btf      string
	missing  bool
}

func (t *targetKernel) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.recorded, "kernel", "", "facts of a kernel, as record-kernel saves them (default: this kernel)")
	f.StringVar(&t.btf, "btf", "", "file with the types of this kernel")
	f.BoolVar(&t.missing, "allow-missing-hooks", false, "accept hooks that the kernel cannot have, as the agent's flag of this name does")
}

func (t *targetKernel) facts() (compile.Facts, error) {
	if t.recorded != "" {
		return kernel.OpenRecorded(t.recorded)
	}
	f, err := kernel.Read(kernel.Options{BTF: t.btf})
	if err != nil {
		return nil, hint(fmt.Errorf("ask this kernel: %w", err), "--kernel FILE names a kernel that was recorded")
	}
	return f, nil
}

// readPolicy reads a file, or a ready-made policy.
func readPolicy(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && slices.Contains(policies.Names(), name) {
		return policies.Text(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return text, nil
}

// compilePolicy takes one file through both steps. A nil f stands for no kernel: the text alone is looked at.
func (t *targetKernel) compilePolicy(name string, f compile.Facts) (*policy.Policy, *plan.Plan, *policy.Diagnostics, error) {
	text, err := readPolicy(name)
	if err != nil {
		return nil, nil, nil, err
	}
	p, d := parse.YAML(name, text, parse.Options{Getenv: os.LookupEnv})
	whole := p
	if p == nil {
		p = d.Sound
	}
	if p == nil || f == nil {
		return whole, nil, d, nil
	}
	pl, more := compile.Compile(p, f, compile.Options{AllowMissing: t.missing, Open: elf.Open, OpenTypes: compile.OpenTypes})
	d.Add(more)
	if whole == nil {
		pl = nil
	}
	return whole, pl, d, nil
}

// writeDiagnostics prints them, each on its lines.
func writeDiagnostics(w io.Writer, p painter, d *policy.Diagnostics) error {
	var b strings.Builder
	for _, l := range strings.Split(strings.TrimSuffix(d.String(), "\n"), "\n") {
		if l != "" {
			b.WriteString(p.line(l) + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) policyCheck() *cobra.Command {
	var t targetKernel
	var color string
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Tell every mistake in policies, for this kernel or a recorded one",
		Long: `Reads and compiles policies as the agent would, and tells everything that is wrong or odd with them. Exit code 1 if there are
mistakes. Variables, as ${NAME}, come from the environment. Without --kernel this kernel is asked, for which this command must be
root; otherwise only the text is looked at, and that is said.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkColor(color); err != nil {
				return err
			}
			f, err := t.facts()
			if err != nil {
				if t.recorded != "" {
					return err
				}
				fmt.Fprintf(a.opts.Err, "Note: only the text is checked, against no kernel: %s; --kernel FILE names a recorded one\n", printable(err.Error()))
				f = nil
			}
			out := cmd.OutOrStdout()
			bad := 0
			for _, name := range args {
				p, pl, d, err := t.compilePolicy(name, f)
				if err != nil {
					return err
				}
				if err := writeDiagnostics(out, a.newPainter(out, color), d); err != nil {
					return err
				}
				if d.Bad() {
					bad++
					continue
				}
				if _, err := fmt.Fprintf(out, "%s: %s\n", printable(name), verdict(p, pl)); err != nil {
					return err
				}
			}
			switch {
			case bad > 0 && len(args) == 1:
				return fmt.Errorf("policy %s has mistakes", args[0])
			case bad > 0:
				return fmt.Errorf("%d of %d policies have mistakes", bad, len(args))
			}
			return nil
		},
	}
	t.register(cmd)
	cmd.Flags().StringVar(&color, "color", "auto", "colours: auto, always or never")
	return cmd
}

func (a *app) policyLint() *cobra.Command {
	var t targetKernel
	var color string
	var strict bool
	cmd := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Tell what is legal in policies and probably not meant",
		Long: `Compiles policies for this kernel, or for a recorded one, and tells what costs much, what sees less than one may think, and what
can be evaded. Each finding has a code; docs/lint.md says why it matters. Exit code 1 if a policy has mistakes, and with --strict
also if there is a finding.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkColor(color); err != nil {
				return err
			}
			f, err := t.facts()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			found, bad := 0, 0
			for _, name := range args {
				p, pl, d, err := t.compilePolicy(name, f)
				if err != nil {
					return err
				}
				if d.Bad() {
					bad++
				} else {
					d = lint.Check(p, pl)
					found += len(d.List)
				}
				if err := writeDiagnostics(out, a.newPainter(out, color), d); err != nil {
					return err
				}
				if len(d.List) == 0 {
					if _, err := fmt.Fprintf(out, "%s: nothing to tell\n", printable(name)); err != nil {
						return err
					}
				}
			}
			switch {
			case bad > 0:
				return fmt.Errorf("%d of %d policies have mistakes", bad, len(args))
			case strict && found > 0:
				return fmt.Errorf("there are findings: %d", found)
			}
			return nil
		},
	}
	t.register(cmd)
	cmd.Flags().StringVar(&color, "color", "auto", "colours: auto, always or never")
	cmd.Flags().BoolVar(&strict, "strict", false, "a finding makes the exit code 1")
	return cmd
}

// verdict says in a line what a good policy comes to.
func verdict(p *policy.Policy, pl *plan.Plan) string {
	if pl == nil {
		return fmt.Sprintf("policy %s reads well", printable(p.Name))
	}
	on, equivalent := 0, 0
	for i := range pl.Hooks {
		if pl.Hooks[i].Inactive != "" {
			continue
		}
		on++
		if pl.Hooks[i].Attach.Backend.Equivalent() {
			equivalent++
		}
	}
	s := fmt.Sprintf("policy %s is good for kernel %s: %d of %d hooks", printable(p.Name), printable(pl.Kernel), on, len(pl.Hooks))
	if equivalent > 0 {
		s += fmt.Sprintf(", %d by equivalents", equivalent)
	}
	if pl.Loader {
		s += ", executable mappings"
	}
	return s
}

func (a *app) policyExplain() *cobra.Command {
	var t targetKernel
	var asPlan bool
	cmd := &cobra.Command{
		Use:   "explain FILE",
		Short: "Tell in words what a policy makes the kernel do",
		Long: `Tells for each hook of a policy where it runs on this kernel, or on a recorded one, and why there; what is read, in which order
is decided, about how many instructions a call costs, and how an equivalent differs from what was asked for.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pl, err := a.planOf(&t, args[0])
			if err != nil {
				return err
			}
			text := pl.Explain()
			if asPlan {
				text = pl.String()
			}
			return writeLines(cmd.OutOrStdout(), text)
		},
	}
	t.register(cmd)
	cmd.Flags().BoolVar(&asPlan, "plan", false, "print the compiled plan instead, a fact a line")
	return cmd
}

// planOf compiles a policy and writes what there is to be said of it; mistakes are an error.
func (a *app) planOf(t *targetKernel, file string) (*plan.Plan, error) {
	f, err := t.facts()
	if err != nil {
		return nil, err
	}
	_, pl, d, err := t.compilePolicy(file, f)
	if err != nil {
		return nil, err
	}
	if err := writeDiagnostics(a.opts.Err, a.newPainter(a.opts.Err, "auto"), d); err != nil {
		return nil, err
	}
	if d.Bad() {
		return nil, fmt.Errorf("policy %s has mistakes", file)
	}
	return pl, nil
}

// writeLines writes a text whose lines may hold anything.
func writeLines(w io.Writer, text string) error {
	var b strings.Builder
	for l := range strings.Lines(text) {
		b.WriteString(printable(strings.TrimSuffix(l, "\n")) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) policySimulate() *cobra.Command {
	var t targetKernel
	var all bool
	cmd := &cobra.Command{
		Use:   "simulate FILE [EVENTS]",
		Short: "Tell what a policy would have done with recorded events",
		Long: `Runs the selectors of a policy over events as the agent exports them, one JSON object a line, from a file or from standard
input, and tells of each event that one of its hooks could have made which selector decides, and what it would have done to the
process. What an event does not tell is taken as unknown. Arguments are told apart by their place in the event.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			pl, err := a.planOf(&t, args[0])
			if err != nil {
				return err
			}
			in := a.opts.In
			if len(args) == 2 {
				file, err := os.Open(args[1])
				if err != nil {
					return fmt.Errorf("read events: %w", err)
				}
				defer file.Close() //nolint:errcheck // only read from
				in = file
			}
			return a.simulate(cmd.OutOrStdout(), pl, in, all)
		},
	}
	t.register(cmd)
	cmd.Flags().BoolVarP(&all, "all", "a", false, "tell why also of events that no selector matches")
	return cmd
}

// simulate judges events line by line.
func (a *app) simulate(out io.Writer, pl *plan.Plan, in io.Reader, all bool) error {
	w := bufio.NewWriter(out)
	s := &lineSource{app: a, command: "simulate", in: bufio.NewReaderSize(in, 64<<10)}
	var posted, matched, unsure, judged, mappings int
	for {
		line, err := s.readLine()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		s.line++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		v, err := simulate.Event(pl, line)
		if err != nil {
			s.skip(err)
			continue
		}
		if v.Loader {
			mappings++
		}
		for i := range v.Hooks {
			h := &v.Hooks[i]
			judged++
			switch {
			case !h.Sure:
				unsure++
			case h.First >= 0:
				matched++
				if h.Posts {
					posted++
				}
			}
			if all || h.First >= 0 || !h.Sure {
				writeVerdict(w, s.line, v.Kind, h, all)
			}
		}
	}
	s.close()
	fmt.Fprintf(w, "%d lines: %d calls of hooks of this policy, %d matched, %d told, %d not sure", s.line, judged, matched, posted, unsure)
	if pl.Loader {
		fmt.Fprintf(w, ", %d executable mappings told", mappings)
	}
	fmt.Fprintln(w)
	return w.Flush()
}

func writeVerdict(w io.Writer, line int, kind string, h *simulate.HookVerdict, all bool) {
	does := "no selector matches"
	if h.First >= 0 {
		r := &h.Rules[h.First]
		does = fmt.Sprintf("selector %d matches", r.Selector)
		if r.Label != "" {
			does = fmt.Sprintf("selector %d (%s) matches", r.Selector, r.Label)
		}
		if h.Posts {
			does += ", told"
		} else {
			does += ", not told"
		}
		switch {
		case h.Does != "" && h.Acts:
			does += ": " + h.Does
		case h.Does != "":
			does += "; in mode enforce, " + h.Does
		}
	}
	if !h.Sure {
		does = "not sure: " + does
	}
	fmt.Fprintf(w, "%d: %s %s: %s\n", line, kind, printable(h.Name), printable(does))
	if all || !h.Sure {
		for i := range h.Rules {
			r := &h.Rules[i]
			for _, f := range r.Filters {
				why := ""
				if f.Why != "" {
					why = ": " + f.Why
				}
				fmt.Fprintf(w, "    selector %d: %s: %s%s\n", r.Selector, printable(f.Text), f.Holds, printable(why))
			}
		}
	}
	for _, n := range h.Notes {
		fmt.Fprintf(w, "    note: %s\n", printable(n))
	}
}

func (a *app) policyRecordKernel() *cobra.Command {
	var btf string
	cmd := &cobra.Command{
		Use:   "record-kernel FILE",
		Short: "Save the facts of this kernel, so that policies can be checked for it elsewhere",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			f, err := kernel.Read(kernel.Options{BTF: btf})
			if err != nil {
				return err
			}
			// Beside its place first, so that a file that is there is whole.
			tmp, err := os.CreateTemp(filepath.Dir(args[0]), ".record-")
			if err != nil {
				return fmt.Errorf("save the facts: %w", err)
			}
			defer func() {
				if err != nil {
					_ = os.Remove(tmp.Name())
				}
			}()
			if err := errors.Join(f.Record(tmp, nil), tmp.Chmod(0o644), tmp.Close()); err != nil {
				return fmt.Errorf("save the facts: %w", err)
			}
			if err := os.Rename(tmp.Name(), args[0]); err != nil {
				return fmt.Errorf("save the facts: %w", err)
			}
			return said(cmd, "kernel %s is recorded in %s", f.Release, printable(args[0]))
		},
	}
	cmd.Flags().StringVar(&btf, "btf", "", "file with the types of this kernel")
	return cmd
}

func (a *app) policyReadyMade() *cobra.Command {
	return &cobra.Command{
		Use:   "ready-made [NAME]",
		Short: "List the policies that come with the agent, or print one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				text, err := policies.Text(args[0])
				if err == nil {
					_, err = cmd.OutOrStdout().Write(text)
				}
				return err
			}
			rows := [][]string{}
			for _, n := range policies.Names() {
				text, err := policies.Text(n)
				if err != nil {
					return err
				}
				p, d := parse.YAML(n, text, parse.Options{Getenv: os.LookupEnv})
				if err := d.Err(); err != nil {
					return err
				}
				rows = append(rows, []string{n, p.Notes["description"]})
			}
			for _, l := range columns(rows) {
				if err := said(cmd, "%s", l); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
