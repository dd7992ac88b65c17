// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tetragon/api/v1/tetragon"
)

func (a *app) topCommand() *cobra.Command {
	var interval time.Duration
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show processes, policies, hooks and losses as they change",
		Long: `Shows in the terminal what goes on: events a second by policy and binary, what each hook matched, what was lost, and the
tree of processes. "/" filters as you type, "p" pauses, "q" ends. What a call of a hook costs in the kernel, and how much of one
CPU all its calls do, is told while the kernel counts that: while "tetra debug enable-stats" runs, or with
sysctl kernel.bpf_stats_enabled=1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond {
				return fmt.Errorf("--interval: %s is less than 100ms", interval)
			}
			return a.top(cmd.Context(), interval, once)
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "time between two pictures")
	cmd.Flags().BoolVar(&once, "once", false, "print one picture after one interval, as text")
	return cmd
}

// topInput is what comes to the picture from outside.
type topInput struct {
	events chan *tetragon.GetEventsResponse
	status chan string // why there are no events; empty when they come again
	keys   chan []byte
}

func (a *app) top(ctx context.Context, interval time.Duration, once bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := topInput{make(chan *tetragon.GetEventsResponse, 1024), make(chan string, 1), make(chan []byte)}
	m := newTopModel(a.target())
	// This also finds out whether there is an agent, before the screen is taken.
	if err := a.unary(ctx, func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
		list, err := dumpProcesses(ctx, c, &tetragon.DumpProcessCacheReqArgs{})
		m.living(list)
		return err
	}); err != nil {
		return err
	}
	a.askAgent(ctx, m) // what was before does not count
	m.tick(interval)
	size := func() (w, h int) { return 160, 1 << 16 } // of text: all of it
	draw := func() error {
		for _, l := range m.lines(size()) {
			if _, err := fmt.Fprintln(a.opts.Out, l); err != nil {
				return err
			}
		}
		return nil
	}
	if !once {
		restore, err := a.takeScreen(&size)
		if err != nil {
			return err
		}
		defer restore()
		go a.readKeys(ctx, in.keys)
		draw = func() error { return drawScreen(a.opts.Out.(*os.File), m.lines(size())) }
	}
	go a.follow(ctx, in)
	if !once {
		if err := draw(); err != nil {
			return err
		}
	}
	began := time.Now()
	for ticker := time.NewTicker(interval); ; {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-in.events:
			m.event(ev)
			continue
		case m.status = <-in.status:
			continue
		case key := <-in.keys:
			if !m.key(key) {
				return nil
			}
		case <-ticker.C:
			if m.paused {
				break
			}
			a.askAgent(ctx, m)
			m.tick(time.Since(began))
			began = time.Now()
		}
		if err := draw(); err != nil || once {
			return err
		}
	}
}

// takeScreen gives the terminal to us, until restore.
func (a *app) takeScreen(size *func() (int, int)) (restore func(), err error) {
	in, ok := a.opts.In.(*os.File)
	out, ok2 := a.opts.Out.(*os.File)
	if !ok || !ok2 || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return nil, hint(errors.New("top needs a terminal"), "--once prints one picture as text")
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("take the terminal: %w", err)
	}
	*size = func() (int, int) {
		w, h, err := term.GetSize(int(out.Fd()))
		if err != nil || w < 1 || h < 1 {
			return 80, 24
		}
		return w, h
	}
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l\x1b[?7l") // the other screen, no cursor, no wrapping
	return func() {
		fmt.Fprint(out, "\x1b[?7h\x1b[?25h\x1b[?1049l")
		_ = term.Restore(int(in.Fd()), old)
	}, nil
}

func drawScreen(out *os.File, lines []string) error {
	var b bytes.Buffer
	b.WriteString("\x1b[H")
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, err := out.Write(b.Bytes())
	return err
}

func (a *app) readKeys(ctx context.Context, keys chan<- []byte) {
	for {
		b := make([]byte, 64)
		n, err := a.opts.In.Read(b)
		if err != nil {
			return
		}
		select {
		case keys <- b[:n]:
		case <-ctx.Done():
			return
		}
	}
}

// follow reads events, and again when the agent has come back.
func (a *app) follow(ctx context.Context, in topInput) {
	quick := *a
	quick.retries = 0
	for {
		err := quick.call(ctx, func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
			s, err := c.GetEvents(ctx, &tetragon.GetEventsRequest{})
			if err != nil {
				return err
			}
			if _, err := s.Header(); err == nil {
				tell(ctx, in.status, "")
			}
			for {
				ev, err := s.Recv()
				if err != nil {
					return err
				}
				select {
				case in.events <- ev:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		if ctx.Err() != nil {
			return
		}
		tell(ctx, in.status, fmt.Sprintf("no events: %v", err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(a.opts.RetryPause):
		}
	}
}

func tell(ctx context.Context, to chan<- string, text string) {
	select {
	case to <- text:
	case <-ctx.Done():
	}
}

// askAgent asks what no event says. What cannot be had keeps its last value.
func (a *app) askAgent(ctx context.Context, m *topModel) {
	quick := *a
	quick.retries, quick.timeout = 0, min(a.timeout, 5*time.Second)
	err := quick.unary(ctx, func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
		ps, err := c.ListTracingPolicies(ctx, &tetragon.ListTracingPoliciesRequest{})
		if err != nil {
			return err
		}
		h, err := c.GetHealth(ctx, &tetragon.GetHealthStatusRequest{})
		if err == nil {
			m.answers(ps.GetPolicies(), h)
		}
		return err
	})
	if err != nil {
		a.debugf("%v", err)
	}
}
