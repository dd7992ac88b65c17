// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tetragon/internal/policy"
	"tetragon/internal/policy/expr"
	"tetragon/internal/policy/plan"
)

// maxRules is how many selectors one hook can have, those of all policies together.
const maxRules = 512

// lowerSelectors makes a rule of each selector.
func (c *compiler) lowerSelectors() {
	for _, h := range c.alive() {
		if len(h.selectors) == 0 {
			h.plan.Rules = []plan.Rule{{}}
		}
		if h.enforcer {
			h.plan.Rules[0].Filters = []plan.Filter{{
				Kind: plan.FilterRanges, Not: true, Task: plan.TaskVerdict, Verdict: c.enforcerVerdict(), Ranges: []plan.Range{{}},
				Text: "the enforcer was notified",
			}}
		}
		if len(h.selectors) > maxRules {
			c.d.Error(h.selectors[maxRules].Place, "too-many-selectors", "a hook can have %d selectors", maxRules)
			continue
		}
		for i := range h.selectors {
			s := &h.selectors[i]
			r := plan.Rule{Selector: i, Label: s.Label.Value}
			c.lowerTask(s, &r)
			for j := range s.Args {
				c.lowerArg(h, &s.Args[j], h.args, "args", &r)
			}
			for j := range s.Data {
				c.lowerArg(h, &s.Data[j], h.data, "data", &r)
			}
			for j := range s.ReturnArgs {
				m := &s.ReturnArgs[j]
				if h.ret == nil {
					c.d.Error(m.Place, "no-return", "matchReturnArgs needs return: true and returnArg")
					continue
				}
				c.lowerArg(h, m, []typed{*h.ret}, "return", &r)
			}
			h.plan.Rules = append(h.plan.Rules, r)
			c.shadowed(h, i)
		}
		for i := range h.plan.Rules {
			if r := &h.plan.Rules[i]; c.forPolicy != nil && !h.enforcer { // an enforcer sees only whom the policy's hooks told it of
				r.Filters = append([]plan.Filter{*c.forPolicy}, r.Filters...)
			}
		}
	}
}

// shadowed warns of selectors behind one that everything passes.
func (c *compiler) shadowed(h *hook, i int) {
	for j := range i {
		if len(h.plan.Rules[j].Filters) == 0 && !c.d.Bad() {
			c.d.Warn(h.selectors[i].Place, "shadowed", "never reached: selectors[%d] matches everything", j)
			return
		}
	}
}

// set gives a set of processes its number in the plan, once.
func (c *compiler) set(s plan.Set) int {
	slices.Sort(s.Paths)
	s.Paths = slices.Compact(s.Paths)
	slices.Sort(s.Pids)
	s.Pids = slices.Compact(s.Pids)
	k := fmt.Sprint(s.Kind, len(s.Paths), s.Pids) + strings.Join(s.Paths, "\x00")
	if i, ok := c.sets[k]; ok {
		return i
	}
	c.out.Sets = append(c.out.Sets, s)
	c.sets[k] = len(c.out.Sets) - 1
	return c.sets[k]
}

// lowerTask lowers the filters on the current task.
func (c *compiler) lowerTask(s *policy.Selector, r *plan.Rule) {
	add := func(f plan.Filter) { r.Filters = append(r.Filters, f) }
	for i := range s.PIDs {
		c.lowerPIDs(&s.PIDs[i], add)
	}
	for i := range s.Binaries {
		c.lowerBinaries(&s.Binaries[i], plan.OfSelf, plan.OfLine, "matchBinaries", add)
	}
	for i := range s.ParentBinaries {
		c.lowerBinaries(&s.ParentBinaries[i], plan.OfParent, plan.OfAncestor, "matchParentBinaries", add)
	}
	for i := range s.Namespaces {
		c.lowerNamespaces(&s.Namespaces[i], add)
	}
	for i := range s.NamespaceChanges {
		c.lowerNamespaceChanges(&s.NamespaceChanges[i], add)
		r.Do.Baseline = true
	}
	for i := range s.Capabilities {
		c.lowerCapabilities(&s.Capabilities[i], add)
	}
	for i := range s.CapabilityChanges {
		c.lowerCapabilityChanges(&s.CapabilityChanges[i], add)
		r.Do.Baseline = true
	}
	if w := s.Workloads; w != nil {
		if f := c.lowerWorkloads(workloads{w.PodSelector, w.ContainerSelector, w.HostSelector}); f != nil {
			add(*f)
		}
	}
}

func negative(op policy.Text) bool { return strings.HasPrefix(op.Value, "Not") }

func (c *compiler) lowerPIDs(m *policy.PIDMatch, add func(plan.Filter)) {
	var pids []uint32
	f := plan.Filter{Kind: plan.FilterRanges, Not: negative(m.Operator), Task: plan.TaskPid}
	for _, v := range m.Values {
		if v.Value < 0 || v.Value > 1<<32-1 {
			c.d.Error(v.Place, "bad-value", "%d is no process id", v.Value)
			continue
		}
		pids = append(pids, uint32(v.Value))
		f.Ranges = append(f.Ranges, plan.Range{Lo: uint64(v.Value), Hi: uint64(v.Value)})
	}
	f.Ranges = normal(f.Ranges)
	f.Text = fmt.Sprintf("matchPIDs %s %v", m.Operator.Value, pids)
	if len(m.Values) == 0 {
		c.d.Error(m.Place, "no-values", "matchPIDs needs values")
	}
	if m.IsNamespacePID.Value {
		f.Task = plan.TaskNsPid
		f.Text += " of its own namespace"
	}
	if m.FollowForks.Value {
		kind := plan.SetPids
		if m.IsNamespacePID.Value {
			kind = plan.SetNsPids
		}
		f = plan.Filter{Kind: plan.FilterClass, Not: f.Not, Set: c.set(plan.Set{Kind: kind, Pids: pids}), Of: plan.OfLine, Text: f.Text + " and descendants"}
	}
	add(f)
}

func (c *compiler) lowerBinaries(m *policy.BinaryMatch, plain, follow plan.Relation, what string, add func(plan.Filter)) {
	kinds := map[string]plan.SetKind{"In": plan.SetPaths, "Prefix": plan.SetPrefix, "Postfix": plan.SetSuffix}
	kind, ok := kinds[strings.TrimPrefix(m.Operator.Value, "Not")]
	if !ok {
		c.d.Error(m.Operator.Place, "operator-type", "%s has no operator %s", what, m.Operator.Value)
		return
	}
	if len(m.Values) == 0 {
		c.d.Error(m.Place, "no-values", "%s needs values", what)
		return
	}
	s := plan.Set{Kind: kind}
	for _, v := range m.Values {
		switch {
		case v.Value == "":
			c.d.Error(v.Place, "empty-value", "an empty path is no binary")
		case kind != plan.SetSuffix && !strings.HasPrefix(v.Value, "/"):
			effect := "matches"
			if negative(m.Operator) {
				effect = "excludes anything"
			}
			c.d.Warn(v.Place, "relative-path", "%q never %s: binaries are known by their absolute paths", v.Value, effect)
			fallthrough
		default:
			s.Paths = append(s.Paths, v.Value)
		}
	}
	of := plain
	text := fmt.Sprintf("%s %s %q", what, m.Operator.Value, s.Paths)
	if m.FollowChildren.Value {
		if kind != plan.SetPaths {
			c.d.Error(m.FollowChildren.Place, "follow-children", "followChildren goes with In and NotIn")
		}
		of = follow
		text += " and descendants"
	}
	add(plan.Filter{Kind: plan.FilterClass, Not: negative(m.Operator), Set: c.set(s), Of: of, Text: text})
}

// namespaces are the namespaces in the order of the wire contract: policy name, name in /proc, property of the task.
var namespaces = []struct {
	name, proc string
	task       plan.Task
}{
	{"Uts", "uts", plan.TaskNsUts}, {"Ipc", "ipc", plan.TaskNsIpc}, {"Mnt", "mnt", plan.TaskNsMnt}, {"Pid", "pid", plan.TaskNsPidNs},
	{"PidForChildren", "pid_for_children", plan.TaskNsPidForChildren}, {"Net", "net", plan.TaskNsNet}, {"Time", "time", plan.TaskNsTime},
	{"TimeForChildren", "time_for_children", plan.TaskNsTimeForChildren}, {"Cgroup", "cgroup", plan.TaskNsCgroup}, {"User", "user", plan.TaskNsUser},
}

func (c *compiler) lowerNamespaces(m *policy.NamespaceMatch, add func(plan.Filter)) {
	for _, n := range namespaces {
		if n.name != m.Namespace.Value {
			continue
		}
		f := plan.Filter{Kind: plan.FilterRanges, Not: negative(m.Operator), Task: n.task}
		var words []string
		for _, v := range m.Values {
			words = append(words, v.Value)
			if v.Value == "host_ns" {
				inum := c.f.HostNamespace(n.proc)
				if inum == 0 {
					c.d.Error(v.Place, "host-ns", "the %s namespace of pid 1 is not known on this kernel", n.name)
					continue
				}
				f.Ranges = append(f.Ranges, plan.Range{Lo: uint64(inum), Hi: uint64(inum)})
				continue
			}
			inum, err := width{bits: 32}.number(v.Value)
			if err != nil {
				c.d.Error(v.Place, "bad-value", "%q is no namespace: its inode number, or host_ns", v.Value)
				continue
			}
			f.Ranges = append(f.Ranges, plan.Range{Lo: inum, Hi: inum})
		}
		if len(m.Values) == 0 {
			c.d.Error(m.Place, "no-values", "matchNamespaces needs values")
		}
		f.Text = fmt.Sprintf("namespace %s %s %v", n.name, m.Operator.Value, words)
		add(f)
		return
	}
	c.d.Error(m.Namespace.Place, "bad-value", "there is no namespace %q", m.Namespace.Value)
}

// tracked is true for processes of which it is known what they were at exec.
func tracked() plan.Filter {
	return plan.Filter{Kind: plan.FilterRanges, Task: plan.TaskTracked, Ranges: []plan.Range{{Lo: 1, Hi: 1}}, Text: "its state at exec is known"}
}

func (c *compiler) lowerNamespaceChanges(m *policy.NamespaceMatch, add func(plan.Filter)) {
	var mask uint64
	for _, v := range m.Values {
		found := false
		for i, n := range namespaces {
			if strings.EqualFold(n.name, v.Value) {
				mask |= 1 << i
				found = true
			}
		}
		if !found {
			c.d.Error(v.Place, "bad-value", "there is no namespace %q", v.Value)
		}
	}
	if len(m.Values) == 0 {
		c.d.Error(m.Place, "no-values", "matchNamespaceChanges needs values")
	}
	if negative(m.Operator) { // one that is not listed has changed
		mask = ^mask & (1<<len(namespaces) - 1)
	}
	add(tracked())
	add(plan.Filter{Kind: plan.FilterBits, Task: plan.TaskNsChanged, Mask: mask, Text: "a namespace changed " + m.Operator.Value + " " + texts(m.Values)})
}

func texts(vs []policy.Text) string {
	var out []string
	for _, v := range vs {
		out = append(out, v.Value)
	}
	return fmt.Sprint(out)
}

func (c *compiler) capValues(m *policy.CapabilityMatch) uint64 {
	var mask uint64
	for _, v := range m.Values {
		n, err := capNumber(v.Value)
		if err != nil {
			c.d.Error(v.Place, "bad-value", "%v", err)
			continue
		}
		mask |= 1 << n
	}
	if len(m.Values) == 0 {
		c.d.Error(m.Place, "no-values", "capabilities need values")
	}
	return mask
}

// capTasks are the properties of a task by the type of capability set: the set, and how it changed.
var capTasks = map[string][2]plan.Task{
	"Effective":   {plan.TaskCapEffective, plan.TaskCapEffectiveChanged},
	"Permitted":   {plan.TaskCapPermitted, plan.TaskCapPermittedChanged},
	"Inheritable": {plan.TaskCapInheritable, plan.TaskCapInheritableChanged},
}

func (c *compiler) lowerCapabilities(m *policy.CapabilityMatch, add func(plan.Filter)) {
	t, ok := capTasks[m.Type.Value]
	if !ok {
		c.d.Error(m.Type.Place, "bad-value", "there is no capability set %q", m.Type.Value)
		return
	}
	if m.IsNamespaceCapability.Value {
		add(plan.Filter{Kind: plan.FilterRanges, Task: plan.TaskHostUserNS, Ranges: []plan.Range{{}}, Text: "in a user namespace of its own"})
	}
	add(plan.Filter{Kind: plan.FilterBits, Not: negative(m.Operator), Task: t[0], Mask: c.capValues(m),
		Text: fmt.Sprintf("capabilities %s %s %s", m.Type.Value, m.Operator.Value, texts(m.Values))})
}

func (c *compiler) lowerCapabilityChanges(m *policy.CapabilityMatch, add func(plan.Filter)) {
	t, ok := capTasks[m.Type.Value]
	if !ok {
		c.d.Error(m.Type.Place, "bad-value", "there is no capability set %q", m.Type.Value)
		return
	}
	if m.IsNamespaceCapability.Value {
		add(plan.Filter{Kind: plan.FilterRanges, Task: plan.TaskHostUserNS, Ranges: []plan.Range{{}}, Text: "in a user namespace of its own"})
	}
	add(tracked())
	mask := c.capValues(m)
	text := fmt.Sprintf("capabilities changed %s %s %s", m.Type.Value, m.Operator.Value, texts(m.Values))
	if !negative(m.Operator) {
		add(plan.Filter{Kind: plan.FilterBits, Task: t[1], Mask: mask, Text: text})
		return
	}
	// Those listed are what they were, and some other is not.
	add(plan.Filter{Kind: plan.FilterBits, Not: true, Task: t[1], Mask: mask, Text: text})
	add(plan.Filter{Kind: plan.FilterBits, Task: t[1], Mask: ^mask & (1<<len(policy.Capabilities) - 1), Text: "others changed"})
}

// operand finds the argument that an entry of matchArgs is about.
func (c *compiler) operand(h *hook, m *policy.ArgMatch, as []typed, what string, n int) *typed {
	if n < len(m.Args) {
		i := m.Args[n].Value
		if i < 0 || int(i) >= len(as) {
			c.d.Error(m.Args[n].Place, "match-index", "the hook has no %s[%d]", what, i)
			return nil
		}
		return &as[i]
	}
	if what == "data" {
		if i := int(m.Index.Value); i >= 0 && i < len(as) {
			return &as[i]
		}
		c.d.Error(m.Index.Place, "match-index", "the hook has no data[%d]", m.Index.Value)
		return nil
	}
	for i := range as {
		if as[i].arg.Index.Value == m.Index.Value {
			return &as[i]
		}
	}
	d := c.d.Error(m.Place, "match-index", "no argument of the hook has index %d", m.Index.Value)
	var have []string
	for i := range as {
		have = append(have, fmt.Sprint(as[i].arg.Index.Value))
	}
	if len(have) > 0 {
		d.WithHint("there are: %s", strings.Join(have, ", "))
	}
	return nil
}

// pathTypes are the types that are paths; textTypes those that are text.
var (
	pathTypes = []string{"file", "path", "fd", "dentry", "kiocb", "linux_binprm"}
	textTypes = []string{"string", "char_buf", "data_loc", "net_device", "filename", "char_iovec", "iov_iter", "sockaddr_un"}
)

func (c *compiler) lowerArg(h *hook, m *policy.ArgMatch, as []typed, what string, r *plan.Rule) {
	op := m.Operator.Value
	if op == "CelExpr" {
		c.lowerExpression(h, m, as, r)
		return
	}
	t := c.operand(h, m, as, what, 0)
	if t == nil {
		return
	}
	if t.row == nil || t.value < 0 {
		if t.arg.Type.Value == "nop" {
			c.d.Error(m.Place, "operator-type", "an argument of type nop has no value to compare")
		}
		return // why it has none was told
	}
	if len(t.rest) > 0 || t.row.typ == plan.TypeWords {
		c.d.Error(m.Operator.Place, "operator-type", "operator %s does not go with type const_buf: it is an array, and which of its elements is meant cannot be said", op).
			WithHint("filter on another argument, or hook the system call")
		return
	}
	if isDigest(m.Operator) {
		c.lowerDigest(h, m, as, t, what, r)
		return
	}
	v := &h.plan.Values[t.value]
	name := t.row.name
	var f plan.Filter
	ok := false
	switch {
	case op == "CapabilitiesGained":
		f, ok = c.gained(h, m, as, what, t)
	case t.row.load:
		f, ok = c.capSet(m)
	case v.Type == plan.TypeInt:
		f, ok = c.intOp(m, v, name)
	case op == "FileType" || op == "NotFileType":
		if slices.Contains(pathTypes, name) {
			f, ok = c.fileType(m), true
		}
	case slices.Contains(pathTypes, name) || slices.Contains(textTypes, name):
		if f, ok = c.text(m, name); !ok {
			f, ok = c.net(m, name)
		}
	default:
		f, ok = c.net(m, name)
	}
	if !ok {
		c.d.Error(m.Operator.Place, "operator-type", "operator %s does not go with type %s", op, name).WithHint("%s", operatorsOf(name, t.row))
		return
	}
	f.Value = t.value
	if v.Max { // a long value lies somewhere else: what is compared is its beginning
		begin := *v
		begin.Max = false
		f.Value = h.addValue(begin)
	}
	f.Text = fmt.Sprintf("%s %s", nameOf(as, t, what), op)
	if len(m.Values) > 0 {
		f.Text += " " + quoted(m.Values)
	}
	if f.Kind == plan.FilterRanges {
		f.Ranges = normal(f.Ranges)
	}
	r.Filters = append(r.Filters, f)
}

// lowerExpression makes a filter of an expression. What is wrong with it the parser has told, but for arguments whose types
// follow from the kernel.
func (c *compiler) lowerExpression(h *hook, m *policy.ArgMatch, as []typed, r *plan.Rule) {
	for _, v := range m.Values {
		n, err := expr.Parse(v.Value, func(i int) (expr.Type, error) {
			if i >= len(as) {
				return "", fmt.Errorf("the hook has no args[%d]", i)
			}
			t := &as[i]
			if t.row == nil || t.value < 0 {
				return "", expr.ErrTold // why it has no value was told, or the parser refused it
			}
			if len(t.rest) > 0 {
				return "", fmt.Errorf("args[%d] is an array here (const_buf), which expressions do not know", i)
			}
			if of := expr.OfArg(t.row.name); of != "" && h.plan.Values[t.value].Type == plan.TypeInt {
				return of, nil
			}
			return "", fmt.Errorf("args[%d] is of type %s here, which expressions do not know", i, t.row.name)
		})
		var wrong *expr.Error
		switch {
		case errors.As(err, &wrong):
			c.d.Error(v.Place, "bad-expression", "%s of the expression: %v", wrong.Where(), wrong).WithMark(wrong)
		case err == nil:
			r.Filters = append(r.Filters, plan.Filter{
				Kind: plan.FilterExpr, Expr: n.With(func(i int) int { return as[i].value }), Text: "CelExpr " + quoted(m.Values),
			})
		}
	}
}

// nameOf names an argument as matchArgs does.
func nameOf(as []typed, t *typed, what string) string {
	if what == "return" {
		return "the return value"
	}
	for i := range as {
		if &as[i] == t {
			return fmt.Sprintf("%s[%d]", what, i)
		}
	}
	return what
}

// quoted lists values for explain; of many only the first.
func quoted(vs []policy.Text) string {
	const most = 8
	var out []string
	for i, v := range vs {
		if i == most {
			out = append(out, fmt.Sprintf("... (%d in all)", len(vs)))
			break
		}
		out = append(out, strconv.Quote(v.Value))
	}
	return strings.Join(out, " ")
}

const pathOperators = "it has Equal, NotEqual, Prefix, NotPrefix, Postfix, NotPostfix, SubString, SubStringIgnCase, FileType, NotFileType"

func operatorsOf(name string, row *typeRow) string {
	switch {
	case row.load:
		return "it has Equal, NotEqual, GT, LT, Mask, CapabilitiesGained"
	case row.typ == plan.TypeInt:
		return "it has Equal, NotEqual, GT, LT, Mask, InMap, NotInMap, InRange, NotInRange"
	case name == "file" || name == "linux_binprm":
		return pathOperators + ", Digest, NotDigest"
	case slices.Contains(pathTypes, name):
		return pathOperators
	case slices.Contains(textTypes, name):
		return strings.Join(append([]string{"it has Equal, NotEqual, Prefix, NotPrefix, Postfix, NotPostfix, SubString, SubStringIgnCase"}, netOpsOf(name)...), ", ")
	case netFields[name] != nil:
		return "it has " + strings.Join(netOpsOf(name), ", ")
	}
	return "it has none: filter on another argument, or use resolve"
}

// intOp lowers the operators on numbers, of which lists name some.
func (c *compiler) intOp(m *policy.ArgMatch, v *plan.Value, typ string) (plan.Filter, bool) {
	var rest []policy.Text
	var listed []plan.Range
	for _, x := range m.Values {
		name, isList := strings.CutPrefix(x.Value, "list:")
		if !isList {
			rest = append(rest, x)
			continue
		}
		l := c.list(name)
		switch {
		case typ != "syscall64":
			c.d.Error(x.Place, "list-type", "a list of system calls needs an argument of type syscall64, not %s", typ).WithHint("type: syscall64")
		case !strings.HasSuffix(m.Operator.Value, "InMap"):
			c.d.Error(x.Place, "list-type", "lists go with InMap and NotInMap")
		case l == nil:
			c.d.Error(x.Place, "unknown-list", "there is no list %q", name).WithHint("lists of this policy: %s", strings.Join(c.listNames(), ", "))
		case l.Type.Value != "syscalls" && l.Type.Value != "generated_syscalls":
			c.d.Error(x.Place, "list-type", "list %q holds functions, not system calls", name).WithHint("type: syscalls")
		default:
			for _, n := range c.syscallValues(l) {
				listed = append(listed, plan.Range{Lo: n, Hi: n})
			}
		}
	}
	only := *m
	if len(rest) > 0 || len(m.Values) == 0 {
		only.Values = rest
		f, ok := c.numbers(&only, width{v.Bits, v.Signed}, named(typ))
		f.Ranges = append(f.Ranges, listed...)
		return f, ok
	}
	return plan.Filter{Kind: plan.FilterRanges, Not: negative(m.Operator), Ranges: listed}, true // with another operator it was told
}

// named are the names that a number of a type may be given by.
func named(typ string) map[string]uint64 {
	if typ != "capability" {
		return nil
	}
	out := make(map[string]uint64)
	for i, n := range policy.Capabilities {
		out[n] = uint64(i)
	}
	return out
}

func (c *compiler) fileType(m *policy.ArgMatch) plan.Filter {
	f := plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldFileType, Not: negative(m.Operator)}
	if len(m.Values) == 0 {
		c.noValues(m)
	}
	for _, v := range m.Values {
		n, ok := fileMode(v.Value)
		if !ok {
			c.d.Error(v.Place, "bad-value", "there is no type of file %q", v.Value).WithHint("sock, lnk, reg, blk, dir, chr or fifo")
			continue
		}
		f.Ranges = append(f.Ranges, plan.Range{Lo: n, Hi: n})
	}
	return f
}

func (c *compiler) gained(h *hook, m *policy.ArgMatch, as []typed, what string, old *typed) (plan.Filter, bool) {
	if len(m.Args) != 2 || len(m.Values) > 0 {
		c.d.Error(m.Place, "operator-args", "CapabilitiesGained compares two arguments: args: [old, new], and has no values")
		return plan.Filter{}, true
	}
	now := c.operand(h, m, as, what, 1)
	if now == nil || now.value < 0 {
		return plan.Filter{}, now != nil
	}
	if !old.row.load || !now.row.load {
		return plan.Filter{}, false
	}
	return plan.Filter{Kind: plan.FilterGained, Value: old.value, Value2: now.value}, true
}

// dropHopeless leaves out those of several equivalents of which no selector can be true, because they stand for calls with
// another constant: of reads and writes only the reads, if that is what the policy asks for.
func (c *compiler) dropHopeless() {
	type key struct {
		section string
		index   int
		call    string
	}
	count := make(map[key]int)
	for _, h := range c.alive() {
		count[key{h.section, h.index, h.call}]++
	}
	for _, h := range c.alive() {
		k := key{h.section, h.index, h.call}
		if count[k] > 1 && len(h.plan.Caveats) > 0 && !slices.ContainsFunc(h.plan.Rules, h.mayHold) {
			h.merged = true
			h.dead = true
			count[k]--
		}
	}
}

// mayHold says whether a rule can be true, as far as that follows from constants.
func (h *hook) mayHold(r plan.Rule) bool {
	for i := range r.Filters {
		f := &r.Filters[i]
		if f.Kind != plan.FilterRanges || f.Task != plan.TaskNone || f.Field != plan.FieldWhole {
			continue
		}
		s := &h.plan.Values[f.Value].Source
		if s.Kind != plan.SourceConst || len(s.Steps) > 0 {
			continue
		}
		n := uint64(s.N)
		if slices.ContainsFunc(f.Ranges, func(x plan.Range) bool { return x.Lo <= n && n <= x.Hi }) == f.Not {
			return false
		}
	}
	return true
}
