// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"tetragon/api/v1/tetragon"
)

// CompactOptions say how Compact writes.
type CompactOptions struct {
	Color       bool // with ANSI colours
	Timestamps  bool // the event's time in front of its line
	StackTraces bool // stacks below the line of a kprobe
	ImaHash     bool // hash of the file below the line of an LSM hook

	// Syscall finds the signature of a system call for raw_syscalls/sys_enter. nil, or false: the line says "unknown".
	Syscall func(abi string, id uint32) (Syscall, bool)
	// ABI is the one whose system calls are written with their arguments, for instance "x64".
	ABI string
}

// Syscall is the signature of a system call.
type Syscall struct {
	Name string
	Args []SyscallArg
}

// SyscallArg is one parameter; the type of a pointer ends in "*".
type SyscallArg struct{ Type, Name string }

// Glyphs with a variation selector, which no editor shows. It belongs to the contract: fd_install's mailbox has none.
const (
	glyphTracepoint = "\u2049\ufe0f"
	glyphUprobe     = "\U0001f575\ufe0f"
	glyphOpenat     = "\U0001f4ec\ufe0f"
)

// Compact writes events as lines for people. What comes from observed processes is quoted when it holds anything but
// printable characters, so a process cannot steer the reader's terminal. Safe for concurrent use.
type Compact struct {
	opts CompactOptions
}

// NewCompact returns an encoder.
func NewCompact(opts CompactOptions) *Compact { return &Compact{opts: opts} }

// Append adds the event to b as one or more lines, each with its end. On error b is returned as it was.
func (c *Compact) Append(b []byte, ev *tetragon.GetEventsResponse) ([]byte, error) {
	l := &compactLine{b: b, color: c.opts.Color}
	if c.opts.Timestamps {
		l.b = append(ev.GetTime().AsTime().UTC().AppendFormat(l.b, "2006-01-02T15:04:05.000000000Z"), ' ')
	}
	if err := c.event(l, ev); err != nil {
		return b, err
	}
	return l.b, nil
}

// Render is Append for an event in wire format, as event/export hands it to a writer. An event that cannot be shown
// leaves a line that says so.
func (c *Compact) Render(b, wire []byte) []byte {
	ev := &tetragon.GetEventsResponse{}
	err := proto.Unmarshal(wire, ev)
	if err == nil {
		b, err = c.Append(b, ev)
	}
	if err != nil {
		b = append(b, label("⚠", "error")+" "+safe("show event: "+err.Error())+"\n"...)
	}
	return b
}

func (c *Compact) event(l *compactLine, ev *tetragon.GetEventsResponse) error {
	switch e := ev.GetEvent().(type) {
	case *tetragon.GetEventsResponse_ProcessExec:
		x := e.ProcessExec
		return l.process(ev, x.GetProcess(), "🚀", "process", field{cyan, quoted(x.GetProcess().GetArguments())})
	case *tetragon.GetEventsResponse_ProcessExit:
		x := e.ProcessExit
		how := safe(x.GetSignal())
		if how == "" {
			how = strconv.FormatUint(uint64(x.GetStatus()), 10)
		}
		return l.process(ev, x.GetProcess(), "💥", "exit", field{cyan, quoted(x.GetProcess().GetArguments())}, field{red, how})
	case *tetragon.GetEventsResponse_ProcessLoader:
		x := e.ProcessLoader
		fields := []field{{yellow, quoted(x.GetPath())}}
		if len(x.GetBuildid()) > 0 {
			fields = []field{{none, hex.EncodeToString(x.GetBuildid())}, fields[0]}
		}
		return l.process(ev, x.GetProcess(), "🧬", "loader", fields...)
	case *tetragon.GetEventsResponse_ProcessThrottle:
		l.throttle(e.ProcessThrottle)
		return nil
	case *tetragon.GetEventsResponse_ProcessKprobe:
		return c.kprobe(l, ev, e.ProcessKprobe)
	case *tetragon.GetEventsResponse_ProcessTracepoint:
		x := e.ProcessTracepoint
		if x.GetSubsys() == "raw_syscalls" && x.GetEvent() == "sys_enter" {
			// The glyph is a narrow one that terminals draw wide, hence the second space.
			return l.process(ev, x.GetProcess(), "☎ ", "syscall", field{none, c.syscall(x.GetArgs())})
		}
		return l.process(ev, x.GetProcess(), glyphTracepoint, "tracepoint",
			field{none, safe(x.GetSubsys())}, field{none, safe(x.GetEvent())})
	case *tetragon.GetEventsResponse_ProcessUprobe:
		x := e.ProcessUprobe
		return l.process(ev, x.GetProcess(), glyphUprobe, "uprobe",
			field{none, quoted(x.GetPath())}, field{none, quoted(x.GetSymbol())})
	case *tetragon.GetEventsResponse_ProcessUsdt:
		x := e.ProcessUsdt
		return l.process(ev, x.GetProcess(), glyphUprobe, "usdt",
			field{none, quoted(x.GetPath())}, field{none, quoted(x.GetProvider())}, field{none, quoted(x.GetName())})
	case *tetragon.GetEventsResponse_ProcessLsm:
		return c.lsm(l, ev, e.ProcessLsm)
	case *tetragon.GetEventsResponse_Test:
		l.b = append(l.b, "TEST EVENT\n"...)
		return nil
	case *tetragon.GetEventsResponse_RateLimitInfo:
		l.losses(ev, e.RateLimitInfo)
		return nil
	}
	return errors.New("unknown event type: UNDEF")
}

// errNoProcess is what a client reads whose field filter took the process away; the text is part of the contract.
var errNoProcess = errors.New("process field is not set")

func (l *compactLine) throttle(x *tetragon.ProcessThrottle) {
	l.put(red, label("🧬", "throttle"))
	switch x.GetType() {
	case tetragon.ThrottleType_THROTTLE_START:
		l.fields(field{red, "START"})
	case tetragon.ThrottleType_THROTTLE_STOP:
		l.fields(field{green, "STOP "})
	default:
		l.fields(field{none, x.GetType().String()})
	}
	// Some agents leave the padding of the kernel's buffer in the name.
	l.fields(field{none, quoted(strings.TrimRight(x.GetCgroup(), "\x00"))})
	l.end()
}

// kprobe writes what is known of the function and, below, the stacks.
func (c *Compact) kprobe(l *compactLine, ev *tetragon.GetEventsResponse, x *tetragon.ProcessKprobe) error {
	glyph, name, fields := kprobeFields(x.GetFunctionName(), x.GetArgs())
	if err := l.process(ev, x.GetProcess(), glyph, name, fields...); err != nil || !c.opts.StackTraces {
		return err
	}
	if len(x.GetKernelStackTrace()) > 0 {
		l.b = append(l.b, "Kernel:\n"...)
		for _, s := range x.GetKernelStackTrace() {
			l.address(s)
			l.put(blue, quoted(s.GetSymbol()))
			l.put(none, "+")
			l.put(yellow, "0x"+strconv.FormatUint(s.GetOffset(), 16))
			l.end()
		}
	}
	if len(x.GetUserStackTrace()) > 0 {
		l.b = append(l.b, "User:\n"...)
		for _, s := range x.GetUserStackTrace() {
			l.address(s)
			if s.GetSymbol() != "" {
				l.put(blue, quoted(s.GetSymbol()))
				l.put(none, " ")
			}
			l.put(none, "("+quoted(s.GetModule())+"+")
			l.put(yellow, "0x"+strconv.FormatUint(s.GetOffset(), 16))
			l.put(none, ")")
			l.end()
		}
	}
	return nil
}

func (l *compactLine) address(s *tetragon.StackTraceEntry) {
	l.put(none, "   ")
	l.put(green, "0x"+strconv.FormatUint(s.GetAddress(), 16))
	l.put(none, ": ")
}

func (c *Compact) lsm(l *compactLine, ev *tetragon.GetEventsResponse, x *tetragon.ProcessLsm) error {
	err := l.process(ev, x.GetProcess(), "🔒", "LSM", field{none, safe(x.GetFunctionName())})
	if err != nil || !c.opts.ImaHash || x.GetImaHash() == "" {
		return err
	}
	var path string
	switch x.GetFunctionName() {
	case "bprm_check_security", "bprm_committed_creds", "bprm_committing_creds", "bprm_creds_for_exec",
		"bprm_creds_from_file":
		path = arg(x.GetArgs(), 0).GetLinuxBinprmArg().GetPath()
	case "file_ioctl", "file_lock", "file_open", "file_post_open", "file_receive", "mmap_file":
		path = arg(x.GetArgs(), 0).GetFileArg().GetPath()
	default:
		return nil
	}
	l.put(none, "   ")
	l.put(green, quoted(path))
	l.put(none, " ")
	l.put(blue, safe(x.GetImaHash()))
	l.end()
	return nil
}

// kprobeFields knows the functions that people hook most. The names of functions, glyphs and fields are a contract.
func kprobeFields(function string, args []*tetragon.KprobeArgument) (glyph, name string, fields []field) {
	for _, arch := range []string{"__x64_", "__arm64_", "__ia32_"} {
		if s, ok := strings.CutPrefix(function, arch); ok {
			function = s
			break
		}
	}
	a := func(i int) *tetragon.KprobeArgument { return arg(args, i) }
	plain := func(s string) field { return field{none, quoted(s)} }

	switch function {
	case "sys_write", "sys_read":
		size := ""
		if hasArg(a(2)) {
			size = strconv.FormatUint(a(2).GetSizeArg(), 10) + " bytes"
		}
		fields = []field{{cyan, quoted(path(a(0)))}, {cyan, size}}
		if function == "sys_write" {
			return "📝", "write", fields
		}
		return "📚", "read", fields
	case "fd_install":
		return "📬", "open", []field{plain(path(a(1)))}
	case "sys_openat":
		return glyphOpenat, "openat", []field{plain(a(1).GetStringArg())}
	case "sys_open":
		return glyphOpenat, "open", []field{plain(a(1).GetStringArg())}
	case "sys_close":
		return "📪", "close", []field{plain(path(a(0)))}
	case "sys_mount":
		return "💾", "mount", []field{plain(a(0).GetStringArg()), plain(a(1).GetStringArg())}
	case "sys_pivot_root":
		return "💾", "pivot_root", []field{plain(a(0).GetStringArg()), plain(a(1).GetStringArg())}
	case "sys_setuid":
		uid := ""
		if hasArg(a(0)) {
			uid = strconv.FormatInt(int64(a(0).GetIntArg()), 10)
		}
		return "🔑", "setuid", []field{{none, uid}}
	case "sys_clock_settime":
		return "⏰", "clock_settime", nil
	case "proc_exec_connector":
		return "🔧", "proc_exec_connector", nil
	case "sys_setns":
		kind := ""
		if hasArg(a(1)) {
			kind = namespaceKind(a(1).GetIntArg())
		}
		return "🔧", "setns", []field{{none, kind}}
	case "tcp_connect":
		return "🔌", "connect", []field{{cyan, connection(a(0))}}
	case "tcp_close":
		return "🧹", "close", []field{{cyan, connection(a(0))}}
	case "tcp_sendmsg":
		size := ""
		if hasArg(a(1)) {
			size = "bytes " + strconv.FormatInt(int64(a(1).GetIntArg()), 10)
		}
		return "📤", "sendmsg", []field{{cyan, connection(a(0))}, {none, size}}
	}
	return kprobeSecurityFields(function, args)
}

// kprobeSecurityFields continues kprobeFields with BPF and the hooks of security modules.
func kprobeSecurityFields(function string, args []*tetragon.KprobeArgument) (glyph, name string, fields []field) {
	a := func(i int) *tetragon.KprobeArgument { return arg(args, i) }
	switch function {
	case "bpf_check":
		text := ""
		if p := a(0).GetBpfAttrArg(); p != nil {
			text = fmt.Sprintf("%s %s instruction count %d", quoted(p.GetProgType()), quoted(p.GetProgName()), p.GetInsnCnt())
		}
		return "🐝", "bpf_load", []field{{none, text}}
	case "security_perf_event_alloc":
		text := ""
		if p := a(0).GetPerfEventArg(); p != nil {
			text = quoted(p.GetType()) + " " + quoted(p.GetKprobeFunc())
		}
		return "🐝", "perf_event_alloc", []field{{none, text}}
	case "security_bpf_map_alloc", "security_bpf_map_create":
		text := ""
		if m := a(0).GetBpfMapArg(); m != nil {
			text = fmt.Sprintf("%s %s key size %d value size %d max entries %d", quoted(m.GetMapType()),
				quoted(m.GetMapName()), m.GetKeySize(), m.GetValueSize(), m.GetMaxEntries())
		}
		return "🗺", "bpf_map_create", []field{{none, text}}
	case "security_file_permission":
		glyph, name = "❓", function
		switch a(1).GetIntArg() {
		case 2:
			glyph, name = "📝", "write"
		case 4:
			glyph, name = "📚", "read"
		}
		return glyph, name, []field{{none, quoted(path(a(0)))}}
	case "security_mmap_file":
		glyph, name = "❓", function
		if hasArg(a(1)) {
			glyph, name = "📝", "mmap-"
			for i, letter := range []string{"r", "w", "x"} {
				if a(1).GetUintArg()&(1<<i) != 0 {
					name += letter
				}
			}
		}
		return glyph, name, []field{{none, quoted(path(a(0)))}}
	case "security_path_truncate", "security_file_truncate":
		glyph, name = "📝", "truncate"
		if !hasArg(a(0)) {
			glyph, name = "❓", function
		}
		return glyph, name, []field{{none, quoted(path(a(0)))}}
	}
	return "❓", "syscall", []field{{none, safe(function)}}
}

// namespaceKind names the argument of setns.
func namespaceKind(flag int32) string {
	switch flag {
	case 0:
		return "any"
	case 0x80:
		return "time"
	case 0x20000:
		return "mnt"
	case 0x2000000:
		return "cgroup"
	case 0x4000000:
		return "uts"
	case 0x8000000:
		return "ipc"
	case 0x10000000:
		return "user"
	case 0x20000000:
		return "pid"
	case 0x40000000:
		return "net"
	}
	return ""
}

// connection writes both ends of a socket.
func connection(a *tetragon.KprobeArgument) string {
	s := a.GetSockArg()
	if s == nil {
		return ""
	}
	return fmt.Sprintf("tcp %s:%d -> %s:%d", safe(s.GetSaddr()), s.GetSport(), safe(s.GetDaddr()), s.GetDport())
}

// syscall writes a system call with its arguments.
func (c *Compact) syscall(args []*tetragon.KprobeArgument) string {
	abi, id, ok := c.opts.ABI, uint64(0), true
	switch x := arg(args, 0).GetArg().(type) {
	case *tetragon.KprobeArgument_SyscallId:
		id = uint64(x.SyscallId.GetId())
		abi = x.SyscallId.GetAbi()
	default:
		id, ok = number(arg(args, 0))
	}
	if !ok || c.opts.Syscall == nil || id > 1<<31 {
		return "unknown"
	}
	call, ok := c.opts.Syscall(abi, uint32(id))
	if !ok {
		return "unknown"
	}
	if abi != c.opts.ABI {
		return safe(abi) + "/" + call.Name
	}
	var sb strings.Builder
	sb.WriteString(call.Name)
	sb.WriteByte('(')
	for i, p := range call.Args {
		if i > 0 {
			sb.WriteString(", ")
		}
		sb.WriteString(p.Type)
		if !strings.HasSuffix(p.Type, "*") {
			sb.WriteByte(' ')
		}
		sb.WriteString(p.Name)
		sb.WriteByte('=')
		sb.WriteString(syscallValue(p.Type, arg(args, i+1)))
	}
	sb.WriteByte(')')
	return sb.String()
}

// syscallValue writes the register's value as the C type has it.
func syscallValue(ctype string, a *tetragon.KprobeArgument) string {
	v, ok := number(a)
	switch {
	case !ok:
		return "?"
	case strings.HasSuffix(ctype, "*"):
		return "0x" + strconv.FormatUint(v, 16)
	case ctype == "int" || ctype == "pid_t" || strings.HasSuffix(ctype, "clockid_t"):
		return strconv.FormatInt(int64(int32(v)), 10)
	case ctype == "unsigned int":
		return strconv.FormatUint(uint64(uint32(v)), 10)
	case ctype == "long" || ctype == "loff_t" || ctype == "off_t":
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatUint(v, 10)
}

// number reads an argument of any integer type.
func number(a *tetragon.KprobeArgument) (uint64, bool) {
	switch x := a.GetArg().(type) {
	case *tetragon.KprobeArgument_SizeArg:
		return x.SizeArg, true
	case *tetragon.KprobeArgument_LongArg:
		return uint64(x.LongArg), true
	case *tetragon.KprobeArgument_IntArg:
		return uint64(int64(x.IntArg)), true
	case *tetragon.KprobeArgument_UintArg:
		return uint64(x.UintArg), true
	}
	return 0, false
}

// arg returns argument i, or nil; generated getters accept nil.
func arg(args []*tetragon.KprobeArgument, i int) *tetragon.KprobeArgument {
	if i < len(args) {
		return args[i]
	}
	return nil
}

func hasArg(a *tetragon.KprobeArgument) bool { return a.GetArg() != nil }

func path(a *tetragon.KprobeArgument) string {
	if p := a.GetPathArg(); p != nil {
		return p.GetPath()
	}
	return a.GetFileArg().GetPath()
}

// compactLine builds the lines of one event.
type compactLine struct {
	b     []byte
	color bool
	width int // bytes of the current line, colours not counted
}

// color is an ANSI foreground colour.
type color uint8

const (
	none    color = 0
	red     color = 31
	green   color = 32
	yellow  color = 33
	blue    color = 34
	magenta color = 35
	cyan    color = 36
)

// field is one part of a line, ready to be shown.
type field struct {
	color color
	text  string
}

func (l *compactLine) put(c color, s string) {
	l.width += len(s)
	if !l.color || c == none || s == "" {
		l.b = append(l.b, s...)
		return
	}
	l.b = append(l.b, "\x1b["...)
	l.b = strconv.AppendUint(l.b, uint64(c), 10)
	l.b = append(l.b, 'm')
	l.b = append(l.b, s...)
	l.b = append(l.b, "\x1b[0m"...)
}

// fields adds each field behind a space; an empty one leaves its space.
func (l *compactLine) fields(fs ...field) {
	for _, f := range fs {
		l.put(none, " ")
		l.put(f.color, f.text)
	}
}

func (l *compactLine) end() {
	l.b = append(l.b, '\n')
	l.width = 0
}

// process writes the line of an event that has a process.
func (l *compactLine) process(ev *tetragon.GetEventsResponse, p *tetragon.Process, glyph, name string, fs ...field) error {
	if p == nil {
		return errNoProcess
	}
	source := quoted(ev.GetNodeName())
	if pod := p.GetPod(); pod != nil {
		source = safe(pod.GetNamespace()) + "/" + safe(pod.GetName())
	}
	l.put(blue, label(glyph, name))
	l.fields(field{green, source}, field{magenta, quoted(p.GetBinary())})
	l.fields(fs...)
	if n := aggregated(ev).GetCount(); n > 0 {
		l.fields(field{yellow, "+" + strconv.FormatUint(n, 10) + " equal"})
	}
	l.admin(p)
	l.end()
	return nil
}

// aggregated is how many calls an event tells of; nil: one.
func aggregated(ev *tetragon.GetEventsResponse) *tetragon.Aggregation {
	for _, x := range [...]interface{ GetAggregated() *tetragon.Aggregation }{
		ev.GetProcessKprobe(), ev.GetProcessTracepoint(), ev.GetProcessLsm(), ev.GetProcessUprobe(), ev.GetProcessUsdt(),
	} {
		if a := x.GetAggregated(); a != nil {
			return a
		}
	}
	return nil
}

// admin marks processes that may do anything, at the right edge of a line of 120 bytes.
func (l *compactLine) admin(p *tetragon.Process) {
	const (
		mark = "🛑 CAP_SYS_ADMIN"
		edge = 120
	)
	for _, c := range p.GetCap().GetEffective() {
		if c == tetragon.CapabilitiesType_CAP_SYS_ADMIN {
			l.put(none, strings.Repeat(" ", max(1, edge-l.width-len(mark)))+mark)
			return
		}
	}
}

// label is the glyph and the name, which is padded to seven characters.
func label(glyph, name string) string { return fmt.Sprintf("%s %-7s", glyph, name) }

// quoted returns s as it is when it is one printable word, and as a Go string literal otherwise.
func quoted(s string) string {
	if strings.ContainsRune(s, ' ') {
		return strconv.Quote(s)
	}
	return safe(s)
}

// safe returns s as it is unless it holds what is not printable, which names that obey their rules never do.
func safe(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// losses tells that events did not come through: one line for each kind and reason, or the bare number of an agent that
// knows no more.
func (l *compactLine) losses(ev *tetragon.GetEventsResponse, x *tetragon.RateLimitInfo) {
	line := func(text string) {
		l.put(red, label("⚠", "lost"))
		l.fields(field{green, quoted(ev.GetNodeName())}, field{none, text})
		l.end()
	}
	rest := x.GetNumberOfDroppedProcessEvents()
	for _, loss := range x.GetLosses() {
		line(fmt.Sprintf("%d %s (%s) %s - %s", loss.GetCount(), quoted(loss.GetEvent()), quoted(loss.GetReason()),
			loss.GetSince().AsTime().Format(time.RFC3339Nano), loss.GetUntil().AsTime().Format(time.RFC3339Nano)))
		rest -= min(rest, loss.GetCount())
	}
	if rest > 0 || len(x.GetLosses()) == 0 {
		line(strconv.FormatUint(rest, 10) + " events")
	}
}
