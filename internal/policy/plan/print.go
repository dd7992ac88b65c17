// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"math"
	"strings"
)

// String prints the plan, one line a fact, always in the same way: the text that golden files hold and that reviews read.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "policy %s", p.Policy)
	if p.Namespace != "" {
		fmt.Fprintf(&b, " namespace %s", p.Namespace)
	}
	fmt.Fprintf(&b, " kernel %s\n", p.Kernel)
	if p.Loader {
		b.WriteString("loader\n")
	}
	for i := range p.Sets {
		fmt.Fprintf(&b, "set %d %s\n", i, p.Sets[i].String())
	}
	for i := range p.Hooks {
		p.Hooks[i].print(&b, i)
	}
	return b.String()
}

// String prints what a set of processes is made by.
func (s *Set) String() string {
	var words []string
	for _, x := range s.Paths {
		words = append(words, fmt.Sprintf("%q", x))
	}
	for _, x := range s.Pids {
		words = append(words, fmt.Sprint(x))
	}
	return setKinds[min(s.Kind, SetNsPids+1)] + " {" + strings.Join(words, " ") + "}"
}

var setKinds = [...]string{"unknown", "binary is", "binary begins with", "binary ends with", "pid", "pid in its namespace", "unknown"}

func (h *Hook) print(b *strings.Builder, i int) {
	fmt.Fprintf(b, "hook %d %s[%d] %s", i, h.Section, h.Index, h.Name)
	if h.Event == EventTracepoint {
		b.WriteString(" as tracepoint")
	}
	b.WriteByte('\n')
	line := func(word, format string, args ...any) {
		fmt.Fprintf(b, "  %-8s %s\n", word, fmt.Sprintf(format, args...))
	}
	if h.Message != "" {
		line("message", "%q", h.Message)
	}
	for _, t := range h.Tags {
		line("tag", "%q", t)
	}
	if h.Inactive != "" {
		line("inactive", "%s", h.Inactive)
	} else {
		line("attach", "%s", h.Attach.String())
	}
	if h.Guards != "" {
		line("guards", "%s", h.Guards)
	}
	for i := range h.Attach.When {
		line("when", "%s", h.Attach.When[i].String())
	}
	for _, t := range h.Tried {
		line("tried", "%s: %s", t.Backend.Asked(), t.Why)
	}
	for _, c := range h.Caveats {
		line("caveat", "%s", c)
	}
	for i := range h.Values {
		line("value", "%d %s", i, h.Values[i].String())
	}
	for i := range h.Args {
		line("arg", "%s", h.Args[i].String())
	}
	for i := range h.Data {
		line("data", "%s", h.Data[i].String())
	}
	if h.Return != nil {
		line("return", "%s", h.Return.String())
	}
	for i := range h.Rules {
		r := &h.Rules[i]
		label := ""
		if r.Label != "" {
			label = fmt.Sprintf(" %q", r.Label)
		}
		line("rule", "%d selector %d%s", i, r.Selector, label)
		for j := range r.Filters {
			line("", "if   %s", h.filter(&r.Filters[j]))
		}
		line("", "then %s", r.Do.String())
	}
}

// Asked is the name of a back-end that was considered; BackendNone stands for the table of equivalents.
func (b Backend) Asked() string {
	if b == BackendNone {
		return "equivalent"
	}
	return b.String()
}

// String prints where a program runs.
func (a *Attach) String() string {
	var b strings.Builder
	b.WriteString(a.Backend.String())
	if a.Symbol != "" {
		fmt.Fprintf(&b, " %s", a.Symbol)
	}
	if a.Module != "" {
		fmt.Fprintf(&b, " [%s]", a.Module)
	}
	if n := len(a.Symbols); n > 0 {
		fmt.Fprintf(&b, " %d functions: %s", n, strings.Join(a.Symbols, " "))
	}
	if a.User != nil {
		fmt.Fprintf(&b, " %s", a.User)
	}
	if a.Hash != nil {
		fmt.Fprintf(&b, " hash of %s", a.Hash)
	}
	for i, c := range a.Calls {
		if i == 0 {
			b.WriteString(" calls")
		}
		fmt.Fprintf(&b, " %s/%d", c.ABI, c.Nr)
	}
	if a.Params > 0 {
		fmt.Fprintf(&b, " params=%d", a.Params)
	}
	if a.Regs {
		b.WriteString(" regs")
	}
	if a.Compat {
		b.WriteString(" 32-bit")
	}
	return b.String()
}

// OffsetName is what a place without a symbol is called.
func OffsetName(off uint64) string { return fmt.Sprintf("%#x", off) }

// String prints where in a user program a hook is.
func (p *Place) String() string {
	s := p.Path
	switch {
	case p.Probe != "":
		s += fmt.Sprintf(" probe %s (%s)", p.Probe, p.Args)
	case p.Symbol != "" && p.Offset != 0:
		s += fmt.Sprintf(" %s+%#x", p.Symbol, p.Offset)
	case p.Symbol != "":
		s += " " + p.Symbol
	default:
		s += " " + OffsetName(p.Offset)
	}
	if p.RefCtr != 0 {
		s += fmt.Sprintf(" counter %#x", p.RefCtr)
	}
	if p.Multi {
		s += " multi"
	}
	if len(p.Digests) > 0 {
		s += " if " + strings.Join(p.Digests, " or ")
	}
	return s
}

// String prints a condition.
func (w *Condition) String() string {
	s := w.Source.String()
	if w.Mask != 0 {
		s += fmt.Sprintf(" & %#x", w.Mask)
	}
	return s + " " + not(w.Not) + "in " + ranges(w.Ranges, true)
}

func not(n bool) string {
	if n {
		return "not "
	}
	return ""
}

// String prints a source: "arg1->+64/8" loads 8 bytes at offset 64 of what parameter 1 points to.
func (s *Source) String() string {
	var b strings.Builder
	switch s.Kind {
	case SourceArg:
		fmt.Fprintf(&b, "arg%d", s.N)
	case SourceReg:
		fmt.Fprintf(&b, "reg%d", s.N)
	case SourceReturn:
		b.WriteString("ret")
	case SourceField:
		fmt.Fprintf(&b, "field@%d/%d%s", s.Off, s.Size, sign(s.Signed))
	case SourceFieldAddr:
		fmt.Fprintf(&b, "&field@%d", s.Off)
	case SourceConst:
		fmt.Fprintf(&b, "const %d", s.N)
	case SourceTask:
		b.WriteString("task")
	case SourceSyscall:
		b.WriteString("syscall")
	case SourceFdFile:
		if s.N < 0 {
			b.WriteString("file(ret)")
		} else {
			fmt.Fprintf(&b, "file(reg%d)", s.N)
		}
	case SourceErr:
		fmt.Fprintf(&b, "error-or-%d", s.N)
	case SourceCred:
		b.WriteString("cred")
	case SourceRegister:
		fmt.Fprintf(&b, "regs@%d", s.Off)
		if s.Scale != 0 {
			fmt.Fprintf(&b, "+regs@%d*%d", s.Index, s.Scale)
		}
	default:
		b.WriteString("unknown")
	}
	if s.Bits > 0 {
		fmt.Fprintf(&b, ":%d%s", s.Bits, sign(s.Signed))
	}
	for i := range s.Steps {
		st := &s.Steps[i]
		switch {
		case st.Addr:
			fmt.Fprintf(&b, "+%d", st.Off)
		case st.Halves:
			fmt.Fprintf(&b, "->+%d/4:+%d/4", st.Off, st.Off+12)
		default:
			fmt.Fprintf(&b, "->+%d/%d%s", st.Off, st.Size, sign(st.Signed))
		}
		if st.Bits > 0 {
			fmt.Fprintf(&b, "[%d+%d]", st.Shift, st.Bits)
		}
		if st.User {
			b.WriteString("(user)")
		}
	}
	return b.String()
}

func sign(s bool) string {
	if s {
		return "s"
	}
	return ""
}

var typeNames = [TypeCount]string{
	"unknown", "int", "string", "bytes", "iovec", "iov_iter", "filename", "file", "path", "fd", "dentry", "kiocb", "binprm", "sock",
	"socket", "skb", "sockaddr", "sockaddr_un", "net_device", "cred", "user_ns", "bpf_attr", "bpf_map_attr", "bpf_prog", "bpf_map",
	"perf_event", "perf_attr", "module", "load_info", "data_loc", "words",
}

// String returns the name of the type's reader.
func (t Type) String() string {
	if t < TypeCount {
		return typeNames[t]
	}
	return "unknown"
}

// String prints how a value is read.
func (v *Value) String() string {
	s := v.Type.String()
	if v.Type == TypeInt {
		s = map[bool]string{true: "s", false: "u"}[v.Signed] + fmt.Sprint(v.Bits)
	}
	s += " " + v.Source.String()
	if v.Size != nil {
		s += " size " + v.Size.String()
	}
	if v.Bytes > 0 {
		s += fmt.Sprintf(" bytes %d", v.Bytes)
	}
	for _, x := range []struct {
		is   bool
		name string
	}{{v.Max, "max"}, {v.Exit, "at-return"}, {v.Track, "owner"}} {
		if x.is {
			s += " " + x.name
		}
	}
	return s
}

// String prints an argument of the event.
func (a *Arg) String() string {
	s := fmt.Sprintf("v%d %s index %d", a.Value, a.Type, a.Index)
	if a.Value < 0 {
		s = fmt.Sprintf("- %s index %d", a.Type, a.Index)
	}
	if a.Label != "" {
		s += fmt.Sprintf(" label %q", a.Label)
	}
	return s
}

var (
	fieldNames = [...]string{"", ".family", ".type", ".protocol", ".state", ".saddr", ".daddr", ".sport", ".dport", ".filetype", ".hash", ".verity"}
	taskNames  = [TaskFieldCount]string{
		"", "pid", "nspid", "cap_effective", "cap_permitted", "cap_inheritable", "host_userns", "cap_effective_changed",
		"cap_permitted_changed", "cap_inheritable_changed", "ns_changed", "tracked", "ns_uts", "ns_ipc", "ns_mnt", "ns_pid",
		"ns_pid_for_children", "ns_net", "ns_time", "ns_time_for_children", "ns_cgroup", "ns_user", "host", "verdict",
	}
	relationNames = [...]string{"process", "process or ancestor", "parent", "ancestor"}
	textWords     = map[FilterKind]string{
		FilterEqual: "is", FilterPrefix: "begins with", FilterSuffix: "ends with", FilterContains: "contains",
		FilterContainsFold: "contains (any case)",
	}
)

func (h *Hook) filter(f *Filter) string {
	what := fmt.Sprintf("v%d", f.Value)
	signed := f.Value >= 0 && f.Value < len(h.Values) && h.Values[f.Value].Signed
	if int(f.Field) < len(fieldNames) {
		what += fieldNames[f.Field]
	}
	if f.Task != TaskNone {
		what, signed = "task.?", false
		if f.Task < TaskFieldCount {
			what = "task." + taskNames[f.Task]
		}
		if f.Task == TaskVerdict {
			what += fmt.Sprintf(" %x", uint64(f.Verdict))
		}
	}
	switch f.Kind {
	case FilterRanges:
		return what + " " + not(f.Not) + "in " + ranges(f.Ranges, signed)
	case FilterBits:
		return fmt.Sprintf("%s %shas bits %#x", what, not(f.Not), f.Mask)
	case FilterEqual, FilterPrefix, FilterSuffix, FilterContains, FilterContainsFold:
		var words []string
		for _, s := range f.Strings {
			words = append(words, fmt.Sprintf("%q", s))
		}
		return fmt.Sprintf("%s %s%s {%s}", what, not(f.Not), textWords[f.Kind], strings.Join(words, " "))
	case FilterAddrs:
		var words []string
		for _, p := range f.Prefixes {
			words = append(words, p.String())
		}
		return fmt.Sprintf("%s %sin {%s}", what, not(f.Not), strings.Join(words, " "))
	case FilterExpr:
		return not(f.Not) + f.Expr.String()
	case FilterGained:
		return fmt.Sprintf("v%d %shas bits that v%d has not", f.Value2, not(f.Not), f.Value)
	case FilterDigest:
		return fmt.Sprintf("%s %sin {%s}", what, not(f.Not), strings.Join(f.Strings, " "))
	case FilterClass:
		of := "unknown"
		if int(f.Of) < len(relationNames) {
			of = relationNames[f.Of]
		}
		return fmt.Sprintf("%s %sin set %d", of, not(f.Not), f.Set)
	}
	return "unknown"
}

// ranges prints a set of numbers.
func ranges(rs []Range, signed bool) string {
	num := func(n uint64) string {
		switch {
		case n == math.MaxUint64 && !signed:
			return "max"
		case signed && int64(n) < 0:
			return fmt.Sprint(int64(n))
		}
		return fmt.Sprint(n)
	}
	var words []string
	for _, r := range rs {
		if r.Lo == r.Hi {
			words = append(words, num(r.Lo))
		} else {
			words = append(words, num(r.Lo)+".."+num(r.Hi))
		}
	}
	return "{" + strings.Join(words, " ") + "}"
}

var scopeNames = [...]string{"thread", "process", "all"}

// String prints what a rule orders.
func (a *Actions) String() string {
	var words []string
	if a.Post {
		words = append(words, "post")
	} else {
		words = append(words, "no post")
	}
	if a.RateLimit > 0 {
		scope := "?"
		if int(a.Scope) < len(scopeNames) {
			scope = scopeNames[a.Scope]
		}
		words = append(words, fmt.Sprintf("once per %s per %s", a.RateLimit, scope))
	}
	if a.Aggregate > 0 {
		words = append(words, fmt.Sprintf("count equal ones for %s", a.Aggregate))
	}
	if a.KernelStack {
		words = append(words, "kernel stack")
	}
	if a.UserStack {
		words = append(words, "user stack")
	}
	if a.ImaHash {
		words = append(words, "hash")
	}
	for _, u := range a.URLs {
		words = append(words, "get "+u)
	}
	for _, n := range a.Names {
		words = append(words, "look up "+n)
	}
	for _, t := range a.Track {
		if t.Forget {
			words = append(words, fmt.Sprintf("untrack v%d", t.Value))
		} else {
			words = append(words, fmt.Sprintf("track v%d", t.Value))
		}
	}
	if a.Baseline {
		words = append(words, "new baseline")
	}
	for _, n := range a.Signals {
		words = append(words, fmt.Sprintf("signal %d", n))
	}
	if n := a.Notify; n != nil {
		words = append(words, fmt.Sprintf("notify %x: return %d, signal %d", uint64(n.To), n.Error, n.Signal))
	}
	if a.Forget != 0 {
		words = append(words, fmt.Sprintf("forget verdict %x", uint64(a.Forget)))
	}
	if a.Set != nil {
		words = append(words, fmt.Sprintf("set v%d to %d", a.Set.Value, a.Set.To))
	}
	if a.Enforcer {
		words = append(words, fmt.Sprintf("signals of verdict %x", uint64(a.From)))
		if a.Kills {
			words = append(words, "signal 9 for an error")
		}
	}
	switch {
	case a.Override && a.Later != 0:
		words = append(words, fmt.Sprintf("keep %s as verdict %x", a.errorText(), uint64(a.Later)))
	case a.Override:
		words = append(words, "return "+a.errorText())
	}
	s := strings.Join(words, ", ")
	if a.Last != "" || a.LastReturn != "" {
		s += fmt.Sprintf(" (%s/%s)", a.Last, a.LastReturn)
	}
	return s
}

func (a *Actions) errorText() string {
	if a.From != 0 {
		return fmt.Sprintf("verdict %x", uint64(a.From))
	}
	return fmt.Sprint(a.Error)
}
