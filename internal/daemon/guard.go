// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"tetragon/internal/config"
	"tetragon/internal/kernel"
	"tetragon/internal/sensor"
)

// guardEvery is how often it is told what the guard denied.
const guardEvery = time.Second

// guard is what keeps others from ending the agent. Nil if that is not asked for.
type guard struct {
	g   *sensor.Guard
	log *slog.Logger

	mu    sync.Mutex
	tries uint64
	mode  string
}

// startGuard starts what is asked for.
func startGuard(cfg *config.Config, f *kernel.Facts, p *sensor.Pins, log *slog.Logger) (*guard, error) {
	if cfg.Guard == "off" {
		return nil, nil
	}
	g, err := sensor.StartGuard(sensor.GuardOptions{Facts: f, Pins: p, Enforce: cfg.Guard == "enforce", Verbose: cfg.Verbose > 0})
	if err != nil {
		return nil, fmt.Errorf("guard (%s): %w", cfg.Source("guard"), err)
	}
	return &guard{g: g, log: log, mode: cfg.Guard}, nil
}

// guardOff switches off what another agent started.
func guardOff(cfg *config.Config, w io.Writer) error {
	n, err := sensor.GuardOff(sensor.PinOptions{Dir: cfg.BPFDir})
	if err != nil {
		return fmt.Errorf("guard-off (%s): %w", cfg.Source("guard-off"), err)
	}
	if n == 0 {
		_, err = fmt.Fprintln(w, "there is no guard")
		return err
	}
	_, err = fmt.Fprintln(w, "the guard is off until the agent is started again")
	return err
}

// run tells what others try, until ctx ends.
func (g *guard) run(ctx context.Context) {
	if g == nil {
		return
	}
	t := time.NewTicker(guardEvery)
	defer t.Stop()
	for {
		g.tell()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// tell logs what others tried since it was last called.
func (g *guard) tell() {
	g.mu.Lock()
	defer g.mu.Unlock()
	tries, err := g.g.Tries()
	if err != nil {
		g.log.Warn("ask the guard", "err", err)
		return
	}
	for _, t := range tries {
		g.tries += t.Denied + t.Monitored
		g.log.Warn("somebody tried what the guard is there to deny", "what", t.What, "denied", t.Denied, "monitored", t.Monitored, "pid", t.Pid, "program", t.Program)
	}
	mode, err := g.g.Mode()
	if err == nil && mode != g.mode {
		g.log.Warn("the mode of the guard was changed", "state", mode)
		g.mode = mode
	}
}

// notes adds to the notes of the agent's state.
func (g *guard) notes(to []string) []string {
	if g == nil {
		return to
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return append(to, fmt.Sprintf("the guard is in mode %s; it has seen %d tries", g.mode, g.tries))
}

// end ends the guard, or leaves it to the next agent.
func (g *guard) end(leave bool) {
	if g == nil {
		return
	}
	g.tell()
	end := g.g.Close
	if leave {
		end = g.g.Leave
	}
	if err := end(); err != nil {
		g.log.Warn("end the guard", "err", err)
	}
}
