// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"google.golang.org/protobuf/proto"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event"
)

// Options say what an Encoder writes.
type Options struct {
	NodeName    string // in every event and every exec_id
	ClusterName string // in every event, unless empty

	Cred     bool // write capabilities, credentials, and what an exec did to privileges
	Ns       bool // write namespaces
	Username bool // write the user's name, where it is known

	StackAddresses bool // write the addresses in stacks

	HostNs event.Namespaces // of the host; those that equal them are marked. 0 equals nothing.

	// KeepFragments keeps the Process message of each process in its event.Process, to be copied from then on: some
	// hundred bytes a process and form. Without it each event is encoded from scratch.
	KeepFragments bool
}

// Encoder writes events. It keeps fragments in the processes that it sees, made with its own options: a process must not
// be given to two Encoders that both keep fragments. Not safe for concurrent use.
type Encoder struct {
	opts Options
	ids  idWriter

	caps cache[capSets]
	ns   cache[event.Namespaces]

	// Everything below is scratch: built for one message, written out, and built over for the next.
	response GetEventsResponse
	exec     ProcessExec
	exit     ProcessExit
	loss     RateLimitInfo
	throttle ProcessThrottle
	process  processScratch
	hook     hookScratch
	clock    clock
	loose    []byte // fragments of this event that are not kept
	whole    []byte // an event, for Message

	lines         lines
	fragmentsMade uint64 // number of the last fragment that was kept
}

// New returns an Encoder.
func New(opts Options) *Encoder {
	e := &Encoder{opts: opts, ids: newIDWriter(opts.NodeName)}
	// Only one of the events is set at a time; the others' pointers do no harm and stay.
	e.response = GetEventsResponse{
		ProcessExec: &e.exec, ProcessExit: &e.exit, RateLimitInfo: &e.loss, ProcessThrottle: &e.throttle,
		ProcessKprobe: &e.hook.kprobe, ProcessTracepoint: &e.hook.tracepoint, ProcessLoader: &e.hook.loader, NodeName: opts.NodeName, ClusterName: opts.ClusterName,
	}
	return e
}

// SetHostNs says what the host's namespaces are, for an Encoder that was made before they were known. To be called before
// the first event.
func (e *Encoder) SetHostNs(ns event.Namespaces) { e.opts.HostNs = ns }

// form is one of the two forms that an event is written in.
type form uint8

const (
	formJSON form = iota
	formWire
)

// AppendJSON adds the event as one line of JSON, without the newline.
func (e *Encoder) AppendJSON(b []byte, ev *event.Event) []byte {
	if ev.Hook != nil && e.opts.KeepFragments {
		if b, ok := e.appendLine(b, ev); ok {
			return b
		}
	}
	return e.message(ev, formJSON).AppendJSON(b)
}

// AppendWire adds the event as the bytes of a GetEventsResponse.
func (e *Encoder) AppendWire(b []byte, ev *event.Event) []byte {
	return e.message(ev, formWire).AppendWire(b)
}

// Message returns the event as clients see it, or nil if that is impossible. It allocates: it is for what cannot do without.
func (e *Encoder) Message(ev *event.Event) *tetragon.GetEventsResponse {
	e.whole = e.AppendWire(e.whole[:0], ev)
	m := new(tetragon.GetEventsResponse)
	if proto.Unmarshal(e.whole, m) != nil {
		return nil
	}
	return m
}

// AppendProcess adds p's Process message in wire format, as events have it, and keeps nothing.
func (e *Encoder) AppendProcess(b []byte, p *event.Process) []byte {
	return e.buildProcess(p, false).AppendWire(b)
}

// message builds the message of ev in e's scratch. Its fragments are there in form f, not always in the other.
func (e *Encoder) message(ev *event.Event, f form) *GetEventsResponse {
	e.loose = e.loose[:0]
	m := &e.response
	m.Event, m.Time = 0, OptTime{Ns: ev.Time, Set: true}
	if f == formJSON {
		m.Time.JSON = e.clock.json(ev.Time)
	}
	switch ev.Kind {
	case event.KindExec:
		m.Event = GetEventsResponseProcessExec
		x := &e.exec
		x.Process, x.Parent = e.executed(ev.Process, f), e.fragment(ev.Parent, f)
		x.Ancestors = e.fragments(x.Ancestors[:0], ev.Ancestors, f)
	case event.KindExit:
		m.Event = GetEventsResponseProcessExit
		x := &e.exit
		x.Process, x.Parent = e.fragment(ev.Process, f), e.fragment(ev.Parent, f)
		x.Signal, x.Status, x.Time = signalName(ev.Exit.Signal), ev.Exit.Status, m.Time
		x.Ancestors = e.fragments(x.Ancestors[:0], ev.Ancestors, f)
	case event.KindKprobe:
		m.Event = GetEventsResponseProcessKprobe
		e.buildKprobe(ev, f)
	case event.KindTracepoint:
		m.Event = GetEventsResponseProcessTracepoint
		e.buildTracepoint(ev, f)
	case event.KindLoader:
		m.Event = GetEventsResponseProcessLoader
		e.buildLoader(ev, f)
	case event.KindThrottle:
		m.Event = GetEventsResponseProcessThrottle
		e.throttle = ProcessThrottle{Type: tetragon.ThrottleType_THROTTLE_START, Cgroup: ev.Throttle.Cgroup}
		if ev.Throttle.Stop {
			e.throttle.Type = tetragon.ThrottleType_THROTTLE_STOP
		}
	case event.KindLoss:
		m.Event = GetEventsResponseRateLimitInfo
		x := &e.loss
		x.NumberOfDroppedProcessEvents, x.Losses = 0, x.Losses[:0]
		for i := range ev.Losses {
			l := &ev.Losses[i]
			x.NumberOfDroppedProcessEvents += l.Count
			x.Losses = append(x.Losses, EventLoss{
				Event: l.What, Reason: l.Reason, Count: l.Count, Since: Known(l.Since), Until: Known(l.Until),
			})
		}
	}
	return m
}

// fragment returns p's Process message as it stands in all events but some execs.
func (e *Encoder) fragment(p *event.Process, f form) Fragment {
	if p == nil {
		return Fragment{}
	}
	if f == formJSON && len(p.Encoded.JSON) > 0 || f == formWire && len(p.Encoded.Wire) > 0 {
		return kept(p)
	}
	made := e.loosely(e.buildProcess(p, false), f)
	if !e.opts.KeepFragments {
		return pack(made, f)
	}
	if f == formJSON {
		e.fragmentsMade++
		p.Encoded.JSON, p.Encoded.TidEnd, p.Encoded.Made = append(p.Encoded.JSON[:0], made...), 0, e.fragmentsMade
	} else {
		p.Encoded.Wire = append(p.Encoded.Wire[:0], made...)
	}
	return kept(p)
}

func kept(p *event.Process) Fragment { return Fragment{JSON: p.Encoded.JSON, Wire: p.Encoded.Wire} }

// executed returns p's Process message for its exec event, where it can say more.
func (e *Encoder) executed(p *event.Process, f form) Fragment {
	if p == nil || p.Placeholder || !e.opts.Cred || !p.Binprm.Any() {
		return e.fragment(p, f)
	}
	return pack(e.loosely(e.buildProcess(p, true), f), f)
}

func (e *Encoder) fragments(to []Fragment, ps []*event.Process, f form) []Fragment {
	for _, p := range ps {
		to = append(to, e.fragment(p, f))
	}
	return to
}

// loosely writes m to where fragments stay until the event is written. It is never nil.
func (e *Encoder) loosely(m *Process, f form) []byte {
	at := len(e.loose)
	if f == formJSON {
		e.loose = m.AppendJSON(e.loose)
	} else {
		e.loose = m.AppendWire(e.loose)
	}
	return e.loose[at:len(e.loose):len(e.loose)]
}

func pack(b []byte, f form) Fragment {
	if f == formJSON {
		return Fragment{JSON: b}
	}
	return Fragment{Wire: b}
}

// signalName returns the name of a signal as events show it; numbers above 31 have none.
func signalName(n uint8) string {
	if int(n) < len(signalNames) {
		return signalNames[n]
	}
	return ""
}

var signalNames = [...]string{
	1: "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV",
	"SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN",
	"SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS",
}
