// SPDX-License-Identifier: Apache-2.0

// Package compile turns a policy into a plan for one kernel.
//
// It takes a policy.Policy from policy/parse and facts about a kernel, live or recorded, and gives a plan.Plan, or all
// that is wrong with the policy on that kernel, each with its place in the text.
//
// Not here: reading YAML (policy/parse), programs and maps (sensor), evaluating (policy/simulate). Nothing here touches the
// kernel but through Facts.
//
// A plan that is given out can be loaded as far as anybody can tell without trying; nothing of the policy is left out of it
// without a diagnostic. Safe for concurrent use if the Facts are.
package compile

import (
	"regexp"
	"slices"

	"tetragon/internal/elf"
	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// Facts is what is asked about a kernel. kernel.Facts and kernel.Recorded answer.
type Facts interface {
	KernelRelease() string
	Func(name string) *kernel.Func          // prototype; nil: unknown
	RawTracepoint(name string) *kernel.Func // likewise
	Format(subsystem, event string) (*kernel.Format, error)
	Follow(root, path string) (*kernel.Member, error)
	FollowModule(module, root, path string) (*kernel.Member, error)
	Lacks(kernel.Feature) string // why; empty: it has it
	Traceable(name string) bool
	Functions(pattern *regexp.Regexp) ([]string, error)
	HostNamespace(name string) uint32
	HashAlgorithm() string // of IMA's hashes; empty: not known
	Syscall(abi, name string) (int, bool)
	Syscalls(abi string) []string
}

// Options of the agent that change how policies are compiled.
type Options struct {
	Domain             string // of the policy, which with its name says which it is; empty where it will not be loaded
	DisableKprobeMulti bool
	AllowMissing       bool // a hook that this kernel cannot have is inactive instead of an error
	// Open opens a program that is hooked, so that mistakes are told before it is attached. Nil: there is none to be looked at.
	Open func(path string) (*elf.File, error)
	// OpenTypes reads the file with the types of a program that is hooked. Nil: there is none to be looked at.
	OpenTypes func(path string) (Types, error)
	// MayAsk says whether a policy may have the agent ask a host; port is empty for a lookup of its name. Nil: nobody knows what
	// the agent will be allowed.
	MayAsk func(host, port string) bool
}

// Types are those of a file, which btfPath names.
type Types interface {
	Follow(root, path string) (*kernel.Member, error)
}

// OpenTypes is Options.OpenTypes where files can be looked at.
func OpenTypes(path string) (Types, error) { return kernel.OpenTypes(path) }

// compiler is one policy under compilation. Each pass reads what the passes before it wrote.
type compiler struct {
	pol  *policy.Policy
	f    Facts
	o    Options
	d    *policy.Diagnostics
	opts options
	out  *plan.Plan

	hooks []*hook // from passes expandHooks on
	sets  map[string]int
	types map[string]Types       // those that btfPath names, by path
	files map[string]programFile // programs that are hooked, by path

	forPolicy *plan.Filter // all rules have it: the workloads that the policy is for; nil: it is for all
}

// hook is one hook of the policy on one function.
type hook struct {
	common  *policy.Common
	kprobe  *policy.Kprobe     // nil for tracepoints; of user programs what is alike
	tp      *policy.Tracepoint // nil for others
	lsm     *policy.LsmHook    // nil for others; kprobe is then what stands for it
	user    *userHook          // nil for others
	section string
	index   int
	call    string // function, with the prefix of system calls
	at      policy.Place
	// fromList: of a list of system calls, whatever the hook says
	fromList bool

	selectors []policy.Selector // macros expanded
	access    access
	dead      bool // an error was told, or the call is not there and may be
	plan      plan.Hook
	args      []typed
	data      []typed
	ret       *typed
	tracks    bool
	merged    bool // another hook stands for it
	noReturn  bool // the return value is asked for, but not to be had

	enforcer bool           // a call of the enforcer
	guards   []*kernel.Func // who denies what the hook orders, as it cannot itself
	verdict  plan.Verdict   // what they know the order by

	killInstead bool // Override is not to be had, and the policy says that Sigkill does
}

// passes in their order; each says what it needs of those before.
var passes = []struct {
	name string
	run  func(*compiler)
}{
	{"see which workloads are meant", (*compiler).checkWorkloads},
	{"read options", (*compiler).readOptions},
	{"expand lists: a hook for each function", (*compiler).expandHooks},
	{"expand macros", (*compiler).expandMacros},                           // needs hooks
	{"choose attach points", (*compiler).resolve},                         // needs hooks
	{"see whether anything is left that enforces", (*compiler).checkLeft}, // needs attach points
	{"type arguments", (*compiler).typeArgs},                              // needs how parameters are reached
	{"lower selectors", (*compiler).lowerSelectors},                       // needs types, macros
	{"lower actions", (*compiler).lowerActions},                           // needs rules
	{"hook who denies for others", (*compiler).addGuards},                 // needs complete rules
	{"see who would be meant", (*compiler).checkActors},                   // needs attach points and actions
	{"see whether anybody calls", (*compiler).checkCalls},                 // likewise
	{"drop equivalents that never match", (*compiler).dropHopeless},
	{"merge lists", (*compiler).mergeLists}, // needs complete hooks
	{"collect", (*compiler).collect},
}

// Compile compiles a policy. The plan is nil if there are mistakes; warnings come with a plan.
func Compile(p *policy.Policy, f Facts, o Options) (*plan.Plan, *policy.Diagnostics) {
	c := &compiler{
		pol: p, f: f, o: o, d: &policy.Diagnostics{File: p.File}, sets: make(map[string]int),
		out: &plan.Plan{Policy: p.Name, Namespace: p.Namespace, Kernel: f.KernelRelease(), Loader: p.Loader.Value},
	}
	for _, pass := range passes {
		pass.run(c)
	}
	c.closeFiles()
	c.d.Sort()
	c.dropRepeated()
	if c.d.Bad() {
		return nil, c.d
	}
	return c.out, c.d
}

// dropRepeated keeps one of what was said twice: a hook on a list is looked at once for each function.
func (c *compiler) dropRepeated() {
	type key struct {
		at         policy.Place
		code, text string
	}
	seen := make(map[key]bool)
	c.d.List = slices.DeleteFunc(c.d.List, func(x policy.Diagnostic) bool {
		k := key{x.Place, x.Code, x.Text}
		was := seen[k]
		seen[k] = true
		return was
	})
}

// alive lists the hooks that are still to be compiled.
func (c *compiler) alive() []*hook {
	return slices.DeleteFunc(slices.Clone(c.hooks), func(h *hook) bool { return h.dead })
}

// collect puts the hooks into the plan.
func (c *compiler) collect() {
	c.out.Monitor = c.opts.mode == "monitor"
	for _, h := range c.hooks {
		if h.merged || h.plan.Inactive == "" && h.dead {
			continue
		}
		c.out.Hooks = append(c.out.Hooks, h.plan)
	}
	for s, n := range map[string]int{"kprobes": len(c.pol.Kprobes), "fentries": len(c.pol.Fentries), "tracepoints": len(c.pol.Tracepoints),
		"lsmhooks": len(c.pol.LsmHooks),
		"uprobes":  len(c.pol.Uprobes), "usdts": len(c.pol.Usdts)} {
		if n > 0 {
			c.out.Section = s
		}
	}
}
