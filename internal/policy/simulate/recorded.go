// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tetragon/internal/policy/plan"
)

// event is what is read of a line of an export; its names are those of the wire contract.
type event struct {
	Kprobe     *call     `json:"process_kprobe"`
	Tracepoint *call     `json:"process_tracepoint"`
	Uprobe     *call     `json:"process_uprobe"`
	Usdt       *call     `json:"process_usdt"`
	LSM        *call     `json:"process_lsm"`
	Loader     *struct{} `json:"process_loader"`
}

// call is process_kprobe, process_tracepoint, process_uprobe or process_usdt.
type call struct {
	Process   process    `json:"process"`
	Parent    *process   `json:"parent"`
	Ancestors []process  `json:"ancestors"`
	Function  string     `json:"function_name"`
	Subsys    string     `json:"subsys"`
	Event     string     `json:"event"`
	Path      string     `json:"path"`
	Symbol    string     `json:"symbol"`
	Offset    string     `json:"offset"`
	Provider  string     `json:"provider"`
	Probe     string     `json:"name"`
	Policy    string     `json:"policy_name"`
	Args      []argument `json:"args"`
	Data      []argument `json:"data"`
	Return    argument   `json:"return"`
	Hash      string     `json:"ima_hash"`
}

type process struct {
	Pid    *uint32 `json:"pid"`
	Binary string  `json:"binary"`
	Docker string  `json:"docker"`
	Cap    *struct {
		Permitted   []string `json:"permitted"`
		Effective   []string `json:"effective"`
		Inheritable []string `json:"inheritable"`
	} `json:"cap"`
	NS map[string]*struct {
		Inum   uint32 `json:"inum"`
		IsHost bool   `json:"is_host"`
	} `json:"ns"`
}

// argument is one argument: the name of its kind, and its value.
type argument map[string]json.RawMessage

// told is what an event tells of a call.
type told struct {
	plan   *plan.Plan
	hook   *plan.Hook
	call   *call
	values []Value
	known  []bool
	notes  []string
}

func (t *told) note(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(t.notes, s) {
		t.notes = append(t.notes, s)
	}
}

// read finds the values of the hook among the arguments of the event.
func (t *told) read() {
	if p := t.call.Policy; p != "" && p != t.plan.Policy {
		t.note("recorded by policy %s, whose arguments are taken for those of %s", p, t.plan.Policy)
	}
	args, ret := t.call.Args, t.call.Return
	if n := len(args); t.hook.Event == plan.EventUprobe && t.hook.Return != nil && t.hook.Return.Value >= 0 && n > 0 {
		args, ret = args[:n-1], args[n-1] // what was returned comes behind what was given
	}
	t.readList("args", t.hook.Args, args)
	t.readList("data", t.hook.Data, t.call.Data)
	if t.hook.Return != nil && len(ret) > 0 {
		t.readOne("return", t.hook.Return, ret)
	}
}

func (t *told) readList(what string, want []plan.Arg, got []argument) {
	var shown []*plan.Arg
	for i := range want {
		if want[i].Value >= 0 {
			shown = append(shown, &want[i])
		}
	}
	if len(shown) != len(got) {
		t.note("the event has %d of the %d %s of the hook; they are not looked at", len(got), len(shown), what)
		return
	}
	for i, a := range shown {
		t.readOne(what, a, got[i])
	}
}

func (t *told) readOne(what string, a *plan.Arg, got argument) {
	if a.Value >= len(t.values) {
		return
	}
	v, class, err := got.value()
	if want := classOf(t.hook.Values[a.Value].Type); err == nil && class != want && class != "error" {
		err = fmt.Errorf("it is %s, not %s", class, want)
	}
	if err != nil {
		t.note("%s %d (%s) is not looked at: %v", what, a.Index, a.Type, err)
		return
	}
	t.values[a.Value], t.known[a.Value] = v, true
}

// classOf says in which way a type is compared.
func classOf(t plan.Type) string {
	switch t {
	case plan.TypeInt:
		return "a number"
	case plan.TypeSock, plan.TypeSocket, plan.TypeSkb, plan.TypeSockaddr:
		return "an address"
	case plan.TypeString, plan.TypeBytes, plan.TypeIovec, plan.TypeIovIter, plan.TypeFilename, plan.TypeFile, plan.TypePath, plan.TypeFd,
		plan.TypeDentry, plan.TypeKiocb, plan.TypeBinprm, plan.TypeSockaddrUn, plan.TypeNetDevice, plan.TypeDataLoc:
		return "a text"
	}
	return "an object"
}

// value reads an argument.
func (a argument) value() (v Value, class string, err error) {
	for kind, raw := range a {
		if kind == "label" {
			continue
		}
		switch kind {
		case "int_arg", "uint_arg", "long_arg", "size_arg":
			v.Int, err = number64(raw)
			return v, "a number", err
		case "capability_arg":
			var x struct {
				Value int32 `json:"value"`
			}
			err = json.Unmarshal(raw, &x)
			v.Int = uint64(int64(x.Value))
			return v, "a number", err
		case "syscall_id":
			var x struct {
				ID  uint32 `json:"id"`
				ABI string `json:"abi"`
			}
			err = json.Unmarshal(raw, &x)
			if v.Int = uint64(x.ID); x.ABI == "i386" || x.ABI == "arm32" {
				v.Int |= 1 << 31
			}
			return v, "a number", err
		case "kernel_cap_t_arg", "cap_inheritable_arg", "cap_permitted_arg", "cap_effective_arg":
			var s string
			if err = json.Unmarshal(raw, &s); err == nil {
				v.Int, err = strconv.ParseUint(s, 16, 64)
			}
			return v, "a number", err
		case "string_arg":
			var s string
			err = json.Unmarshal(raw, &s)
			if v.Text = []byte(s); strings.ContainsRune(s, '\ufffd') {
				err = fmt.Errorf("some of its bytes were not valid text, and are lost")
			}
			return v, "a text", err
		case "bytes_arg":
			err = json.Unmarshal(raw, &v.Text)
			return v, "a text", err
		case "truncated_bytes_arg":
			var x struct {
				Bytes []byte `json:"bytes_arg"`
			}
			err = json.Unmarshal(raw, &x)
			v.Text = x.Bytes
			return v, "a text", err
		case "file_arg", "path_arg", "linux_binprm_arg":
			var x struct {
				Path, Permission string
			}
			err = json.Unmarshal(raw, &x)
			v.Text, v.Mode = []byte(x.Path), fileMode(x.Permission)
			return v, "a text", err
		case "sockaddrun_arg":
			var x struct{ Family, Path string }
			err = json.Unmarshal(raw, &x)
			v.Net.Family, err = word16(x.Family, familyNames, err)
			if v.Text = []byte(x.Path); strings.HasPrefix(x.Path, "@") { // so are abstract names shown
				v.Text[0] = 0
			}
			return v, "a text", err
		case "sock_arg", "skb_arg", "sockaddr_arg":
			v.Net, err = network(kind, raw)
			return v, "an address", err
		case "error_arg":
			v.Bad = true
			return v, "error", nil
		}
		return v, "an object", nil
	}
	return v, "", fmt.Errorf("it has no value")
}

// number64 reads a number that may stand in quotes, as those of 64 bits do.
func number64(raw json.RawMessage) (uint64, error) {
	s := strings.Trim(string(raw), `"`)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return uint64(n), nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", s)
	}
	return n, nil
}

// fileMode reads the type of a file from how its permissions are shown.
func fileMode(s string) uint32 {
	if s == "" {
		return 0
	}
	return map[byte]uint32{'-': 0o100000, 'd': 0o40000, 'l': 0o120000, 'b': 0o60000, 'c': 0o20000, 'p': 0o10000, 's': 0o140000}[s[0]]
}

func network(kind string, raw json.RawMessage) (Net, error) {
	var x struct {
		Family, Type, Protocol, State string
		Saddr, Daddr, Addr            string
		Sport, Dport, Port            uint16
	}
	err := json.Unmarshal(raw, &x)
	n := Net{Sport: x.Sport, Dport: x.Dport}
	if kind == "sockaddr_arg" {
		n.Sport, x.Saddr = x.Port, x.Addr
	}
	n.Family, err = word16(x.Family, familyNames, err)
	n.SockType, err = word16(x.Type, typeNames, err)
	n.Protocol, err = word16(x.Protocol, protocolNames, err)
	state, err := word16(x.State, stateNames, err)
	n.State = uint8(state)
	for to, s := range map[*[16]byte]string{&n.Saddr: x.Saddr, &n.Daddr: x.Daddr} {
		if a, errAddr := netip.ParseAddr(s); errAddr == nil { // those of other families are no addresses
			SetAddr(to, a)
		}
	}
	return n, err
}

// word16 reads a name, or the number of what has none.
func word16(s string, names map[string]uint16, err error) (uint16, error) {
	if err != nil || s == "" {
		return 0, err
	}
	if n, ok := names[s]; ok {
		return n, nil
	}
	n, errNumber := strconv.ParseUint(s, 10, 16)
	if errNumber != nil {
		return 0, fmt.Errorf("%q is not known", s)
	}
	return uint16(n), nil
}

// task returns a property of the process; why: what the event does not tell.
func (t *told) task(f plan.Task) (n uint64, why string) {
	p := &t.call.Process
	switch f {
	case plan.TaskPid:
		if p.Pid != nil {
			return uint64(*p.Pid), ""
		}
		return 0, "the event does not have the process id"
	case plan.TaskCapEffective, plan.TaskCapPermitted, plan.TaskCapInheritable:
		if p.Cap == nil {
			return 0, "the event does not have the capabilities of the process (--enable-process-cred)"
		}
		t.note("capabilities are those at exec")
		return capabilitySet(map[plan.Task][]string{
			plan.TaskCapEffective: p.Cap.Effective, plan.TaskCapPermitted: p.Cap.Permitted, plan.TaskCapInheritable: p.Cap.Inheritable,
		}[f])
	case plan.TaskHostUserNS:
		ns := p.NS["user"]
		if ns == nil {
			return 0, "the event does not have the namespaces of the process (--enable-process-ns)"
		}
		t.note("namespaces are those at exec")
		if ns.IsHost {
			return 1, ""
		}
		return 0, ""
	}
	if f == plan.TaskHost {
		if p.Docker == "" {
			return 1, ""
		}
		return 0, ""
	}
	if name := namespaceFields[f]; name != "" {
		ns := p.NS[name]
		if ns == nil {
			return 0, "the event does not have the namespaces of the process (--enable-process-ns)"
		}
		t.note("namespaces are those at exec")
		return uint64(ns.Inum), ""
	}
	return 0, "events do not tell it"
}

var namespaceFields = map[plan.Task]string{
	plan.TaskNsUts: "uts", plan.TaskNsIpc: "ipc", plan.TaskNsMnt: "mnt", plan.TaskNsPidNs: "pid",
	plan.TaskNsPidForChildren: "pid_for_children", plan.TaskNsNet: "net", plan.TaskNsTime: "time",
	plan.TaskNsTimeForChildren: "time_for_children", plan.TaskNsCgroup: "cgroup", plan.TaskNsUser: "user",
}

func capabilitySet(names []string) (mask uint64, why string) {
	for _, n := range names {
		i := slices.Index(capabilityNames, strings.TrimPrefix(n, "CAP_"))
		if i < 0 {
			return 0, "capability " + n + " is not known"
		}
		mask |= 1 << i
	}
	return mask, ""
}

// class says whether the process is in a set by a relation.
func (t *told) class(f *plan.Filter) (in bool, why string) {
	if f.Set < 0 || f.Set >= len(t.plan.Sets) {
		return false, "the plan has no such set"
	}
	set := &t.plan.Sets[f.Set]
	line := []*process{&t.call.Process}
	if t.call.Parent != nil {
		line = append(line, t.call.Parent)
		for i := range t.call.Ancestors {
			line = append(line, &t.call.Ancestors[i])
		}
	}
	complete := false // the line ends with the first process
	if last := line[len(line)-1]; last.Pid != nil && *last.Pid == 1 {
		complete = true
	}
	switch f.Of {
	case plan.OfSelf:
		line, complete = line[:1], true
	case plan.OfParent:
		if len(line) < 2 {
			return false, "the event does not have the parent"
		}
		line, complete = line[1:2], true
	case plan.OfAncestor:
		line = line[1:]
	}
	for _, p := range line {
		is, told := within(set, p)
		switch {
		case is:
			return true, ""
		case !told:
			complete = false
		}
	}
	if !complete {
		return false, "the event does not have all that is needed of the process and its ancestors"
	}
	return false, ""
}

// within says whether a process is in a set, and whether the event tells.
func within(s *plan.Set, p *process) (is, told bool) {
	switch s.Kind {
	case plan.SetPids:
		return p.Pid != nil && slices.Contains(s.Pids, *p.Pid), p.Pid != nil
	case plan.SetPaths, plan.SetPrefix, plan.SetSuffix:
		if p.Binary == "" {
			return false, false
		}
		for _, want := range s.Paths {
			switch {
			case s.Kind == plan.SetPaths && p.Binary == want,
				s.Kind == plan.SetPrefix && strings.HasPrefix(p.Binary, want),
				s.Kind == plan.SetSuffix && strings.HasSuffix(p.Binary, want):
				return true, true
			}
		}
		return false, true
	}
	return false, false
}
