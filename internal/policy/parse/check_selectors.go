// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tetragon/internal/nearest"
	"tetragon/internal/policy"
)

// checkSelector checks what holds for a selector wherever it stands.
func (p *parser) checkSelector(s *policy.Selector) {
	for _, ms := range [][]policy.BinaryMatch{s.Binaries, s.ParentBinaries} {
		for i := range ms {
			m := &ms[i]
			if op := strings.TrimPrefix(m.Operator.Value, "Not"); m.FollowChildren.Value && op != "In" && op != "" {
				p.error(m.FollowChildren.Place, "follow-children", "followChildren goes with In and NotIn, not with %s", m.Operator.Value)
			}
			for _, v := range m.Values {
				if v.Value == "" && !p.failed(v.Place) {
					p.error(v.Place, "empty-value", "an empty path is no binary")
				}
			}
		}
	}
	for i := range s.Namespaces {
		for _, v := range s.Namespaces[i].Values {
			if _, err := strconv.ParseUint(v.Value, 0, 32); err != nil && v.Value != "host_ns" && !p.failed(v.Place) {
				p.error(v.Place, "bad-value", "%q is no namespace", clip(v.Value)).WithHint("the number of its inode, or host_ns")
			}
		}
	}
	for _, ms := range [][]policy.ArgMatch{s.Args, s.Data, s.ReturnArgs} {
		for i := range ms {
			p.splitValues(&ms[i])
			p.checkArgMatch(&ms[i])
			p.checkValues(&ms[i])
		}
	}
	if s.Workloads != nil {
		host(p, s.Workloads.HostSelector)
	}
	for _, as := range [][]policy.Action{s.Actions, s.ReturnActions} {
		for i := range as {
			p.checkAction(&as[i])
		}
	}
}

// checkArgMatch checks how many values an operator has, and what it compares.
func (p *parser) checkArgMatch(m *policy.ArgMatch) {
	op := m.Operator.Value
	if op == "" {
		return
	}
	none := strings.HasSuffix(op, "Priv") || op == "CapabilitiesGained"
	switch n := len(m.Values); {
	case none && n > 0:
		p.error(m.Values[0].Place, "unexpected-values", "operator %s has no values", op)
	case !none && n == 0:
		at := m.Place.At(".values")
		if !p.failedWithin(at.Path) {
			p.error(at, "no-values", "operator %s needs values", op)
		}
	case op == "CelExpr" && n > 1:
		p.error(m.Values[1].Place, "unexpected-values", "operator CelExpr has one expression, here are %d", n).WithHint("join them by &&")
	}
	want := 1
	if op == "CapabilitiesGained" {
		want = 2
	}
	switch n := len(m.Args); {
	case n > 0 && n != want || n == 0 && want == 2:
		x := p.error(m.Place.At(".args"), "operator-args", "operator %s compares %d of the arguments, not %d", op, want, max(n, 1))
		if want == 2 {
			x.WithHint("args: [OLD, NEW]")
		} else {
			x.WithHint("make an entry of each")
		}
	case n > 0 && m.Index.Set:
		p.warn(m.Index.Place, "unused-field", "index has no effect: args goes before it").WithHint("leave one of them")
	}
}

// checkHookSelector checks what a selector may have on a hook, that of its macros included.
func (p *parser) checkHookSelector(pol *policy.Policy, h *hook, s *policy.Selector) {
	parts := append([]*policy.Selector{s}, p.macrosOf(pol, s)...)
	for _, x := range parts {
		if len(x.Data) > 0 && !h.kind.returns() {
			p.error(x.Data[0].Place, "filter-hook", "%s has no data, so no matchData", h.kind)
		}
		needsReturn := func(what string, n int, at func() policy.Place) {
			switch {
			case n == 0:
			case !h.kind.returns():
				p.error(at(), "filter-hook", "%s does not see a return, so there is no %s", h.kind, what)
			case !h.ret.Value:
				p.error(at(), "no-return", "%s needs return: true and returnArg", what)
			}
		}
		needsReturn("matchReturnArgs", len(x.ReturnArgs), func() policy.Place { return x.ReturnArgs[0].Place })
		needsReturn("matchReturnActions", len(x.ReturnActions), func() policy.Place { return x.ReturnActions[0].Place })
		for i := range x.Args {
			p.checkMatchIndex(&x.Args[i], h.common.Args, "args")
			if m := &x.Args[i]; m.Operator.Value == "CelExpr" {
				for _, v := range m.Values {
					p.checkExpression(v.Place, v.Value, h.common.Args)
				}
			}
		}
		for _, ms := range [][]policy.ArgMatch{x.Data, x.ReturnArgs} {
			for i := range ms {
				if o := ms[i].Operator; o.Value == "CelExpr" {
					p.error(o.Place, "filter-hook", "expressions are over arguments: CelExpr goes into matchArgs")
				}
			}
		}
		for i := range x.Data {
			p.checkMatchIndex(&x.Data[i], h.data, "data")
		}
		for i := range x.ReturnArgs {
			m := &x.ReturnArgs[i]
			if h.returnArg == nil {
				continue
			}
			if !m.Index.Set {
				m.Index.Value = h.returnArg.Index.Value
			} else if m.Index.Value != h.returnArg.Index.Value {
				p.error(m.Index.Place, "match-index", "the return value has index %d, not %d", h.returnArg.Index.Value, m.Index.Value)
			}
		}
		p.checkHookActions(pol, h, x.Actions, false)
		p.checkHookActions(pol, h, x.ReturnActions, true)
	}
}

// checkMatchIndex checks that what is compared is there.
func (p *parser) checkMatchIndex(m *policy.ArgMatch, as []policy.Arg, what string) {
	if m.Operator.Value == "CelExpr" && len(m.Args) == 0 {
		return // names its arguments itself
	}
	for _, a := range m.Args {
		if a.Value >= int64(len(as)) && !p.failed(a.Place) {
			p.error(a.Place, "match-index", "the hook has no %s[%d]", what, a.Value).WithHint("%s", indexes(what, as))
		}
	}
	if len(m.Args) > 0 || p.failed(m.Index.Place) {
		return
	}
	if !m.Index.Set {
		p.warn(m.Index.Place, "no-index", "neither index nor args says what is compared; it is index 0")
	}
	found := false
	for i := range as {
		found = found || what == "data" && int64(i) == m.Index.Value || what == "args" && as[i].Index.Value == m.Index.Value
	}
	if !found {
		p.error(m.Index.Place, "match-index", "no entry of %s has index %d", what, m.Index.Value).WithHint("%s", indexes(what, as))
	}
}

func indexes(what string, as []policy.Arg) string {
	if len(as) == 0 {
		return "the hook has no " + what
	}
	var have []string
	for i := range as {
		n := as[i].Index.Value
		if what == "data" {
			n = int64(i)
		}
		if s := fmt.Sprint(n); !slices.Contains(have, s) {
			have = append(have, s)
		}
	}
	return "there are: " + strings.Join(have, ", ")
}

func (p *parser) checkMacros(pol *policy.Policy) {
	used := make(map[string]bool)
	for _, h := range hooks(pol) {
		for i := range h.common.Selectors {
			p.checkMacroUse(pol, &h.common.Selectors[i], used)
		}
	}
	for i := range pol.Macros {
		m := &pol.Macros[i]
		if len(m.Macros) > 0 {
			p.error(m.Macros[0].Place, "nested-macro", "macro %q uses macros itself", clip(m.Name.Value))
		}
		if !used[m.Name.Value] && !p.d.Bad() {
			p.warn(m.Name.Place, "unused-macro", "no selector uses macro %q", clip(m.Name.Value))
		}
	}
}

func (p *parser) checkMacroUse(pol *policy.Policy, s *policy.Selector, used map[string]bool) {
	has := make(map[string]string) // list -> who has it
	for _, f := range listsOf(s) {
		has[f] = "the selector"
	}
	seen := make(map[string]bool)
	for _, name := range s.Macros {
		if p.failed(name.Place) {
			continue
		}
		if seen[name.Value] {
			p.error(name.Place, "macro-clash", "macro %q is there twice", clip(name.Value))
			continue
		}
		seen[name.Value], used[name.Value] = true, true
		i := slices.IndexFunc(pol.Macros, func(m policy.Macro) bool { return m.Name.Value == name.Value })
		if i < 0 {
			var names []string
			for i := range pol.Macros {
				names = append(names, pol.Macros[i].Name.Value)
			}
			x := p.error(name.Place, "unknown-macro", "there is no macro %q", clip(name.Value))
			if n := nearest.Name(name.Value, names); n != "" {
				x.WithHint("did you mean %q?", n)
			} else {
				x.WithHint("macros are defined in spec.selectorsMacros")
			}
			continue
		}
		for _, f := range listsOf(&pol.Macros[i].Selector) {
			if has[f] != "" {
				p.error(name.Place, "macro-clash", "macro %q and %s both have %s", clip(name.Value), has[f], f).WithHint("leave it in one of them")
			}
			has[f] = "macro " + strconv.Quote(name.Value)
		}
	}
}

// macrosOf finds the macros of a selector.
func (p *parser) macrosOf(pol *policy.Policy, s *policy.Selector) []*policy.Selector {
	var out []*policy.Selector
	for _, name := range s.Macros {
		for i := range pol.Macros {
			if pol.Macros[i].Name.Value == name.Value {
				out = append(out, &pol.Macros[i].Selector)
			}
		}
	}
	return out
}

// listsOf names what a selector has, of what it can have once.
func listsOf(s *policy.Selector) []string {
	var out []string
	add := func(name string, has bool) {
		if has {
			out = append(out, name)
		}
	}
	add("matchPIDs", len(s.PIDs) > 0)
	add("matchBinaries", len(s.Binaries) > 0)
	add("matchParentBinaries", len(s.ParentBinaries) > 0)
	add("matchArgs", len(s.Args) > 0)
	add("matchData", len(s.Data) > 0)
	add("matchReturnArgs", len(s.ReturnArgs) > 0)
	add("matchNamespaces", len(s.Namespaces) > 0)
	add("matchNamespaceChanges", len(s.NamespaceChanges) > 0)
	add("matchCapabilities", len(s.Capabilities) > 0)
	add("matchCapabilityChanges", len(s.CapabilityChanges) > 0)
	add("matchWorkloads", s.Workloads != nil)
	add("matchActions", len(s.Actions) > 0)
	add("matchReturnActions", len(s.ReturnActions) > 0)
	return out
}
