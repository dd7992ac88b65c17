// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"testing"

	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event"
	"tetragon/internal/event/enrich"
)

func TestStart_parentsFirst(t *testing.T) {
	path := func(p string) abitest.Texts { return abitest.Texts{Path: p} }
	var host event.Namespaces
	l := newLane(t, enrich.Options{HostNs: func(ns event.Namespaces) { host = ns }})
	evs := l.feed(
		// As pids wrap: a child comes before its parent, and pid 20's foster parent is younger than itself.
		image{pid: 5, start: 90, parent: event.Key{Pid: 30}, texts: path("/bin/grandchild")}.snap(),
		image{pid: 20, start: 60, parent: event.Key{Pid: 30}, texts: path("/bin/orphan")}.snap(),
		image{pid: 30, start: 80, parent: event.Key{Pid: 1}, texts: path("/bin/subreaper")}.snap(),
		image{pid: 3, start: 20, parent: event.Key{Pid: 2}, flags: abi.FlagKthread, texts: abitest.Texts{Name: "kworker"}}.snap(),
		image{pid: 2, start: 11, flags: abi.FlagKthread, texts: abitest.Texts{Name: "kthreadd"}}.snap(),
		image{pid: 1, start: 10, texts: path("/sbin/init"), with: func(x *abi.Exec) { x.Ns[abi.NsMnt] = 99 }}.snap(),
		image{pid: 40, start: 95, parent: event.Key{Pid: 39}, texts: path("/bin/stray")}.snap(),
		image{pid: 41, start: 96, parent: event.Key{Pid: 1}, flags: abi.FlagBadName, texts: abitest.Texts{Name: "leaderless"}}.snap(),
	)
	want(t, evs)
	if l.e.Started() {
		t.Error("started before the snapshot was complete")
	}
	want(t, l.feed(snapEnd(900)),
		"exec 0@1 <kernel> (procFS) of 0@1",
		"exec 1@10 /sbin/init (procFS) of 0@1",
		"exec 30@80 /bin/subreaper (procFS) of 1@10",
		"exec 20@60 /bin/orphan (procFS) of 30@80",
		"exec 5@90 /bin/grandchild (procFS) of 30@80",
		"exec 40@95 /bin/stray (procFS) of 39@0 unknown",
		"exec 41@96 leaderless (procFS errorFilename) of 1@10",
	)
	if !l.e.Started() {
		t.Error("not started")
	}
	if host.Mnt != 99 {
		t.Errorf("pid 1's namespaces: got %+v", host)
	}
	l.settled()
	k := l.tab.Live(3)
	if k == nil || !k.Kthread || k.Binary != "[kworker]" || k.Parent != (event.Key{Pid: 2, Ktime: 11}) {
		t.Errorf("kernel thread: got %+v", k)
	}
}

func TestStart_tree(t *testing.T) {
	l := newLane(t, enrich.Options{})
	evs := l.feed(
		image{pid: 70, start: 70, parent: event.Key{Pid: 60}, texts: abitest.Texts{Path: "/b"}}.snap(),
		image{pid: 60, start: 60, parent: event.Key{Pid: 1}, flags: abi.FlagInTree, texts: abitest.Texts{Path: "/a"}}.snap(),
		image{pid: 1, start: 10, texts: abitest.Texts{Path: "/sbin/init"}}.snap(),
		snapEnd(900))
	want(t, evs[1:],
		"exec 1@10 /sbin/init (procFS) of 0@1",
		"exec 60@60 /a (procFS inInitTree) of 1@10",
		"exec 70@70 /b (procFS inInitTree) of 60@60",
	)
}

// What happens while the snapshot is made is told after it, in order.
func TestStart_holdsLiveEvents(t *testing.T) {
	l := newLane(t, enrich.Options{})
	init := image{pid: 1, start: 10, texts: abitest.Texts{Path: "/sbin/init"}}
	x := image{pid: 100, start: 1000, ktime: 1001, parent: shell, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/x", Args: []string{"x", "a"}}}
	want(t, l.feed(fork(100, 1000, shell), x.exec(), init.snap()))
	want(t, l.feed(exit(100, 1001, 1002, 0), shellImage.snap(), exit(50, 500, 1003, 0)))
	evs := l.feed(snapEnd(1100))
	want(t, evs,
		"exec 0@1 <kernel> (procFS) of 0@1",
		"exec 1@10 /sbin/init (procFS) of 0@1",
		"exec 50@500 /bin/sh (procFS) of 1@10",
		"exec 100@1001 /bin/x (execve clone) of 50@500",
		"exit 100@1001 /bin/x (execve clone) of 50@500",
		"exit 50@500 /bin/sh (procFS) of 1@10",
	)
	if got := evs[3].Process.Arguments; got != "a" {
		t.Errorf("arguments of a held exec: got %q, want a", got)
	}
	l.settled()
}

func TestStart_execOvertookSnapshot(t *testing.T) {
	init := image{pid: 1, start: 10, texts: abitest.Texts{Path: "/sbin/init"}}
	x := image{pid: 50, start: 500, ktime: 1001, parent: shell, texts: abitest.Texts{Name: "/bin/x"}}
	t.Run("the snapshot saw what was before", func(t *testing.T) {
		l := newLane(t, enrich.Options{})
		want(t, l.feed(init.snap(), x.exec(), shellImage.snap(), snapEnd(1100))[2:],
			"exec 50@500 /bin/sh (procFS) of 1@10",
			"exec 50@1001 /bin/x (execve) of 50@500",
		)
		if p := l.tab.Live(50); p == nil || p.Binary != "/bin/x" {
			t.Errorf("pid 50 is %+v", p)
		}
		l.settled()
	})
	t.Run("the snapshot saw what is now", func(t *testing.T) {
		l := newLane(t, enrich.Options{})
		now := x
		now.flags = abi.FlagExeced
		now.texts = abitest.Texts{Path: "/bin/x"}
		want(t, l.feed(init.snap(), x.exec(), now.snap(), snapEnd(1100))[2:],
			"exec 50@1001 /bin/x (procFS) of 50@500 unknown",
		)
		if got := l.dropped("already_known"); got != 1 {
			t.Errorf("%d dropped as known, want 1", got)
		}
		l.settled()
	})
}

// The end of the first snapshot was lost: a second one tells everything again.
func TestStart_twice(t *testing.T) {
	l := newLane(t, enrich.Options{})
	init := image{pid: 1, start: 10, texts: abitest.Texts{Path: "/sbin/init"}}
	l.feed(init.snap(), shellImage.snap())
	l.e.Recover(1000)
	again := shellImage
	again.time = 1001
	want(t, l.feed(init.snap(), again.snap(), snapEnd(1100)),
		"exec 0@1 <kernel> (procFS) of 0@1",
		"exec 1@10 /sbin/init (procFS) of 0@1",
		"exec 50@500 /bin/sh (procFS) of 1@10",
	)
	l.settled()
}

func TestStart_withoutSnapshot(t *testing.T) {
	l := newLane(t, enrich.Options{})
	l.e.Begin(offset)
	l.e.StartEmpty()
	want(t, keep(l.e.Events()), "exec 0@1 <kernel> (procFS) of 0@1")
	want(t, l.feed(child(abitest.Texts{Name: "/bin/x"}).exec()), "exec 100@1001 /bin/x (execve clone) of 50@500 unknown")
	l.settled()
}

// at sets the time at which a snapshot looked.
func (i image) at(t uint64) image { i.time = t; return i }

// running is a lane with a child of shell.
func running(t *testing.T) *lane {
	l := started(t, enrich.Options{})
	l.feed(fork(100, 1000, shell), child(abitest.Texts{Name: "/bin/x"}).exec())
	return l
}

var (
	initImage   = image{pid: 1, start: 10, texts: abitest.Texts{Path: "/sbin/init"}}
	childAsSeen = image{pid: 100, start: 1000, ktime: 1001, parent: shell, flags: abi.FlagExeced, texts: abitest.Texts{Path: "/bin/x"}}
)

func TestRecover(t *testing.T) {
	lostExec := image{pid: 200, start: 2000, ktime: 2001, parent: shell, flags: abi.FlagExeced, texts: abitest.Texts{Path: "/bin/lost", Args: []string{"lost", "a"}}}
	lostFork := image{pid: 201, start: 2002, parent: shell, flags: abi.FlagClone, texts: abitest.Texts{Path: "/bin/sh"}}
	for name, c := range map[string]struct {
		before, snapshot, after [][]byte
		want                    []string
		live                    []uint32
		gone                    []uint32
	}{
		"nothing was lost": {live: []uint32{1, 50, 100}},
		"an exec was lost": {
			snapshot: [][]byte{lostExec.at(3000).snap()},
			after:    [][]byte{exit(200, 2001, 4000, 0)},
			want: []string{
				"exec 200@2001 /bin/lost (procFS) of 50@500",
				"exit 200@2001 /bin/lost (procFS) of 50@500",
			},
			live: []uint32{100}, gone: []uint32{200},
		},
		"the exec of a fork that was told was lost": {
			before:   [][]byte{fork(200, 2000, shell)},
			snapshot: [][]byte{lostExec.at(3000).snap()},
			want:     []string{"exec 200@2001 /bin/lost (procFS) of 50@500"},
			live:     []uint32{200},
		},
		"a fork was lost": {
			snapshot: [][]byte{lostFork.at(3000).snap()},
			after:    [][]byte{exit(201, 2002, 4000, 0)},
			want:     []string{"exit 201@2002 /bin/sh (execve) of 50@500"},
			gone:     []uint32{201},
		},
		"a fork was only late": {
			snapshot: [][]byte{lostFork.at(3000).snap(), fork(201, 2002, shell)},
			after:    [][]byte{exit(201, 2002, 4000, 0)},
			want:     []string{"exit 201@2002 /bin/sh (execve) of 50@500"},
			gone:     []uint32{201},
		},
		"an exec was only late": {
			snapshot: [][]byte{lostExec.at(3000).snap()},
			after:    [][]byte{image{pid: 200, start: 2000, ktime: 2001, parent: shell, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/lost"}}.exec()},
			want:     []string{"exec 200@2001 /bin/lost (procFS) of 50@500"},
			live:     []uint32{200},
		},
		"the first snapshot's record was lost": {
			snapshot: [][]byte{
				image{pid: 60, start: 600, parent: event.Key{Pid: 1}, pstart: 10, time: 3000, texts: abitest.Texts{Path: "/usr/sbin/sshd"}}.snap(),
				image{pid: 61, start: 601, parent: event.Key{Pid: 2}, flags: abi.FlagKthread, time: 3000, texts: abitest.Texts{Name: "kworker"}}.snap(),
			},
			want: []string{"exec 60@600 /usr/sbin/sshd (procFS) of 1@10"},
			live: []uint32{60, 61},
		},
		"a kernel thread's fork was lost": {
			snapshot: [][]byte{image{pid: 61, start: 2000, parent: event.Key{Pid: 2}, flags: abi.FlagKthread | abi.FlagClone, time: 3000, texts: abitest.Texts{Name: "kworker"}}.snap()},
			live:     []uint32{61},
		},
		"an exit was lost": {
			before: [][]byte{fork(300, 2500, shell)},
			gone:   []uint32{300},
			live:   []uint32{1, 50, 100},
		},
		"born while it was made": {
			snapshot: [][]byte{fork(300, 3050, shell)},
			live:     []uint32{300},
		},
		"an exec while it was made": {
			snapshot: [][]byte{
				image{pid: 100, start: 1000, ktime: 3010, parent: event.Key{Pid: 100, Ktime: 1001}, texts: abitest.Texts{Name: "/bin/y"}}.exec(),
				childAsSeen.at(3001).snap(), // it had looked before, and was slow to tell
			},
			after: [][]byte{exit(100, 3010, 4000, 0)},
			want: []string{
				"exec 100@3010 /bin/y (execve) of 100@1001",
				"exit 100@3010 /bin/y (execve) of 100@1001",
			},
			gone: []uint32{100},
		},
		"its exit was told late": {
			before: [][]byte{fork(300, 2500, shell)},
			after:  [][]byte{exit(300, 2500, 2999, 0)},
			want:   []string{"exit 300@2500 /bin/sh (execve) of 50@500"},
			gone:   []uint32{300},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := running(t)
			l.feed(c.before...)
			l.e.Recover(2990)
			recs := [][]byte{initImage.at(3000).snap(), shellImage.at(3000).snap()}
			recs = append(recs, c.snapshot...)
			recs = append(recs, childAsSeen.at(3002).snap(), snapEnd(3100))
			evs := l.feed(recs...)
			evs = append(evs, l.feed(c.after...)...)
			want(t, evs, c.want...)
			for _, pid := range c.live {
				if l.tab.Live(pid) == nil {
					t.Errorf("pid %d is not alive", pid)
				}
			}
			for _, pid := range c.gone {
				if l.tab.Live(pid) != nil {
					t.Errorf("pid %d is alive", pid)
				}
			}
			l.settled()
		})
	}
}

// Two snapshots on end: the rest of the first, read after the second was asked for, says nothing of who is gone.
func TestRecover_whileTheLastOneIsStillRead(t *testing.T) {
	l := running(t)
	l.e.Recover(2990)
	l.feed(initImage.at(3000).snap(), shellImage.at(3001).snap())
	l.e.Recover(3200)
	l.feed(childAsSeen.at(3002).snap(), snapEnd(3100))
	for _, pid := range []uint32{1, 50, 100} {
		if l.tab.Live(pid) == nil {
			t.Errorf("pid %d is taken for dead", pid)
		}
	}
	l.feed(initImage.at(3300).snap(), childAsSeen.at(3300).snap(), snapEnd(3400))
	if l.tab.Live(50) != nil {
		t.Error("pid 50 is taken for alive")
	}
	if l.tab.Live(1) == nil || l.tab.Live(100) == nil {
		t.Error("pid 1 or 100 is taken for dead")
	}
	l.settled()
}
