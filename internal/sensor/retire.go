// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"errors"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// retirement is what a change leaves behind: all of it is silent already, or unreachable.
type retirement struct {
	programs []*program
	bodies   []*body
	links    []link.Link
	progs    []*ebpf.Program
	classes  *classes
	rows     []span // of counters
}

func (r *retirement) empty() bool {
	return len(r.programs) == 0 && len(r.bodies) == 0 && len(r.links) == 0 && len(r.progs) == 0 && r.classes == nil && len(r.rows) == 0
}

// retired detaches and frees in the background, one after the other: to detach a program from a function takes the kernel
// up to some tenths of a second, several at a time are not quicker, and nobody should wait for it.
type retired struct {
	m *Manager

	mu      sync.Mutex
	queue   []retirement
	count   int // programs of the queue and of what is being worked on
	running bool
	done    chan struct{} // closed when the queue is empty
	errs    []error
}

func (q *retired) add(r retirement) {
	if r.empty() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, r)
	q.count += len(r.programs) + len(r.bodies)
	if !q.running {
		q.running = true
		q.done = make(chan struct{})
		go q.work()
	}
}

// waiting says how many programs have not been freed yet.
func (q *retired) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}

// wait returns when everything is gone, with what went wrong since the last time.
func (q *retired) wait() error {
	q.mu.Lock()
	for q.running {
		done := q.done
		q.mu.Unlock()
		<-done
		q.mu.Lock()
	}
	err := errors.Join(q.errs...)
	q.errs = nil
	q.mu.Unlock()
	return err
}

func (q *retired) work() {
	for {
		q.mu.Lock()
		if len(q.queue) == 0 {
			q.running = false
			close(q.done)
			q.mu.Unlock()
			return
		}
		r := q.queue[0]
		q.queue = q.queue[1:]
		q.mu.Unlock()

		err := q.m.bury(&r)
		if err != nil {
			q.m.o.Log.Warn("detach from the kernel", "err", err)
		}
		q.mu.Lock()
		q.count -= len(r.programs) + len(r.bodies)
		if err != nil {
			q.errs = append(q.errs, err)
		}
		q.mu.Unlock()
	}
}

// bury detaches and frees. When it is done nothing in the kernel works by the rows that it gives back.
func (m *Manager) bury(r *retirement) error {
	var errs []error
	// The newest first, as what was made is undone; and what leads to others before those.
	for i := len(r.links) - 1; i >= 0; i-- {
		errs = append(errs, drop(r.links[i]))
	}
	if r.classes != nil {
		errs = append(errs, r.classes.close())
	}
	for i := len(r.programs) - 1; i >= 0; i-- {
		if l := r.programs[i].link; l != nil {
			errs = append(errs, drop(l))
		}
	}
	quiesce()
	for _, p := range r.progs {
		errs = append(errs, p.Close())
	}
	for i := len(r.programs) - 1; i >= 0; i-- {
		if p := r.programs[i].prog; p != nil {
			errs = append(errs, p.Close())
		}
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range r.bodies {
		dir, _ := dirOf(b.of.p.Attach.Backend)
		if err := m.tables.coll.Maps[dispatchers[dir].table].Delete(uint32(b.index)); err != nil {
			errs = append(errs, err)
		}
		errs = append(errs, b.prog.Close())
		m.tables.next(dir, b.index, 0)
		m.sys[dir].index.give(b.index, 1)
	}
	for _, p := range r.programs {
		m.free(p)
		m.sets.leave(p.sets)
		time.AfterFunc(ringDelay, func() { m.plans.Delete(p.p.ID) })
	}
	m.sets.forget()
	for _, s := range r.rows {
		m.tables.stats.give(s.first, s.n)
	}
	return errors.Join(errs...)
}
