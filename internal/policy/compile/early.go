// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"regexp"
	"strconv"
	"strings"

	"tetragon/internal/policy"
)

// options are the policy's own.
type options struct {
	noMulti       bool
	noUprobeMulti bool
	mode          string // "enforce", "monitor"; empty: as the actions say

	fallback bool   // what cannot be overridden is killed
	method   string // how an enforcer denies; empty: as the kernel allows
}

func (c *compiler) readOptions() {
	for _, o := range c.pol.Options {
		switch o.Name.Value {
		case "disable-kprobe-multi":
			v, err := strconv.ParseBool(o.Value.Value)
			if err != nil {
				c.d.Error(o.Value.Place, "bad-option", "option disable-kprobe-multi is true or false, not %q", o.Value.Value)
			}
			c.opts.noMulti = v
		case optionFallback:
			if o.Value.Value != "sigkill" {
				c.d.Error(o.Value.Place, "bad-option", "option %s is sigkill, not %q", optionFallback, o.Value.Value)
			}
			c.opts.fallback = true
		case "disable-uprobe-multi":
			v, err := strconv.ParseBool(o.Value.Value)
			if err != nil {
				c.d.Error(o.Value.Place, "bad-option", "option disable-uprobe-multi is true or false, not %q", o.Value.Value)
			}
			c.opts.noUprobeMulti = v
			if len(c.pol.Uprobes)+len(c.pol.Usdts) == 0 {
				c.d.Warn(o.Name.Place, "unused-option", "option %s has no effect on the hooks of this policy", o.Name.Value)
			}
		case optionMethod:
			if c.opts.method = o.Value.Value; len(c.pol.Enforcers) == 0 {
				c.d.Warn(o.Name.Place, "unused-option", "option %s is for enforcers; the policy has none", optionMethod)
			}
		case "sleepable-preload-size":
			c.d.Warn(o.Name.Place, "unused-option", "option %s has no effect on the hooks of this policy", o.Name.Value)
		case "policy-mode":
			if o.Value.Value != "enforce" && o.Value.Value != "monitor" {
				c.d.Error(o.Value.Place, "bad-option", "option policy-mode is enforce or monitor, not %q", o.Value.Value)
			}
			c.opts.mode = o.Value.Value
		default: // the parser has refused it
			c.d.Error(o.Name.Place, "unknown-option", "there is no option %q", o.Name.Value)
		}
	}
}

// expandHooks makes a hook for each function that the policy names.
func (c *compiler) expandHooks() {
	for s, ks := range map[string][]policy.Kprobe{"kprobes": c.pol.Kprobes, "fentries": c.pol.Fentries} {
		for i := range ks {
			c.expandCall(s, i, &ks[i])
		}
	}
	for i := range c.pol.LsmHooks {
		l := &c.pol.LsmHooks[i]
		function := securityFunction(l.Hook.Value)
		c.hooks = append(c.hooks, &hook{
			common: &l.Common, lsm: l, section: "lsmhooks", index: i, call: function, at: l.Hook.Place,
			kprobe: &policy.Kprobe{Common: l.Common, Call: policy.Text{Place: l.Hook.Place, Value: function}},
		})
	}
	for i := range c.pol.Tracepoints {
		t := &c.pol.Tracepoints[i]
		c.hooks = append(c.hooks, &hook{common: &t.Common, tp: t, section: "tracepoints", index: i, at: t.Event.Place})
	}
	c.expandEnforcers()
	for i := range c.pol.Uprobes {
		c.expandUprobe(i, &c.pol.Uprobes[i])
	}
	for i := range c.pol.Usdts {
		c.expandUsdt(i, &c.pol.Usdts[i])
	}
}

func (c *compiler) expandCall(section string, i int, k *policy.Kprobe) {
	add := func(call string, fromList bool) {
		c.hooks = append(c.hooks, &hook{common: &k.Common, kprobe: k, section: section, index: i, call: call, at: k.Call.Place, fromList: fromList})
	}
	name, isList := strings.CutPrefix(k.Call.Value, "list:")
	if !isList {
		add(c.symbol(k.Call, k.Call.Value, k.Syscall), false)
		return
	}
	l := c.list(name)
	if l == nil {
		c.d.Error(k.Call.Place, "unknown-list", "there is no list %q", name).WithHint("lists of this policy: %s", strings.Join(c.listNames(), ", "))
		return
	}
	calls, syscalls := c.listCalls(l)
	if !syscalls && k.Syscall.Value && !k.Syscall.Set {
		c.d.Error(k.Place, "list-syscall", "list %q names functions, but syscall is true unless the hook says otherwise", name).
			WithHint("add syscall: false")
		return
	}
	seen := make(map[string]bool)
	for _, call := range calls {
		if !syscalls {
			call = c.symbol(k.Call, call, k.Syscall)
		}
		if seen[call] {
			c.d.Warn(l.Place, "duplicate-call", "list %q has %s twice; it is hooked once", name, call)
			continue
		}
		seen[call] = true
		add(call, syscalls)
	}
}

// prefixX64 is what the symbols of system calls begin with.
const (
	prefixX64  = "__x64_"
	prefixI386 = "__ia32_"
)

// symbol adds the prefix of system calls.
func (c *compiler) symbol(at policy.Text, call string, syscall policy.Bool) string {
	if !syscall.Value || strings.HasPrefix(call, prefixX64) || strings.HasPrefix(call, prefixI386) {
		return call
	}
	if !strings.HasPrefix(call, "sys_") {
		d := c.d.Error(at.Place, "no-syscall", "%s is no system call: its name does not begin with sys_", call)
		if syscall.Set {
			d.WithHint("say syscall: false")
		} else {
			d.WithHint("say syscall: false; syscall is true unless the hook says otherwise")
		}
	}
	return prefixX64 + call
}

func (c *compiler) list(name string) *policy.List {
	for i := range c.pol.Lists {
		if c.pol.Lists[i].Name.Value == name {
			return &c.pol.Lists[i]
		}
	}
	return nil
}

func (c *compiler) listNames() []string {
	var out []string
	for i := range c.pol.Lists {
		out = append(out, c.pol.Lists[i].Name.Value)
	}
	if len(out) == 0 {
		return []string{"none"}
	}
	return out
}

// listCalls gives the functions of a list, and whether they are system calls.
func (c *compiler) listCalls(l *policy.List) (calls []string, syscalls bool) {
	switch l.Type.Value {
	case "syscalls":
		for _, v := range l.Values {
			abi, name, ok := c.syscallName(v)
			if !ok {
				continue
			}
			prefix := prefixX64
			if abi == "i386" {
				prefix = prefixI386
			}
			calls = append(calls, prefix+"sys_"+name)
		}
		return calls, true
	case "generated_syscalls":
		for _, n := range c.f.Syscalls("x64") {
			if c.f.Func(prefixX64+"sys_"+n) != nil {
				calls = append(calls, prefixX64+"sys_"+n)
			}
		}
		return calls, true
	case "generated_ftrace":
		re, err := regexp.Compile(l.Pattern.Value)
		if err != nil {
			c.d.Error(l.Pattern.Place, "bad-pattern", "%q is no regular expression: %v", l.Pattern.Value, err)
			return nil, false
		}
		calls, err = c.f.Functions(re)
		if err != nil {
			c.d.Error(l.Place, "list-empty", "list %q cannot be made: %v", l.Name.Value, err)
		} else if len(calls) == 0 {
			c.d.Error(l.Pattern.Place, "list-empty", "no function of this kernel matches %q", l.Pattern.Value)
		}
		return calls, false
	}
	for _, v := range l.Values {
		calls = append(calls, v.Value)
	}
	return calls, false
}

// syscallName reads "[ABI/]NAME" of a list of system calls; the name comes without "sys_".
func (c *compiler) syscallName(v policy.Text) (abi, name string, ok bool) {
	abi, name, found := strings.Cut(v.Value, "/")
	if !found {
		abi, name = "", v.Value
	}
	of := ""
	for p, a := range map[string]string{prefixX64: "x64", prefixI386: "i386"} {
		if rest, ok := strings.CutPrefix(name, p); ok {
			name, of = rest, a
		}
	}
	switch {
	case abi == "" && of == "":
		abi = "x64"
	case abi == "":
		abi = of
	case of != "" && of != abi:
		c.d.Error(v.Place, "list-abi", "%q names ABI %s and has the prefix of %s", v.Value, abi, of)
		return "", "", false
	}
	short, isSys := strings.CutPrefix(name, "sys_")
	if !isSys {
		c.d.Error(v.Place, "list-name", "%q is no system call: its name does not begin with sys_", v.Value)
		return "", "", false
	}
	if abi != "x64" && abi != "i386" {
		c.d.Error(v.Place, "list-abi", "this machine has no ABI %q", abi).WithHint("x64 or i386")
		return "", "", false
	}
	return abi, short, true
}

// syscallValues gives the numbers of a list of system calls, as syscall64 has them: bit 31 is set for 32-bit ones.
func (c *compiler) syscallValues(l *policy.List) []uint64 {
	var out []uint64
	if l.Type.Value == "generated_syscalls" {
		for _, n := range c.f.Syscalls("x64") {
			if nr, ok := c.f.Syscall("x64", n); ok && c.f.Func(prefixX64+"sys_"+n) != nil {
				out = append(out, uint64(nr))
			}
		}
		return out
	}
	for _, v := range l.Values {
		abi, name, ok := c.syscallName(v)
		if !ok {
			continue
		}
		nr, ok := c.f.Syscall(abi, name)
		if !ok {
			c.d.Error(v.Place, "unknown-syscall", "ABI %s has no system call %s", abi, name)
			continue
		}
		n := uint64(nr)
		if abi == "i386" {
			n |= 1 << 31
		}
		out = append(out, n)
	}
	return out
}

// expandMacros appends to each selector what its macros say.
func (c *compiler) expandMacros() {
	for _, h := range c.hooks {
		for i := range h.common.Selectors {
			s := h.common.Selectors[i]
			for _, m := range s.Macros {
				c.expandMacro(&s, m)
			}
			h.selectors = append(h.selectors, s)
		}
	}
}

func (c *compiler) expandMacro(s *policy.Selector, name policy.Text) {
	var m *policy.Macro
	for i := range c.pol.Macros {
		if c.pol.Macros[i].Name.Value == name.Value {
			m = &c.pol.Macros[i]
		}
	}
	if m == nil {
		c.d.Error(name.Place, "unknown-macro", "there is no macro %q", name.Value).WithHint("macros are defined in spec.selectorsMacros")
		return
	}
	if len(m.Macros) > 0 {
		c.d.Error(m.Place, "nested-macro", "macro %q uses macros itself", name.Value)
		return
	}
	clash := func(what string, a, b int) bool {
		if a > 0 && b > 0 {
			c.d.Error(name.Place, "macro-clash", "macro %q and the selector both have %s", name.Value, what).
				WithHint("leave it in one of them")
		}
		return b > 0
	}
	if clash("matchPIDs", len(s.PIDs), len(m.PIDs)) {
		s.PIDs = m.PIDs
	}
	if clash("matchBinaries", len(s.Binaries), len(m.Binaries)) {
		s.Binaries = m.Binaries
	}
	if clash("matchParentBinaries", len(s.ParentBinaries), len(m.ParentBinaries)) {
		s.ParentBinaries = m.ParentBinaries
	}
	if clash("matchArgs", len(s.Args), len(m.Args)) {
		s.Args = m.Args
	}
	if clash("matchData", len(s.Data), len(m.Data)) {
		s.Data = m.Data
	}
	if clash("matchReturnArgs", len(s.ReturnArgs), len(m.ReturnArgs)) {
		s.ReturnArgs = m.ReturnArgs
	}
	if clash("matchNamespaces", len(s.Namespaces), len(m.Namespaces)) {
		s.Namespaces = m.Namespaces
	}
	if clash("matchNamespaceChanges", len(s.NamespaceChanges), len(m.NamespaceChanges)) {
		s.NamespaceChanges = m.NamespaceChanges
	}
	if clash("matchCapabilities", len(s.Capabilities), len(m.Capabilities)) {
		s.Capabilities = m.Capabilities
	}
	if clash("matchCapabilityChanges", len(s.CapabilityChanges), len(m.CapabilityChanges)) {
		s.CapabilityChanges = m.CapabilityChanges
	}
	if clash("matchActions", len(s.Actions), len(m.Actions)) {
		s.Actions = m.Actions
	}
	if clash("matchReturnActions", len(s.ReturnActions), len(m.ReturnActions)) {
		s.ReturnActions = m.ReturnActions
	}
	if m.Workloads != nil {
		s.Workloads = m.Workloads
	}
	if s.Label.Value == "" {
		s.Label = m.Label
	}
}
