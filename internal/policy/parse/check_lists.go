// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"regexp"
	"slices"
	"strings"

	"tetragon/internal/nearest"
	"tetragon/internal/policy"
)

// syscallPrefixes are what the symbols of system calls begin with, by the ABI that they imply.
var syscallPrefixes = []struct{ prefix, abi string }{{"__x64_", "x64"}, {"__ia32_", "i386"}, {"__arm64_", "arm64"}}

// abis are the ABIs that a name in a list of system calls may have before a slash.
var abis = []string{"x64", "i386", "arm64", "arm32"}

func (p *parser) checkLists(pol *policy.Policy) {
	seen := make(map[string]policy.Place)
	for i := range pol.Lists {
		l := &pol.Lists[i]
		if first, twice := seen[l.Name.Value]; twice && l.Name.Value != "" {
			p.error(l.Name.Place, "duplicate-list", "list %q is there twice", l.Name.Value).WithNote("the first is in line %d", first.Line)
		}
		seen[l.Name.Value] = l.Name.Place
		generated := strings.HasPrefix(l.Type.Value, "generated_")
		switch {
		case generated && len(l.Values) > 0:
			p.error(l.Values[0].Place, "unexpected-values", "list %q is generated; it has no values", l.Name.Value)
		case !generated && len(l.Values) == 0 && !p.failed(l.Type.Place):
			p.warn(l.Place, "no-values", "list %q is empty", l.Name.Value)
		}
		switch {
		case l.Type.Value == "generated_ftrace" && l.Pattern.Value == "":
			p.error(l.Pattern.Place, "missing-field", "list %q needs a pattern", l.Name.Value)
		case l.Type.Value == "generated_ftrace":
			if _, err := regexp.Compile(l.Pattern.Value); err != nil {
				p.error(l.Pattern.Place, "bad-pattern", "%q is no regular expression: %v", clip(l.Pattern.Value), err)
			}
		case l.Pattern.Value != "" && !p.failed(l.Type.Place):
			p.error(l.Pattern.Place, "unused-field", "pattern is for lists of type generated_ftrace")
		}
		for _, v := range l.Values {
			switch {
			case p.failed(v.Place):
			case l.Type.Value == "syscalls":
				p.syscallName(v)
			case l.Type.Value == "" && !symbol.MatchString(v.Value):
				p.error(v.Place, "bad-symbol", "%q is no name of a function", clip(v.Value))
			}
		}
	}
	used := p.usedLists(pol)
	if p.d.Bad() {
		return // what is mistyped may be what is missed here
	}
	for i := range pol.Lists {
		if l := &pol.Lists[i]; l.Name.Value != "" && !used[l.Name.Value] {
			p.warn(l.Name.Place, "unused-list", "nothing refers to list %q", l.Name.Value)
		}
	}
}

// syscallName checks "[ABI/]NAME" of a list of system calls.
func (p *parser) syscallName(v policy.Text) {
	abi, name, ok := strings.Cut(v.Value, "/")
	if !ok {
		abi, name = "", v.Value
	}
	if abi != "" && !slices.Contains(abis, abi) || ok && abi == "" {
		p.error(v.Place, "list-abi", "there is no ABI %q", clip(abi)).WithHint("there are: %s", strings.Join(abis, ", "))
		return
	}
	for _, x := range syscallPrefixes {
		rest, has := strings.CutPrefix(name, x.prefix)
		if !has {
			continue
		}
		name = rest
		if abi != "" && abi != x.abi && !(abi == "arm32" && x.abi == "arm64") {
			p.error(v.Place, "list-abi", "%q names ABI %s and has the prefix of %s", clip(v.Value), abi, x.abi)
			return
		}
	}
	if !strings.HasPrefix(name, "sys_") || !symbol.MatchString(name) {
		p.error(v.Place, "list-name", "%q is no system call: its name does not begin with sys_", clip(v.Value)).WithHint("[ABI/]sys_NAME")
	}
}

// usedLists finds what refers to lists, and tells of references to lists that are not there.
func (p *parser) usedLists(pol *policy.Policy) map[string]bool {
	used := make(map[string]bool)
	var names []string
	for i := range pol.Lists {
		if n := pol.Lists[i].Name.Value; n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	refer := func(t policy.Text) {
		name, ok := strings.CutPrefix(t.Value, "list:")
		if !ok {
			return
		}
		used[name] = true
		if slices.Contains(names, name) {
			return
		}
		x := p.error(t.Place, "unknown-list", "there is no list %q", clip(name))
		if s := nearest.Name(name, names); s != "" {
			x.WithHint("did you mean %q?", s)
		} else if len(names) > 0 {
			x.WithHint("there are: %s", strings.Join(names, ", "))
		} else {
			x.WithHint("lists are defined in spec.lists")
		}
	}
	for _, ks := range [][]policy.Kprobe{pol.Kprobes, pol.Fentries} {
		for i := range ks {
			refer(ks[i].Call)
		}
	}
	for i := range pol.Enforcers {
		for _, c := range pol.Enforcers[i].Calls {
			refer(c)
		}
	}
	eachSelector(pol, func(s *policy.Selector) {
		for _, ms := range [][]policy.ArgMatch{s.Args, s.Data, s.ReturnArgs} {
			for i := range ms {
				if !strings.HasSuffix(ms[i].Operator.Value, "InMap") {
					continue
				}
				for _, v := range ms[i].Values {
					refer(v)
				}
			}
		}
	})
	return used
}

// eachSelector calls f for all selectors of all hooks, and for the macros.
func eachSelector(pol *policy.Policy, f func(*policy.Selector)) {
	for _, h := range hooks(pol) {
		for i := range h.common.Selectors {
			f(&h.common.Selectors[i])
		}
	}
	for i := range pol.Macros {
		f(&pol.Macros[i].Selector)
	}
}

func (p *parser) checkEnforcers(pol *policy.Policy) {
	for i := range pol.Enforcers {
		for _, c := range pol.Enforcers[i].Calls {
			name := c.Value
			for _, x := range syscallPrefixes {
				name = strings.TrimPrefix(name, x.prefix)
			}
			ok := strings.HasPrefix(name, "sys_") || strings.HasPrefix(c.Value, "security_") || strings.HasPrefix(c.Value, "list:")
			if !ok && !p.failed(c.Place) {
				p.error(c.Place, "enforcer-call", "an enforcer cannot stand at %q", clip(c.Value)).
					WithHint("at system calls (sys_...), at security_... functions, or at those of a list (list:NAME)")
			}
		}
	}
}
