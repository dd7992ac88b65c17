// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"tetragon/internal/elf"
	"tetragon/internal/kernel"
)

// A made is a policy that this program writes.
type made struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   madeMeta `yaml:"metadata"`
	Spec       madeSpec `yaml:"spec"`
}

type madeMeta struct {
	Name string `yaml:"name"`
}

type madeSpec struct {
	Lists   []madeList `yaml:"lists,omitempty"`
	Kprobes []madeHook `yaml:"kprobes,omitempty"`
	Uprobes []madeHook `yaml:"uprobes,omitempty"`
	Usdts   []madeHook `yaml:"usdts,omitempty"`
}

type madeList struct {
	Name   string   `yaml:"name"`
	Type   string   `yaml:"type,omitempty"`
	Values []string `yaml:"values"`
}

type madeHook struct {
	Call      string         `yaml:"call,omitempty"`
	Syscall   *bool          `yaml:"syscall,omitempty"`
	Path      string         `yaml:"path,omitempty"`
	Symbols   []string       `yaml:"symbols,omitempty"`
	Provider  string         `yaml:"provider,omitempty"`
	Name      string         `yaml:"name,omitempty"`
	Ignore    *madeIgnore    `yaml:"ignore,omitempty"`
	Selectors []madeSelector `yaml:"selectors,omitempty"`
}

type madeIgnore struct {
	CallNotFound bool `yaml:"callNotFound"`
}

type madeSelector struct {
	MatchBinaries []madeBinaries `yaml:"matchBinaries"`
}

type madeBinaries struct {
	Operator string   `yaml:"operator"`
	Values   []string `yaml:"values"`
}

// generator is what the generate commands share.
type generator struct {
	kernel        targetKernel
	binary, regex string // of programs to hook, and of functions
	match         string
}

func (a *app) tpGenerate() *cobra.Command {
	cmd := &cobra.Command{
		Use: "generate", Short: "Print a policy to begin with, made of what is on this machine",
		Long: `Prints a policy that hooks all of something: to be cut down by hand. Hooks on all functions or calls cost much; "tetra policy
lint" tells of which.`,
		Args: knownCommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, x := range []struct {
		name, short string
		flags       func(*generator, *cobra.Command)
		make        func(*generator) (*made, error)
	}{
		{"empty", "A policy without hooks", nil, func(*generator) (*made, error) { return newMade("empty"), nil }},
		{"all-syscalls", "A hook on each system call", kernelFlags, (*generator).calls},
		{"all-syscalls-list", "One hook on a list of all system calls", kernelFlags, (*generator).callList},
		{"ftrace-list", "One hook on a list of the functions that match", ftraceFlags, (*generator).functions},
		{"uprobes", "A hook on all functions of a program", programFlags, (*generator).uprobes},
		{"usdts", "A hook on each static probe of a program", programFlags, (*generator).usdts},
	} {
		g := new(generator)
		sub := &cobra.Command{
			Use: x.name, Short: x.short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				m, err := x.make(g)
				if err != nil {
					return fmt.Errorf("generate a policy: %w", err)
				}
				var b bytes.Buffer
				e := yaml.NewEncoder(&b)
				e.SetIndent(2)
				if err := errors.Join(e.Encode(m), e.Close()); err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(b.Bytes())
				return err
			},
		}
		sub.Flags().StringVarP(&g.match, "match-binary", "m", "", "only what this binary does")
		if x.flags != nil {
			x.flags(g, sub)
		}
		cmd.AddCommand(sub)
	}
	return cmd
}

func kernelFlags(g *generator, cmd *cobra.Command) { g.kernel.register(cmd) }

func ftraceFlags(g *generator, cmd *cobra.Command) {
	kernelFlags(g, cmd)
	cmd.Flags().StringVarP(&g.regex, "regex", "r", "", "functions whose names match; empty: all")
}

func programFlags(g *generator, cmd *cobra.Command) {
	cmd.Flags().StringVarP(&g.binary, "binary", "b", "", "the program")
	_ = cmd.MarkFlagRequired("binary")
}

func newMade(name string) *made {
	return &made{APIVersion: "cilium.io/v1alpha1", Kind: "TracingPolicy", Metadata: madeMeta{Name: name}}
}

// selectors restrict a hook to the binary that was asked for.
func (g *generator) selectors() []madeSelector {
	if g.match == "" {
		return nil
	}
	return []madeSelector{{MatchBinaries: []madeBinaries{{Operator: "In", Values: []string{g.match}}}}}
}

// callNames are the functions that serve the system calls of 64-bit programs.
func (g *generator) callNames() ([]string, error) {
	f, err := g.kernel.facts()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range f.Syscalls("x64") {
		out = append(out, "sys_"+kernel.SymbolOf("x64", c))
	}
	if len(out) == 0 {
		return nil, errors.New("the kernel names no system calls")
	}
	return out, nil
}

func (g *generator) calls() (*made, error) {
	names, err := g.callNames()
	if err != nil {
		return nil, err
	}
	m, yes, ignore := newMade("all-syscalls"), true, &madeIgnore{CallNotFound: true} // no kernel has all
	for _, n := range names {
		m.Spec.Kprobes = append(m.Spec.Kprobes, madeHook{Call: n, Syscall: &yes, Ignore: ignore, Selectors: g.selectors()})
	}
	return m, nil
}

func (g *generator) callList() (*made, error) {
	names, err := g.callNames()
	if err != nil {
		return nil, err
	}
	m, yes, ignore := newMade("all-syscalls-list"), true, &madeIgnore{CallNotFound: true}
	m.Spec.Lists = []madeList{{Name: "syscalls", Type: "syscalls", Values: names}}
	m.Spec.Kprobes = []madeHook{{Call: "list:syscalls", Syscall: &yes, Ignore: ignore, Selectors: g.selectors()}}
	return m, nil
}

func (g *generator) functions() (*made, error) {
	re, err := regexp.Compile(g.regex)
	if err != nil {
		return nil, fmt.Errorf("--regex: %w", err)
	}
	f, err := g.kernel.facts()
	if err != nil {
		return nil, err
	}
	names, err := f.Functions(re)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no function that can be traced matches %q", g.regex)
	}
	m, no := newMade("ftrace-list"), false
	m.Spec.Lists = []madeList{{Name: "functions", Values: names}}
	m.Spec.Kprobes = []madeHook{{Call: "list:functions", Syscall: &no, Selectors: g.selectors()}}
	return m, nil
}

func (g *generator) uprobes() (*made, error) {
	f, err := elf.Open(g.binary)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names := f.Functions()
	if len(names) == 0 {
		return nil, fmt.Errorf("%s names no functions: it is stripped", g.binary)
	}
	m := newMade("uprobes")
	m.Spec.Uprobes = []madeHook{{Path: absolute(g.binary), Symbols: names, Selectors: g.selectors()}}
	return m, nil
}

// absolute is the path as the agent can find it.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func (g *generator) usdts() (*made, error) {
	f, err := elf.Open(g.binary)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, known := newMade("usdts"), map[string]bool{}
	for _, p := range f.Probes() {
		if key := p.Provider + ":" + p.Name; !known[key] { // a probe may be at several places, which are one hook
			known[key] = true
			m.Spec.Usdts = append(m.Spec.Usdts, madeHook{Path: absolute(g.binary), Provider: p.Provider, Name: p.Name, Selectors: g.selectors()})
		}
	}
	if len(m.Spec.Usdts) == 0 {
		return nil, fmt.Errorf("%s has no static probes", g.binary)
	}
	return m, nil
}
