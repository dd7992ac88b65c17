// SPDX-License-Identifier: Apache-2.0

// Package lint tells what is legal in a policy and probably not meant: what costs much, what sees less than its author thinks,
// and what can be evaded.
//
// It stands beside the policy lane: `tetra policy lint` gives it a policy and the plan that policy/compile made of it.
//
// Not here: mistakes (policy/parse, policy/compile), which keep a policy from being loaded.
//
// Every finding is a warning with a code of the table Lints, and none is told twice. Safe for concurrent use.
package lint

import (
	"fmt"
	"slices"
	"strings"

	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// Lint is one thing that is looked for.
type Lint struct {
	Code string
	What string // that is told
	Why  string // it matters
	run  func(*linter)
}

// Lints are all of them, sorted by code. docs/lint.md shows them; each has a case in testdata.
func Lints() []Lint {
	return []Lint{
		{"every-call", "a hook without a filter on a function that runs very often", "each call is an event: the machine slows down and the export overflows", (*linter).everyCall},
		{"hot-hook", "a filter on a function that runs very often looks at something expensive first", "every call of the machine pays for it, also those that nobody wants", (*linter).hotHook},
		{"io-uring", "a system call is hooked that io_uring does without a system call", "a process that uses io_uring does the same unseen", (*linter).ioUring},
		{"late-enforcement", "a process is killed or signalled, and what it does is not denied", "the call under way goes on: the file is open, the packet is sent when the process dies", (*linter).lateEnforcement},
		{"linked-path", "a binary is named below a directory that is a link on most systems", "binaries are known by their real paths: on such a system the name never matches", (*linter).linkedPath},
		{"literal-pid", "matchPIDs names a process id", "ids are used again: later it is another process", (*linter).literalPid},
		{"missing-compat", "a system call is hooked, and not the one of 32-bit callers", "any program can make 32-bit calls (int 0x80)", (*linter).missingCompat},
		{"missing-sibling", "a system call is hooked, and not others that do the same", "who is refused one uses another", (*linter).missingSibling},
		{"never-matches", "the filters of a selector contradict each other", "its actions never run", (*linter).neverMatches},
		{"nopost-last", "a selector orders NoPost and nothing else, and none comes behind it", "what matches no selector is not told anyway; an exclusion stands before what it excludes from", (*linter).noPostLast},
		{"rate-limit", "a rate limit counts by thread or process where each call has another one", "it limits nothing", (*linter).rateLimit},
		{"shadowed", "all that a selector matches an earlier one matches too", "of a call the first selector that matches decides: this one never does", (*linter).shadowed},
		{"spoofable-name", "a filter is on the name of a process (comm)", "every process names itself as it likes (prctl); matchBinaries is what the kernel says", (*linter).spoofableName},
		{"user-memory", "a filter is on what a system call points to in the process's memory", "another thread can change it between this look and the kernel's", (*linter).userMemory},
	}
}

// Check tells everything there is to tell. pl is what p compiles to.
func Check(p *policy.Policy, pl *plan.Plan) *policy.Diagnostics {
	l := &linter{p: p, pl: pl, d: &policy.Diagnostics{File: p.File}}
	for _, x := range Lints() {
		l.code = x.Code
		x.run(l)
	}
	l.d.Sort()
	return l.d
}

type linter struct {
	p    *policy.Policy
	pl   *plan.Plan
	d    *policy.Diagnostics
	code string // of the lint that runs
}

// warn tells something once: a hook on a list is many.
func (l *linter) warn(at policy.Place, format string, args ...any) *policy.Diagnostic {
	text := fmt.Sprintf(format, args...)
	for i := range l.d.List {
		if x := &l.d.List[i]; x.Place == at && x.Code == l.code && x.Text == text {
			return &policy.Diagnostic{} // a hint to it goes nowhere
		}
	}
	return l.d.Warn(at, l.code, "%s", text)
}

// common is what a hook of the plan is in the policy.
func (l *linter) common(h *plan.Hook) *policy.Common {
	var all []*policy.Common
	switch h.Section {
	case "kprobes":
		for i := range l.p.Kprobes {
			all = append(all, &l.p.Kprobes[i].Common)
		}
	case "fentries":
		for i := range l.p.Fentries {
			all = append(all, &l.p.Fentries[i].Common)
		}
	case "tracepoints":
		for i := range l.p.Tracepoints {
			all = append(all, &l.p.Tracepoints[i].Common)
		}
	case "lsmhooks":
		for i := range l.p.LsmHooks {
			all = append(all, &l.p.LsmHooks[i].Common)
		}
	case "uprobes":
		for i := range l.p.Uprobes {
			all = append(all, &l.p.Uprobes[i].Common)
		}
	case "usdts":
		for i := range l.p.Usdts {
			all = append(all, &l.p.Usdts[i].Common)
		}
	}
	if h.Index < len(all) {
		return all[h.Index]
	}
	return &policy.Common{Place: l.p.Place}
}

// at is where a rule stands in the policy: its selector, or the hook.
func (l *linter) at(h *plan.Hook, rule int) policy.Place {
	c := l.common(h)
	if s := h.Rules[rule].Selector; s < len(c.Selectors) {
		return c.Selectors[s].Place
	}
	return c.Place
}

// hooks are those that run.
func (l *linter) hooks(f func(h *plan.Hook)) {
	for i := range l.pl.Hooks {
		if h := &l.pl.Hooks[i]; h.Inactive == "" && h.Guards == "" && h.Section != "enforcers" {
			f(h)
		}
	}
}

// selectors are all of the policy, those of macros too.
func (l *linter) selectors(f func(s *policy.Selector)) {
	seen := make(map[*policy.Common]bool)
	l.hooks(func(h *plan.Hook) {
		if c := l.common(h); !seen[c] {
			seen[c] = true
			for i := range c.Selectors {
				f(&c.Selectors[i])
			}
		}
	})
	for i := range l.p.Macros {
		f(&l.p.Macros[i].Selector)
	}
}

// call is the system call that a hook is on, empty if it is on none; compat says that it is the 32-bit one.
func call(name string) (call string, compat bool) {
	for prefix, compat := range map[string]bool{"__x64_sys_": false, "__ia32_sys_": true, "__ia32_compat_sys_": true} {
		if c, ok := strings.CutPrefix(name, prefix); ok {
			return c, compat
		}
	}
	if c, ok := strings.CutPrefix(name, "syscalls/sys_enter_"); ok {
		return c, false
	}
	return "", false
}

// calls are the names of the functions of a hook.
func calls(h *plan.Hook) []string {
	if len(h.Names) > 0 {
		return h.Names
	}
	return []string{h.Name}
}

// enforces says whether a selector kills, signals, denies or changes something; denies, whether what is under way does not happen.
func enforces(as []policy.Action) (enforces, denies bool) {
	for i := range as {
		switch as[i].Action.Value {
		case "Sigkill", "Signal":
			enforces = true
		case "Override":
			enforces, denies = true, true
		case "NotifyEnforcer":
			enforces, denies = true, denies || as[i].ArgError.Value != 0
		}
	}
	return enforces, denies
}

func has(list string, word string) bool { return slices.Contains(strings.Fields(list), word) }
