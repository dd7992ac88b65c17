// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event"
	"tetragon/internal/event/decode"
	"tetragon/internal/event/enrich"
	"tetragon/internal/metrics"
	"tetragon/internal/process"
)

// offset is what the wall clock is ahead of the boot clock in these tests.
const offset = 1_000_000_000

// image is a process as the kernel half would tell of it; times are boot clock.
type image struct {
	pid    uint32
	start  uint64 // of the thread group
	ktime  uint64 // start when 0
	parent event.Key
	pstart uint64 // start of the parent
	time   uint64 // of the record; ktime when 0
	flags  uint16
	texts  abitest.Texts
	with   func(*abi.Exec)
}

func (i image) record(kind uint16) []byte {
	if i.ktime == 0 {
		i.ktime = i.start
	}
	if i.time == 0 {
		i.time = i.ktime
	}
	x := abi.Exec{
		H:     abi.Head{Flags: i.flags, Pid: i.pid, Time: i.time, Ktime: i.ktime},
		Start: i.start, ParentKtime: i.parent.Ktime, ParentPid: i.parent.Pid, ParentStart: i.pstart, Auid: 4294967295, Nlink: 1,
	}
	if i.with != nil {
		i.with(&x)
	}
	return abitest.Exec(kind, x, i.texts)
}

func (i image) exec() []byte { return i.record(abi.KindExec) }
func (i image) snap() []byte { return i.record(abi.KindSnapshot) }

func fork(pid uint32, ktime uint64, parent event.Key) []byte {
	return abitest.Record(abi.Fork{
		H:           abi.Head{Kind: abi.KindFork, Pid: pid, Time: ktime, Ktime: ktime},
		ParentKtime: parent.Ktime, ParentPid: parent.Pid,
	})
}

func exit(pid uint32, ktime, at uint64, code uint32) []byte {
	return abitest.Record(abi.Exit{H: abi.Head{Kind: abi.KindExit, Pid: pid, Time: at, Ktime: ktime}, Code: code})
}

func snapEnd(at uint64) []byte { return abitest.Record(abi.Head{Kind: abi.KindSnapEnd, Time: at}) }

// lane is an Enricher with what surrounds it.
type lane struct {
	t      testing.TB
	e      *enrich.Enricher
	tab    *process.Table
	ledger *metrics.Ledger
}

func newLane(t testing.TB, o enrich.Options) *lane {
	t.Helper()
	l := &lane{t: t, tab: process.New(process.Options{}), ledger: metrics.NewLedger()}
	o.Table, o.Ledger = l.tab, l.ledger
	l.e = enrich.New(o)
	return l
}

// shell is what the processes of most tests come from; it is there from the start.
var shell = event.Key{Pid: 50, Ktime: 500}

var shellImage = image{pid: 50, start: 500, parent: event.Key{Pid: 1}, texts: abitest.Texts{Path: "/bin/sh", Cwd: "/root", Args: []string{"sh"}}}

// started returns a lane that knows pid 1 and shell.
func started(t testing.TB, o enrich.Options) *lane {
	t.Helper()
	l := newLane(t, o)
	l.feed(image{pid: 1, start: 10, texts: abitest.Texts{Path: "/sbin/init", Args: []string{"init"}}}.snap(), shellImage.snap(), snapEnd(900))
	return l
}

// feed is one batch. The events are copies.
func (l *lane) feed(recs ...[]byte) []event.Event {
	l.t.Helper()
	l.e.Begin(offset)
	var r decode.Record
	for _, raw := range recs {
		if err := decode.Decode(raw, &r); err != nil {
			l.t.Fatalf("decode: %v", err)
		}
		l.e.Record(&r)
		clear(raw) // the ring is written over
	}
	return keep(l.e.Events())
}

func keep(evs []event.Event) []event.Event {
	out := append([]event.Event(nil), evs...)
	c := func(p *event.Process) *event.Process {
		if p == nil {
			return nil
		}
		q := *p
		return &q
	}
	for i := range out {
		out[i].Process, out[i].Parent = c(out[i].Process), c(out[i].Parent)
		anc := make([]*event.Process, 0, len(out[i].Ancestors))
		for _, a := range out[i].Ancestors {
			anc = append(anc, c(a))
		}
		out[i].Ancestors = anc
	}
	return out
}

// one feeds records that must make one event.
func (l *lane) one(recs ...[]byte) event.Event {
	l.t.Helper()
	evs := l.feed(recs...)
	if len(evs) != 1 {
		l.t.Fatalf("%d events, want 1: %q", len(evs), say(evs))
	}
	return evs[0]
}

// settled checks that everything was accounted for.
func (l *lane) settled() {
	l.t.Helper()
	for _, b := range l.ledger.Read() {
		if b.Pending != 0 {
			l.t.Errorf("the account does not balance: %s", b)
		}
	}
}

func (l *lane) dropped(reason string) uint64 {
	for _, b := range l.ledger.Read() {
		for _, d := range b.Dropped {
			if b.Stage == "enrich" && d.Reason == reason {
				return d.Count
			}
		}
	}
	l.t.Fatalf("no reason %q", reason)
	return 0
}

// say writes events in short: what, which, its binary, its parent as it says, and whether that was found.
func say(evs []event.Event) []string {
	var out []string
	for _, ev := range evs {
		var b strings.Builder
		kind := map[event.Kind]string{event.KindExec: "exec", event.KindExit: "exit", event.KindLoss: "loss"}[ev.Kind]
		b.WriteString(kind)
		if p := ev.Process; p != nil {
			fmt.Fprintf(&b, " %d@%d %s (%s) of %d@%d", p.Key.Pid, p.Key.Ktime, p.Binary, p.Flags, p.Parent.Pid, p.Parent.Ktime)
			if p.Placeholder {
				b.WriteString(" placeholder")
			}
			switch {
			case ev.Parent == nil:
				b.WriteString(" unknown")
			case ev.Parent.Key != p.Parent:
				fmt.Fprintf(&b, " but found %v", ev.Parent.Key)
			}
		}
		out = append(out, b.String())
	}
	return out
}

func want(t *testing.T, evs []event.Event, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(lines, say(evs)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// child is an exec by a child of shell.
func child(s abitest.Texts) image {
	return image{pid: 100, start: 1000, ktime: 1001, parent: shell, flags: abi.FlagClone, texts: s}
}

func TestExec_arguments(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		block string
		want  string
	}{
		"none":                     {args: []string{"ls"}},
		"no argv[0] either":        {args: nil},
		"one":                      {args: []string{"ls", "-l"}, want: `-l`},
		"a space in a later one":   {args: []string{"ls", "-l", "a b"}, want: `-l "a b"`},
		"a space in the first":     {args: []string{"cat", "a b"}, want: ` "a b"`},
		"a quote is not escaped":   {args: []string{"echo", `say "a b"`, `"c"`}, want: ` "say "a b"" "c"`},
		"an empty first":           {args: []string{"grep", "", "f"}, want: `f`},
		"two empty first":          {args: []string{"grep", "", "", "f"}, want: `f`},
		"an empty one between":     {args: []string{"grep", "a", "", "f"}, want: `a  f`},
		"empty, then with a space": {args: []string{"grep", "", "a b"}, want: ` "a b"`},
		"empty ones at the end":    {args: []string{"ls", "a", "", ""}, want: `a`},
		"argv[0] empty":            {args: []string{"", "a"}, want: `a`},
		"only a space":             {args: []string{"ls", " "}, want: ` " "`},
		"a tab is no space":        {args: []string{"ls", "a\tb\n"}, want: "a\tb\n"},
		"not UTF-8":                {args: []string{"ls", "\xff\xfe", "\x80 \x80"}, want: "\xff\xfe \"\x80 \x80\""},
		"many NULs at the end":     {block: "ls\x00a\x00\x00\x00\x00", want: `a`},
		"not ended":                {block: "ls\x00a\x00b", want: `a b`},
		"not even argv[0] ended":   {block: "ls"},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{})
			ev := l.one(child(abitest.Texts{Name: "/bin/x", Args: c.args, ArgsBlock: c.block}).exec())
			if got := ev.Process.Arguments; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			l.settled()
		})
	}
}

const id64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"

var cgroups = map[string]struct{ name, want string }{
	"none":                    {"", ""},
	"a slice":                 {"user.slice", ""},
	"alone":                   {id64, id64[:31]},
	"docker scope":            {"docker-" + id64 + ".scope", id64[:31]},
	"containerd scope":        {"cri-containerd-" + id64 + ".scope", id64[:31]},
	"crio with its slice":     {"kubepods-pod1.slice:crio:" + id64, id64[:31]},
	"crio scope":              {"crio-" + id64 + ".scope", id64[:31]},
	"32 digits":               {id64[:32], ""},
	"63 digits":               {id64[:63], ""},
	"65 digits":               {id64 + "0", ""},
	"64 that are not digits":  {strings.Repeat("g", 64), ""},
	"63 digits and a letter":  {id64[:63] + "x", ""},
	"a service":               {"a-very-long-name-of-a-unit-that-has-more-than-sixty-four-characters-in-its-name.service", ""},
	"a service with no dash":  {strings.Repeat("a_", 40) + ".service", ""},
	"hexadecimal, and no dot": {"docker-" + id64 + "_scope", ""},
}

func TestExec_container(t *testing.T) {
	for name, c := range cgroups {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{})
			ev := l.one(child(abitest.Texts{Name: "/bin/x", Cgroup: c.name}).exec())
			if got := ev.Process.Docker; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestCgroup_setsContainer(t *testing.T) {
	for name, c := range cgroups {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{})
			x := child(abitest.Texts{Name: "/bin/x"})
			l.one(x.exec())
			l.tab.Get(event.Key{Pid: 100, Ktime: 1001}).Encoded.JSON = []byte("old")
			if evs := l.feed(abitest.Cgroup(abi.Head{Pid: 100, Time: 1002, Ktime: 1001}, c.name)); len(evs) != 0 {
				t.Errorf("a change of cgroup made events: %q", say(evs))
			}
			ev := l.one(exit(100, 1001, 1003, 0))
			if got := ev.Process.Docker; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if kept := len(ev.Process.Encoded.JSON) > 0; kept != (c.want == "") {
				t.Errorf("what was encoded before was kept: %v", kept)
			}
			l.settled()
		})
	}
}

// A process can be moved before its fork is told, and told of as moved after its end.
func TestCgroup_early(t *testing.T) {
	l := started(t, enrich.Options{})
	if evs := l.feed(abitest.Cgroup(abi.Head{Pid: 70, Ktime: 1000}, id64), abitest.Cgroup(abi.Head{Pid: 9, Ktime: 9}, id64)); len(evs) != 0 {
		t.Errorf("events %q", say(evs))
	}
	l.feed(fork(70, 1000, event.Key{Pid: 50, Ktime: 500}))
	ev := l.one(exit(70, 1000, 2000, 0))
	if got, want := ev.Process.Docker, id64[:31]; got != want {
		t.Errorf("container: got %q, want %q", got, want)
	}
	l.settled()
}

func TestExec_environment(t *testing.T) {
	redact := func(binary, s string) string { return strings.ReplaceAll(s, "secret", "*"+binary+"*") }
	block := []string{"B=2", "A=1", "noequals", "E=", "=x", "C=a=b", "K=secret", "B=again"}
	for name, c := range map[string]struct {
		opts enrich.Options
		env  []string
		want []event.EnvVar
	}{
		"not asked for": {enrich.Options{}, block, nil},
		"all, in order": {enrich.Options{Env: true}, block, []event.EnvVar{
			{Key: "B", Value: "2"}, {Key: "A", Value: "1"}, {Key: "invalid", Value: "noequals"}, {Key: "E"}, {Value: "x"},
			{Key: "C", Value: "a=b"}, {Key: "K", Value: "secret"}, {Key: "B", Value: "again"},
		}},
		"some": {enrich.Options{Env: true, EnvNames: []string{"K", "B", "missing"}}, block, []event.EnvVar{
			{Key: "B", Value: "2"}, {Key: "K", Value: "secret"}, {Key: "B", Value: "again"},
		}},
		"by whole name": {enrich.Options{Env: true, EnvNames: []string{"A"}}, []string{"AB=1", "a=2", "A"}, []event.EnvVar{
			{Key: "invalid", Value: "A"},
		}},
		"redacted, key and value": {enrich.Options{Env: true, RedactEnv: redact}, []string{"secret=secret", "x"}, []event.EnvVar{
			{Key: "*/bin/x*", Value: "*/bin/x*"}, {Key: "invalid", Value: "x"},
		}},
		"none": {enrich.Options{Env: true}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t, c.opts)
			ev := l.one(child(abitest.Texts{Name: "/bin/x", Env: c.env}).exec())
			if diff := cmp.Diff(c.want, ev.Process.Env); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExec_redactsArguments(t *testing.T) {
	l := started(t, enrich.Options{RedactArgs: func(binary, s string) string { return strings.ReplaceAll(s, "pw", binary) }})
	ev := l.one(child(abitest.Texts{Name: "/bin/x", Args: []string{"x", "-p", "pw"}}).exec())
	if got, want := ev.Process.Arguments, "-p /bin/x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExec_binary(t *testing.T) {
	deleted := func(x *abi.Exec) { x.Nlink, x.Inode = 0, 77 }
	for name, c := range map[string]struct {
		texts abitest.Texts
		flags uint16
		with  func(*abi.Exec)
		want  string
		real  string // with the real path asked for
	}{
		"absolute":               {texts: abitest.Texts{Name: "/usr/bin/true", Path: "/usr/bin/true", Cwd: "/root"}, want: "/usr/bin/true"},
		"not clean":              {texts: abitest.Texts{Name: "/usr//bin/./../bin/true/", Path: "/usr/bin/true"}, want: "/usr/bin/true", real: ""},
		"hidden is clean enough": {texts: abitest.Texts{Name: "/usr/.bin/true", Path: "/usr/.bin/true"}, want: "/usr/.bin/true"},
		"a link":                 {texts: abitest.Texts{Name: "/bin/vi", Path: "/usr/bin/vim"}, want: "/bin/vi", real: "/usr/bin/vim"},
		"relative":               {texts: abitest.Texts{Name: "./a/../x", Path: "/tmp/x", Cwd: "/tmp"}, want: "/tmp/x"},
		"relative, up":           {texts: abitest.Texts{Name: "../x", Cwd: "/tmp/d"}, want: "/tmp/x"},
		"relative, cwd unknown":  {texts: abitest.Texts{Name: "x/y"}, flags: abi.FlagBadCwd, want: "x/y"},
		"relative, at the root":  {texts: abitest.Texts{Name: "x"}, flags: abi.FlagRootCwd, want: "/x"},
		"script":                 {texts: abitest.Texts{Name: "/tmp/run.sh", Path: "/bin/dash"}, flags: abi.FlagScript, want: "/tmp/run.sh"},
		"script by descriptor":   {texts: abitest.Texts{Name: "/dev/fd/5", Path: "/bin/dash"}, flags: abi.FlagScript, want: "/dev/fd/5"},
		"descriptor":             {texts: abitest.Texts{Name: "/dev/fd/5", Path: "/usr/bin/true"}, want: "/usr/bin/true"},
		"descriptor in proc":     {texts: abitest.Texts{Name: "/proc/self/fd/5", Path: "/usr/bin/true"}, want: "/usr/bin/true"},
		"self":                   {texts: abitest.Texts{Name: "/proc/self/exe", Path: "/usr/sbin/runc"}, want: "/usr/sbin/runc"},
		"proc, path unknown":     {texts: abitest.Texts{Name: "/proc/self/exe"}, want: "/proc/self/exe"},
		"memfd":                  {texts: abitest.Texts{Name: "/dev/fd/3", Path: "memfd:x"}, with: deleted, want: "/memfd:x (deleted)"},
		"deleted, by its name":   {texts: abitest.Texts{Name: "/tmp/x", Path: "/tmp/x"}, with: deleted, want: "/tmp/x"},
		"no name":                {texts: abitest.Texts{Cwd: "/tmp"}, flags: abi.FlagBadName, want: "/tmp"},
		"no name and no cwd":     {flags: abi.FlagBadName | abi.FlagBadCwd, want: ""},
		"not UTF-8":              {texts: abitest.Texts{Name: "/tmp/\xff\n\x1b[0m"}, want: "/tmp/\xff\n\x1b[0m"},
		"real path cut short":    {texts: abitest.Texts{Name: "/a/very/deep/one", Path: "deep/one"}, flags: abi.FlagCutPath, want: "/a/very/deep/one"},
	} {
		for _, real := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/real=%v", name, real), func(t *testing.T) {
				l := started(t, enrich.Options{RealPath: real})
				x := child(c.texts)
				x.flags, x.with = x.flags|c.flags, c.with
				p := l.one(x.exec()).Process
				wantReal := ""
				if real {
					wantReal = c.real
				}
				if p.Binary != c.want || p.Binprm.Path != wantReal {
					t.Errorf("got binary %q, real path %q, want %q, %q", p.Binary, p.Binprm.Path, c.want, wantReal)
				}
				if wantUnlinked := c.with != nil; p.Binprm.Unlinked != wantUnlinked || wantUnlinked && p.Binprm.Inode != 77 {
					t.Errorf("got %+v, want unlinked %v", p.Binprm, wantUnlinked)
				}
			})
		}
	}
}

func TestExec_cwd(t *testing.T) {
	for name, c := range map[string]struct {
		cwd   string
		flags uint16
		want  string
		words string
	}{
		"some":     {"/var/log", 0, "/var/log", "execve clone"},
		"the root": {"/", abi.FlagRootCwd, "/", "execve rootcwd clone"},
		"unknown":  {"", abi.FlagBadCwd, "", "execve errorCWD clone"},
		"cut":      {"log/x", abi.FlagCutCwd, "/log/x", "execve clone errorPathResolutionCwd"},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{})
			x := child(abitest.Texts{Name: "/bin/x", Cwd: c.cwd})
			x.flags |= c.flags
			p := l.one(x.exec()).Process
			if p.Cwd != c.want || p.Flags.String() != c.words {
				t.Errorf("got %q (%s), want %q (%s)", p.Cwd, p.Flags, c.want, c.words)
			}
		})
	}
}

func TestExec_flags(t *testing.T) {
	long := "/" + strings.Repeat("x", 254)
	for name, c := range map[string]struct {
		image image
		want  string
	}{
		"plain":             {image{}, "execve"},
		"after a fork":      {image{flags: abi.FlagClone}, "execve clone"},
		"name not read":     {image{flags: abi.FlagBadName}, "execve errorFilename"},
		"arguments not":     {image{flags: abi.FlagBadArgs}, "execve errorArgs"},
		"environment not":   {image{flags: abi.FlagBadEnv}, "execve errorEnvs"},
		"cgroup not":        {image{flags: abi.FlagBadCgroup}, "execve errorCgroupName"},
		"in a tree":         {image{flags: abi.FlagClone | abi.FlagInTree}, "execve clone inInitTree"},
		"long name":         {image{texts: abitest.Texts{Name: long}}, "execve dataFilename"},
		"not so long":       {image{texts: abitest.Texts{Name: long[:254]}}, "execve"},
		"script is no word": {image{flags: abi.FlagScript | abi.FlagCutPath}, "execve"},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{})
			c.image.pid, c.image.start, c.image.parent = 100, 1000, shell
			p := l.one(c.image.exec()).Process
			if got := p.Flags.String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if p.InInitTree != strings.Contains(c.want, "inInitTree") {
				t.Errorf("InInitTree %v", p.InInitTree)
			}
		})
	}
}

func TestExec_values(t *testing.T) {
	l := started(t, enrich.Options{})
	x := child(abitest.Texts{Name: "/bin/x"})
	x.with = func(x *abi.Exec) {
		x.Nspid, x.Auid, x.Securebits = 7, 1000, 5
		x.Ids = [8]uint32{1, 2, 3, 4, 5, 6, 7, 8} // uid gid suid sgid euid egid fsuid fsgid
		x.Caps = [5]uint64{11, 12, 13, 14, 15}    // inheritable permitted effective bset ambient
		x.Ns = [abi.NsCount]uint32{21, 22, 23, 24, 25, 26, 27, 28, 29, 30}
		x.Priv = abi.PrivSetuid | abi.PrivRaisedFilecap | abi.PrivRaisedSetgid
	}
	got := *l.one(x.exec()).Process
	want := event.Process{
		Key: event.Key{Pid: 100, Ktime: 1001}, Parent: shell, StartTime: offset + 1001, UID: 5, AUID: 1000, NsPid: 7,
		Flags: event.FlagExecve | event.FlagClone, Binary: "/bin/x", Cwd: "/",
		Creds: event.Creds{
			UID: 1, GID: 2, SUID: 3, SGID: 4, EUID: 5, EGID: 6, FSUID: 7, FSGID: 8, SecureBits: 5, Inheritable: 11, Permitted: 12, Effective: 13,
		},
		Ns:     event.Namespaces{UTS: 21, IPC: 22, Mnt: 23, Pid: 24, PidForChildren: 25, Net: 26, Time: 27, TimeForChildren: 28, Cgroup: 29, User: 30},
		Binprm: event.BinaryProperties{Setuid: true, PrivilegesChanged: event.RaisedFileCap | event.RaisedSetgid},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("process (-want +got):\n%s", diff)
	}
}

// events.md 6.2.
func TestExec_parent(t *testing.T) {
	for name, c := range map[string]struct {
		before [][]byte
		exec   image
		want   string
	}{
		"after a fork": {
			[][]byte{fork(100, 1000, shell)},
			image{pid: 100, start: 1000, ktime: 1001, parent: shell, flags: abi.FlagClone},
			"exec 100@1001 /bin/x (execve clone) of 50@500",
		},
		"without a fork: what it was": {
			nil,
			image{pid: 50, start: 500, ktime: 1001, parent: shell},
			"exec 50@1001 /bin/x (execve) of 50@500",
		},
		"of a parent nobody knows": {
			nil,
			image{pid: 100, start: 1000, ktime: 1001, parent: event.Key{Pid: 60}, flags: abi.FlagClone},
			"exec 100@1001 /bin/x (execve clone) of 60@0 unknown",
		},
		"of a parent that only the kernel half knows": {
			nil,
			image{pid: 100, start: 1000, ktime: 1001, parent: event.Key{Pid: 60, Ktime: 600}, flags: abi.FlagClone},
			"exec 100@1001 /bin/x (execve clone) of 60@600 unknown",
		},
		"of a parent the kernel half met later than the child": {
			[][]byte{fork(100, 1000, event.Key{Pid: 50})},
			image{pid: 100, start: 1000, ktime: 1001, parent: event.Key{Pid: 50}, flags: abi.FlagClone},
			"exec 100@1001 /bin/x (execve clone) of 50@500",
		},
		"of pid 0": {
			nil,
			image{pid: 100, start: 1000, ktime: 1001, flags: abi.FlagClone},
			"exec 100@1001 /bin/x (execve clone) of 0@1",
		},
		"by a thread, the process was forked only": {
			[][]byte{fork(100, 1000, shell)},
			image{pid: 100, start: 1000, ktime: 1001, parent: event.Key{Pid: 50}, pstart: 500, flags: abi.FlagNew},
			"exec 100@1001 /bin/x (execve clone) of 50@500",
		},
		"by a thread, the process did an exec": {
			nil,
			image{pid: 50, start: 500, ktime: 1001, parent: event.Key{Pid: 1}, pstart: 10, flags: abi.FlagNew},
			"exec 50@1001 /bin/x (execve) of 50@500",
		},
		"by a thread, the process did an exec that raised privileges": {
			[][]byte{image{pid: 50, start: 500, ktime: 800, parent: shell, with: func(x *abi.Exec) { x.Priv = abi.PrivSetuid }}.exec()},
			image{pid: 50, start: 500, ktime: 1001, parent: event.Key{Pid: 1}, pstart: 10, flags: abi.FlagNew},
			"exec 50@1001 /bin/x (execve) of 50@800",
		},
		"by a thread of nobody": {
			nil,
			image{pid: 100, start: 1000, ktime: 1001, parent: event.Key{Pid: 50}, pstart: 500, flags: abi.FlagNew},
			"exec 100@1001 /bin/x (execve) of 50@500",
		},
		"by a thread of nobody, the parent's pid has another user now": {
			nil,
			image{pid: 100, start: 1000, ktime: 1001, parent: event.Key{Pid: 50}, pstart: 499, flags: abi.FlagNew},
			"exec 100@1001 /bin/x (execve) of 50@0 unknown",
		},
		"by a thread, and somebody else had the pid before": {
			nil,
			image{pid: 50, start: 900, ktime: 1001, parent: event.Key{Pid: 1}, pstart: 10, flags: abi.FlagNew},
			"exec 50@1001 /bin/x (execve) of 1@10",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{})
			l.feed(c.before...)
			c.exec.texts.Name = "/bin/x"
			want(t, l.feed(c.exec.exec()), c.want)
			l.settled()
		})
	}
}

// The parent's record is what the parent is now, and it is found in the same batch and after its death.
func TestExec_parentIsFoundAfterItsDeath(t *testing.T) {
	l := started(t, enrich.Options{})
	p := event.Key{Pid: 60, Ktime: 601}
	want(t, l.feed(
		fork(60, 600, shell),
		image{pid: 60, start: 600, ktime: 601, parent: shell, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/p"}}.exec(),
		fork(100, 1000, p),
		exit(60, 601, 1002, 0),
		image{pid: 100, start: 1000, ktime: 1003, parent: p, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/c"}}.exec(),
		exit(100, 1003, 1004, 0),
	),
		"exec 60@601 /bin/p (execve clone) of 50@500",
		"exit 60@601 /bin/p (execve clone) of 50@500",
		"exec 100@1003 /bin/c (execve clone) of 60@601",
		"exit 100@1003 /bin/c (execve clone) of 60@601",
	)
	l.settled()
}

func TestExec_ancestors(t *testing.T) {
	l := started(t, enrich.Options{Ancestors: true})
	b := image{pid: 60, start: 600, parent: shell, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/b"}}
	c := image{pid: 70, start: 700, parent: event.Key{Pid: 60, Ktime: 600}, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/c"}}
	evs := l.feed(b.exec(), c.exec(), exit(70, 700, 800, 0))
	for i, w := range [][]string{{"/sbin/init"}, {"/bin/sh", "/sbin/init"}, {"/bin/sh", "/sbin/init"}} {
		var got []string
		for _, a := range evs[i].Ancestors {
			got = append(got, a.Binary)
		}
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("event %d: ancestors (-want +got):\n%s", i, diff)
		}
	}
}

func TestFork_isACopyOfItsParent(t *testing.T) {
	l := started(t, enrich.Options{Env: true})
	px := image{pid: 60, start: 600, ktime: 601, parent: shell, flags: abi.FlagClone, with: func(x *abi.Exec) {
		x.Ids[4], x.Auid, x.Priv, x.Caps[1] = 5, 6, abi.PrivSetuid, 7
	}, texts: abitest.Texts{Name: "/bin/p", Cwd: "/tmp", Args: []string{"p", "a"}, Env: []string{"A=1"}, Cgroup: id64}}
	parent := *l.one(px.exec()).Process
	l.tab.Get(parent.Key).Encoded.JSON = []byte("p")
	if evs := l.feed(fork(100, 1000, parent.Key)); len(evs) != 0 {
		t.Errorf("a fork made events: %q", say(evs))
	}
	ev := l.one(exit(100, 1000, 1002, 0))
	want := parent
	want.Key, want.Parent, want.StartTime = event.Key{Pid: 100, Ktime: 1000}, parent.Key, offset+1000
	want.Flags, want.Refcnt, want.Binprm = event.FlagExecve, 1, event.BinaryProperties{}
	if diff := cmp.Diff(want, *ev.Process); diff != "" {
		t.Errorf("fork (-want +got):\n%s", diff)
	}
	if ev.Parent == nil || ev.Parent.Key != parent.Key {
		t.Errorf("parent: got %+v", ev.Parent)
	}
	l.settled()
}

func TestFork_inContainer(t *testing.T) {
	l := started(t, enrich.Options{})
	first := abitest.Record(abi.Fork{
		H: abi.Head{Kind: abi.KindFork, Pid: 100, Time: 1000, Ktime: 1000}, ParentKtime: shell.Ktime, ParentPid: shell.Pid, Nspid: 1,
	})
	second := abitest.Record(abi.Fork{
		H: abi.Head{Kind: abi.KindFork, Pid: 101, Time: 1001, Ktime: 1001}, ParentKtime: 1000, ParentPid: 100, Nspid: 2,
	})
	l.feed(first, second)
	evs := l.feed(exit(101, 1001, 1002, 0), exit(100, 1000, 1003, 0), exit(50, 500, 1004, 0))
	want(t, evs, "exit 101@1001 /bin/sh (execve inInitTree) of 100@1000", "exit 100@1000 /bin/sh (execve inInitTree) of 50@500", "exit 50@500 /bin/sh (procFS) of 1@10")
	for i, w := range []struct {
		nspid uint32
		in    bool
	}{{2, true}, {1, true}, {0, false}} {
		if p := evs[i].Process; p.NsPid != w.nspid || p.InInitTree != w.in {
			t.Errorf("event %d: nspid %d, in a tree %v, want %+v", i, p.NsPid, p.InInitTree, w)
		}
	}
}

func TestFork_ofNobody(t *testing.T) {
	l := started(t, enrich.Options{})
	l.feed(fork(100, 1000, event.Key{Pid: 60, Ktime: 600}))
	want(t, l.feed(exit(100, 1000, 1002, 0)), "exit 100@1000  (execve) of 60@600 unknown")
	l.settled()
}

// Its record can be sent after that of an exec or a snapshot that overtook it.
func TestFork_late(t *testing.T) {
	l := started(t, enrich.Options{})
	want(t, l.feed(
		image{pid: 100, start: 1000, ktime: 1000, parent: shell, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/x"}}.exec(),
		fork(100, 1000, shell),
		exit(100, 1000, 1002, 0),
	),
		"exec 100@1000 /bin/x (execve clone) of 50@500",
		"exit 100@1000 /bin/x (execve clone) of 50@500",
	)
	l.settled()
}

func TestExit_how(t *testing.T) {
	for name, c := range map[string]struct {
		code uint32
		want event.Exit
	}{
		"well":            {0, event.Exit{}},
		"status 1":        {0x100, event.Exit{Status: 1}},
		"status 255":      {0xff00, event.Exit{Status: 255}},
		"killed":          {9, event.Exit{Signal: 9}},
		"killed, core":    {0x8b, event.Exit{Signal: 11}},
		"real-time":       {34, event.Exit{Signal: 34}},
		"nothing else is": {0x12340100, event.Exit{Status: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{})
			ev := l.one(exit(50, 500, 2000, c.code))
			if ev.Exit != c.want || ev.Kind != event.KindExit || ev.Time != offset+2000 || ev.Tid != 50 {
				t.Errorf("got %+v, want %+v", ev, c.want)
			}
		})
	}
}

func TestExit_ofNobody(t *testing.T) {
	l := started(t, enrich.Options{})
	want(t, l.feed(exit(70, 700, 2000, 0)), "exit 70@700  () of 0@0 placeholder unknown")
	// The kernel half did not know it either.
	want(t, l.feed(abitest.Record(abi.Exit{H: abi.Head{Kind: abi.KindExit, Flags: abi.FlagNew, Pid: 70, Time: 2000, Ktime: 700}, Start: 700})),
		"exit 70@700  (unknown) of 0@0 placeholder unknown")
	l.settled()
	if l.tab.Live(70) != nil {
		t.Error("a placeholder is in the table")
	}
}

// The kernel half had no state, or saw only the fork, but we know the process by its start.
func TestExit_knownByStart(t *testing.T) {
	for name, c := range map[string]struct {
		start uint64
		flags uint16
		want  string
	}{
		"same":                   {500, abi.FlagNew, "exit 50@500 /bin/sh (procFS) of 1@10"},
		"another had pid":        {499, abi.FlagNew, "exit 50@499  (unknown) of 0@0 placeholder unknown"},
		"another had pid, since": {499, 0, "exit 50@499  () of 0@0 placeholder unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{})
			want(t, l.feed(abitest.Record(abi.Exit{
				H: abi.Head{Kind: abi.KindExit, Flags: c.flags, Pid: 50, Time: 2000, Ktime: c.start}, Start: c.start,
			})), c.want)
		})
	}
}

// A kernel half that came between the fork and the exec keeps the key of the fork; the exec is known from an earlier one.
func TestExit_knownByFork(t *testing.T) {
	l := started(t, enrich.Options{})
	i := shellImage
	i.pid, i.start, i.ktime, i.parent, i.texts.Name = 60, 600, 650, event.Key{Pid: 1, Ktime: 10}, "/bin/sh"
	l.feed(i.exec())
	want(t, l.feed(abitest.Record(abi.Exit{H: abi.Head{Kind: abi.KindExit, Pid: 60, Time: 2000, Ktime: 600}, Start: 600})),
		"exit 60@650 /bin/sh (execve) of 1@10")
	l.settled()
}

func TestLost(t *testing.T) {
	l := started(t, enrich.Options{})
	l.e.Begin(offset)
	losses := []event.Loss{{What: "exec", Reason: "ring_full", Count: 2, Since: 5, Until: 9}, {What: "exit", Count: 1, Since: 1, Until: 7}}
	l.e.Lost(losses)
	evs := l.e.Events()
	if len(evs) != 1 || evs[0].Kind != event.KindLoss || evs[0].Time != 9 {
		t.Errorf("got %+v", evs)
	}
	l.settled()
}
