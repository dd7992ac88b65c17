// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Explain tells the plan in words: what runs where and why there, what is read, in which order is decided, what a call
// costs, and what to know about it.
func (p *Plan) Explain() string {
	var b strings.Builder
	active := 0
	for i := range p.Hooks {
		if p.Hooks[i].Inactive == "" {
			active++
		}
	}
	fmt.Fprintf(&b, "Policy %s on kernel %s: %s", p.Policy, p.Kernel, count(active, "hook"))
	if n := len(p.Hooks) - active; n > 0 {
		fmt.Fprintf(&b, ", %d more inactive", n)
	}
	b.WriteString(".\n")
	if p.Loader {
		b.WriteString("Executable mappings are told with their build ids, as the kernel reports them; no hook is needed.\n")
	}
	if len(p.Sets) > 0 {
		b.WriteString("\nEach process is sorted once, when it executes a program, and keeps the result; a hook then tests a bit:\n")
		for i := range p.Sets {
			fmt.Fprintf(&b, "  set %d: %s\n", i, p.Sets[i].String())
		}
	}
	for i := range p.Hooks {
		b.WriteByte('\n')
		p.Hooks[i].explain(&b)
	}
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// backendWords says what a back-end is.
var backendWords = [BackendCount]string{
	BackendFentry:      "at the entry of the function, by a trampoline (fentry)",
	BackendFexit:       "at the exit of the function, by a trampoline that sees arguments and return value (fexit)",
	BackendKprobeMulti: "at the entry of all functions of the list, one program for all (kprobe.multi)",
	BackendKprobe:      "at the entry of the function, by a breakpoint (kprobe)",
	BackendKretprobe:   "at the exit of the function, by a breakpoint (kretprobe)",
	BackendRawTp:       "at the tracepoint itself, with its raw arguments (raw_tracepoint)",
	BackendTracepoint:  "at the tracepoint, with its record (tracepoint)",
	BackendUprobe:      "in the program, by a breakpoint (uprobe)",
	BackendUretprobe:   "at the return of the function of the program, by a breakpoint (uretprobe)",
	BackendSysEnter:    "where all system calls enter, for the calls that are meant (sys_enter)",
	BackendSysExit:     "where all system calls return, for the calls that are meant (sys_exit)",
	BackendSockOps:     "where a TCP socket is about to connect, at the root of the cgroups (sock_ops)",
	BackendSockCreate:  "where a process makes an IP socket, at the root of the cgroups (cgroup/sock_create)",
	BackendSockRelease: "where a process lets an IP socket go, at the root of the cgroups (cgroup/sock_release)",
	BackendTp:          "at a tracepoint that stands for the function (raw_tracepoint)",
	BackendFmodRet:     "at the entry of the function, by a trampoline that may return in its place (fmod_ret)",
	BackendLSM:         "at the hook of the security modules, which may deny (lsm)",
	BackendConnect4:    "where a process connects an IPv4 socket, at the root of the cgroups, which may deny (cgroup/connect4)",
	BackendConnect6:    "where a process connects an IPv6 socket, at the root of the cgroups, which may deny (cgroup/connect6)",
	BackendBind4:       "where a process binds an IPv4 socket, at the root of the cgroups, which may deny (cgroup/bind4)",
	BackendBind6:       "where a process binds an IPv6 socket, at the root of the cgroups, which may deny (cgroup/bind6)",
}

// Instructions that a call costs, measured on 6.12; see docs/decisions/0012-generated-programs.md. Those of user programs are estimates: the
// breakpoint costs more than the program.
var backendCost = [BackendCount]int{
	BackendFentry: 130, BackendFexit: 191, BackendKprobeMulti: 265, BackendKprobe: 361, BackendKretprobe: 894, BackendRawTp: 138,
	BackendTracepoint: 445, BackendUprobe: 2500, BackendUretprobe: 4500, BackendSysEnter: 138, BackendSysExit: 138, BackendSockOps: 150, BackendSockCreate: 150,
	BackendSockRelease: 150, BackendTp: 138, BackendFmodRet: 195, BackendLSM: 180,
	BackendConnect4: 150, BackendConnect6: 150, BackendBind4: 150, BackendBind6: 150,
}

const (
	costStart      = 25   // which rules are on
	costTest       = 15   // an integer in a register against all values of all selectors
	costLoad       = 40   // a load through memory
	costDescriptor = 120  // a descriptor in the table of the task
	costBits       = 120  // the sets of a process
	costProperty   = 40   // capabilities, namespaces
	costObject     = 300  // sockets, credentials and the like
	costText       = 250  // a string of usual length
	costComponent  = 450  // a component of a path
	components     = 4    // of a usual path
	costSearch     = 1500 // looking for a string anywhere in another
	costPost       = 1000 // record, statistics, rate limit, ring
	costStack      = 2500 // a stack
	costVerity     = 600  // what fs-verity keeps with a file
	costHash       = 4000 // what IMA keeps with a file; to read the file comes on top
)

// readCost is what it costs to have a value at hand.
func (v *Value) readCost() int {
	c := costLoad * len(v.Source.Steps)
	if v.Source.Kind == SourceFdFile {
		c += costDescriptor
	}
	switch v.Type {
	case TypeInt:
		return c
	case TypeFile, TypePath, TypeFd, TypeDentry, TypeKiocb, TypeBinprm:
		return c + components*costComponent
	case TypeString, TypeBytes, TypeIovec, TypeIovIter, TypeFilename, TypeNetDevice, TypeDataLoc, TypeWords:
		return c + costText
	}
	return c + costObject
}

// look is one thing that selectors look at.
type look struct {
	what  string
	cost  int
	rules map[int]bool
	texts []string
}

// looks lists what the rules look at, in the order in which the program does: cheapest first.
func (h *Hook) looks() []look {
	index := make(map[string]int)
	var out []look
	for r := range h.Rules {
		for i := range h.Rules[r].Filters {
			f := &h.Rules[r].Filters[i]
			key, what, cost := h.look(f)
			at, ok := index[key]
			if !ok {
				at = len(out)
				index[key] = at
				out = append(out, look{what: what, rules: make(map[int]bool)})
			}
			l := &out[at]
			l.cost = max(l.cost, cost)
			l.rules[r] = true
			if f.Text != "" && !slices.Contains(l.texts, f.Text) {
				l.texts = append(l.texts, f.Text)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b look) int { return cmp.Compare(a.cost, b.cost) })
	return out
}

func (h *Hook) look(f *Filter) (key, what string, cost int) {
	switch {
	case f.Kind == FilterClass:
		return fmt.Sprint("class", f.Of), "which program the process runs", costBits
	case f.Task == TaskPid:
		return "pid", "the pid", costTest + 10
	case f.Task == TaskHost:
		return "host", "whether the process is in a container", costProperty + costTest
	case f.Task == TaskVerdict:
		return fmt.Sprint("verdict", f.Verdict), "whether this policy has ordered something for the system call", costProperty + costTest
	case f.Task != TaskNone && f.Task < TaskFieldCount:
		return fmt.Sprint("task", f.Task), "the process's " + strings.ReplaceAll(taskNames[f.Task], "_", " "), costProperty + costTest
	case f.Kind == FilterExpr:
		for _, v := range f.ValuesUsed() {
			if v >= 0 && v < len(h.Values) {
				cost += h.Values[v].readCost()
			}
		}
		return "expression " + f.Expr.String(), "an expression", cost + costTest
	case f.Kind == FilterDigest && f.Field == FieldVerity:
		return "verity", "the digest that fs-verity keeps with the file", costVerity
	case f.Kind == FilterDigest:
		return "hash", "the hash of the file, for which all of it may have to be read; last, only if everything else fits", costHash
	case f.Value < 0 || f.Value >= len(h.Values):
		return "unknown", "unknown", 0
	}
	v := &h.Values[f.Value]
	cost = v.readCost() + costTest
	switch f.Kind {
	case FilterContains, FilterContainsFold:
		cost += costSearch
	case FilterGained:
		cost += costLoad
	}
	return fmt.Sprint("value", f.Value), h.nameOf(f.Value), cost
}

// nameOf says what a value is for the reader of the policy.
func (h *Hook) nameOf(v int) string {
	for i := range h.Args {
		if h.Args[i].Value == v {
			return argName("args", i, &h.Args[i])
		}
	}
	for i := range h.Data {
		if h.Data[i].Value == v {
			return argName("data", i, &h.Data[i])
		}
	}
	if h.Return != nil && h.Return.Value == v {
		return "the return value (" + h.Return.Type + ")"
	}
	return "a value that only selectors look at (" + h.Values[v].Type.String() + ")"
}

func argName(list string, i int, a *Arg) string {
	s := fmt.Sprintf("%s[%d] (%s", list, i, a.Type)
	if a.Label != "" {
		s += ", " + a.Label
	}
	return s + ")"
}

func (h *Hook) explain(b *strings.Builder) {
	fmt.Fprintf(b, "%s[%d]: %s\n", h.Section, h.Index, h.Name)
	line := func(word, format string, args ...any) {
		fmt.Fprintf(b, "  %-9s %s\n", word, fmt.Sprintf(format, args...))
	}
	if h.Inactive != "" {
		line("inactive", "%s", h.Inactive)
		for _, t := range h.Tried {
			line("not", "%s: %s", t.Backend.Asked(), t.Why)
		}
		return
	}
	where := "unknown"
	if h.Attach.Backend < BackendCount && backendWords[h.Attach.Backend] != "" {
		where = backendWords[h.Attach.Backend]
	}
	line("runs", "%s", where)
	line("", "%s", h.Attach.String())
	if h.Guards != "" {
		line("guards", "%s, which this policy hooks: it denies what was ordered there", h.Guards)
	}
	for i := range h.Attach.When {
		line("", "only when %s", h.Attach.When[i].String())
	}
	for _, t := range h.Tried {
		line("not", "%s: %s", t.Backend.Asked(), t.Why)
	}
	for _, c := range h.Caveats {
		line("mind", "%s", c)
	}
	if h.onlySignals() {
		line("mind", "a signal ends the process when the call returns to it, not the call: what it was about to do may still happen")
	}
	if h.excludesPaths() {
		line("mind", "files without a path, such as pipes and sockets, pass a negative test of it")
	}
	h.explainReads(line)
	looks := h.looks()
	h.explainRules(line, looks)
	first, last, post := h.estimate(looks)
	switch {
	case !h.tells():
		line("costs", "about %d to %d instructions a call; no event is made", first, last)
	case len(looks) == 0:
		line("costs", "about %d instructions a call: every call is told", post)
	case first == last:
		line("costs", "about %d instructions for a call that no selector wants, about %d for one that is told", first, post)
	default:
		line("costs", "about %d instructions for a call that the first test rejects, %d if it is the last, about %d for one that is told", first, last, post)
	}
}

func (h *Hook) explainReads(line func(word, format string, args ...any)) {
	word := "tells"
	tell := func(name string, v int) {
		if v < 0 {
			return
		}
		from := "unknown"
		if v < len(h.Values) {
			from = h.Values[v].Source.words()
		}
		line(word, "%s: %s", name, from)
		word = ""
	}
	for i := range h.Args {
		tell(argName("args", i, &h.Args[i]), h.Args[i].Value)
	}
	for i := range h.Data {
		tell(argName("data", i, &h.Data[i]), h.Data[i].Value)
	}
	if h.Return != nil {
		tell("the return value ("+h.Return.Type+")", h.Return.Value)
	}
	if word != "" {
		line(word, "that the call was made, and by whom; no arguments")
	}
}

func (h *Hook) explainRules(line func(word, format string, args ...any), looks []look) {
	word := "looks at"
	for i, l := range looks {
		line(word, "%d. %s, about %d instructions", i+1, l.what, l.cost)
		word = ""
	}
	for i := range h.Rules {
		r := &h.Rules[i]
		name := fmt.Sprintf("selector %d", r.Selector)
		if r.Label != "" {
			name += fmt.Sprintf(" (%s)", r.Label)
		}
		var conds []string
		for j := range r.Filters {
			text := r.Filters[j].Text
			if text == "" {
				text = h.filter(&r.Filters[j])
			}
			conds = append(conds, text)
		}
		word := "decides"
		if i > 0 {
			word = "else"
		}
		if len(conds) == 0 {
			line(word, "%s, always: %s", name, h.does(&r.Do))
			continue
		}
		line(word, "%s, if %s: %s", name, strings.Join(conds, " and "), h.does(&r.Do))
	}
}

// words says where a value comes from.
func (s *Source) words() string {
	var from string
	switch s.Kind {
	case SourceArg:
		from = fmt.Sprintf("parameter %d", s.N)
	case SourceReg:
		from = fmt.Sprintf("argument %d of the system call", s.N)
	case SourceReturn:
		from = "what is returned"
	case SourceErr:
		from = fmt.Sprintf("what is returned if it is an error, else %d", s.N)
	case SourceField, SourceFieldAddr:
		from = fmt.Sprintf("the record at byte %d", s.Off)
	case SourceConst:
		return fmt.Sprintf("always %d", s.N)
	case SourceTask:
		from = "the current task"
	case SourceCred:
		from = "the credentials of the current task"
	case SourceSyscall:
		from = "the number of the system call"
	case SourceFdFile:
		from = fmt.Sprintf("the file behind the descriptor in argument %d", s.N)
		if s.N < 0 {
			from = "the file behind the descriptor that is returned"
		}
	case SourceRegister:
		from = "a register"
	default:
		return "unknown"
	}
	user := false
	for i := range s.Steps {
		user = user || s.Steps[i].User
	}
	switch n := len(s.Steps); {
	case n > 0 && user:
		from += fmt.Sprintf(", through %s of the process's memory", count(n, "load"))
	case n > 0:
		from += fmt.Sprintf(", through %s", count(n, "load"))
	}
	return from
}

// signalNames are those that people know by name.
var signalNames = map[int]string{1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 6: "SIGABRT", 10: "SIGUSR1", 12: "SIGUSR2", 15: "SIGTERM", 18: "SIGCONT", 19: "SIGSTOP"}

func signalName(n int) string {
	switch {
	case n == 9:
		return "SIGKILL"
	case signalNames[n] != "":
		return signalNames[n]
	}
	return fmt.Sprintf("signal %d", n)
}

// does says what a rule orders.
func (h *Hook) does(a *Actions) string {
	words := []string{"an event"}
	if !a.Post {
		words[0] = "no event"
	}
	if a.RateLimit > 0 {
		by := "?"
		if int(a.Scope) < len(scopeNames) {
			by = []string{"thread", "process", "machine"}[a.Scope]
		}
		words = append(words, fmt.Sprintf("the same one at most once in %s by %s", a.RateLimit, by))
	}
	if a.Aggregate > 0 {
		words = append(words, fmt.Sprintf("the same one again in %s by the process is counted in the kernel, and told with the others", a.Aggregate))
	}
	if a.KernelStack {
		words = append(words, "with the stack in the kernel")
	}
	if a.UserStack {
		words = append(words, "with the stack of the process")
	}
	if a.ImaHash {
		words = append(words, "with the hash of the file")
	}
	for _, u := range a.URLs {
		words = append(words, "for which the agent gets "+u)
	}
	for _, n := range a.Names {
		words = append(words, "for which the agent looks up "+n)
	}
	for _, t := range a.Track {
		if t.Forget {
			words = append(words, "whose socket it is is forgotten")
		} else {
			words = append(words, "the process is remembered as the owner of "+h.nameOf(t.Value))
		}
	}
	if a.Baseline {
		words = append(words, "and from now on what is found is what later changes are compared with")
	}
	return strings.Join(append(words, h.orders(a)...), ", ")
}

// Orders says what a rule does to the process that calls, in words; empty: nothing.
func (h *Hook) Orders(rule int) string { return strings.Join(h.orders(&h.Rules[rule].Do), ", ") }

func (h *Hook) orders(a *Actions) []string {
	var words []string
	for _, n := range a.Signals {
		switch {
		case n == 9:
			words = append(words, "the process is killed")
		case signalNames[n] != "":
			words = append(words, "the process gets "+signalNames[n])
		default:
			words = append(words, fmt.Sprintf("the process gets signal %d", n))
		}
	}
	if n := a.Notify; n != nil {
		what := "does not take place"
		switch {
		case n.Error == 0:
			what = "brings it " + signalName(n.Signal)
		case n.Signal != 0:
			what += " and brings it " + signalName(n.Signal)
		}
		words = append(words, "the thread's next call of the enforcer "+what)
	}
	if a.Set != nil {
		words = append(words, fmt.Sprintf("%s becomes %d in the memory of the process", h.nameOf(a.Set.Value), a.Set.To))
	}
	if a.Forget != 0 {
		words = append(words, "what the enforcer was told of the thread is forgotten")
	}
	switch {
	case a.Enforcer && a.Override && a.Later != 0:
		words = append(words, "the process gets the signal that was ordered, and what guards the system call denies it, if that was ordered")
	case a.Enforcer && a.Override:
		words = append(words, "the process gets the signal that was ordered, and the call does not take place, if that was ordered")
	case a.Enforcer && a.Kills:
		words = append(words, "the process gets the signal that was ordered, and is killed if the call was to be denied")
	case a.Enforcer:
		words = append(words, "the process gets the signal that was ordered")
	case a.Override && a.Later != 0:
		words = append(words, fmt.Sprintf("the system call is denied by what guards it, and returns %d", a.Error))
	case a.Override && a.From != 0:
		words = append(words, "the call is denied, with the error that was ordered")
	case a.Override:
		words = append(words, fmt.Sprintf("the call does not take place and returns %d", a.Error))
	}
	return words
}

// onlySignals says whether a rule sends signals and does not stop the call.
func (h *Hook) onlySignals() bool {
	return slices.ContainsFunc(h.Rules, func(r Rule) bool { return len(r.Do.Signals) > 0 && !r.Do.Override })
}

// excludesPaths says whether a path is tested for what it must not be.
func (h *Hook) excludesPaths() bool {
	for i := range h.Rules {
		for j := range h.Rules[i].Filters {
			f := &h.Rules[i].Filters[j]
			if !f.Not || f.Task != TaskNone || f.Kind < FilterEqual || f.Kind > FilterContainsFold || f.Value < 0 || f.Value >= len(h.Values) {
				continue
			}
			switch h.Values[f.Value].Type {
			case TypeFile, TypePath, TypeFd, TypeDentry, TypeKiocb, TypeBinprm:
				return true
			}
		}
	}
	return false
}

// tells says whether any rule makes an event.
func (h *Hook) tells() bool {
	return slices.ContainsFunc(h.Rules, func(r Rule) bool { return r.Do.Post })
}

// Estimate says what a call costs in instructions: if it is rejected by the first test, by the last one, or told.
func (h *Hook) Estimate() (first, last, post int) { return h.estimate(h.looks()) }

func (h *Hook) estimate(looks []look) (first, last, post int) {
	if h.Attach.Backend >= BackendCount {
		return 0, 0, 0
	}
	attach := backendCost[h.Attach.Backend] + costStart
	for i := range h.Attach.When {
		w := &h.Attach.When[i].Source
		attach += costTest + costLoad*len(w.Steps)
		if w.Kind == SourceFdFile {
			attach += costDescriptor
		}
	}
	first, last = attach, attach
	// A test rejects the call if every rule looks at it; until then rules of other kinds stay alive.
	alive := make(map[int]bool)
	for i := range h.Rules {
		alive[i] = true
	}
	rejected := false
	for _, l := range looks {
		last += l.cost
		if rejected {
			continue
		}
		first += l.cost
		for r := range l.rules {
			delete(alive, r)
		}
		rejected = len(alive) == 0
	}
	post = last + costPost
	read := make(map[int]bool)
	add := func(v int) {
		if v >= 0 && v < len(h.Values) && !read[v] && !h.looked(v) {
			post += h.Values[v].readCost()
		}
		read[v] = true
	}
	for i := range h.Args {
		add(h.Args[i].Value)
	}
	for i := range h.Data {
		add(h.Data[i].Value)
	}
	if h.Return != nil {
		add(h.Return.Value)
	}
	for i := range h.Rules {
		if d := &h.Rules[i].Do; d.Post && (d.KernelStack || d.UserStack) {
			post += costStack
			break
		}
	}
	return first, last, post
}

// looked says whether a filter has read the value already.
func (h *Hook) looked(v int) bool {
	for i := range h.Rules {
		for j := range h.Rules[i].Filters {
			f := &h.Rules[i].Filters[j]
			if slices.Contains(f.ValuesUsed(), v) {
				return true
			}
		}
	}
	return false
}
