// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"tetragon/internal/config"
	"tetragon/internal/elf"
	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/parse"
	"tetragon/internal/policy/plan"
	"tetragon/internal/policy/registry"
	"tetragon/internal/request"
	"tetragon/policies"
)

// factsIdle is how long the kernel's types are kept after they were last needed. They are by far the largest thing in
// memory, and what is needed rarely; but whoever adds ten policies shall not read them ten times.
const factsIdle = 3 * time.Second

// factsKeeper has the facts of the kernel at hand for a while.
type factsKeeper struct {
	o kernel.Options

	mu    sync.Mutex
	facts *kernel.Facts
	timer *time.Timer
}

// get returns the facts; the caller does not keep them.
func (k *factsKeeper) get() (*kernel.Facts, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.facts == nil {
		f, err := kernel.Read(k.o)
		if err != nil {
			return nil, err
		}
		k.facts = f
	}
	if k.timer == nil {
		k.timer = time.AfterFunc(factsIdle, k.drop)
	} else {
		k.timer.Reset(factsIdle)
	}
	return k.facts, nil
}

// drop gives their memory back, if there are any.
func (k *factsKeeper) drop() {
	k.mu.Lock()
	had := k.facts != nil
	k.facts = nil
	k.mu.Unlock()
	if had {
		giveBack()
	}
}

// policyLane is the policy lane, from a text to the kernel: parse, compile, and what the registry makes of the plan.
func policyLane(cfg *config.Config, sensors registry.Sensors, facts *factsKeeper, loader func(bool) error, log *slog.Logger) (*registry.Registry, error) {
	var store *registry.Store
	if cfg.PersistGRPCPolicies {
		var err error
		if store, err = registry.OpenStore(cfg.PersistGRPCPoliciesDir); err != nil {
			return nil, fmt.Errorf("persist-grpc-policies-dir (%s): %w", cfg.Source("persist-grpc-policies-dir"), err)
		}
	}
	return registry.New(registry.Options{
		Sensors: sensors, Loader: loader, Store: store, Log: log,
		Parse: func(t registry.Text) (*policy.Policy, *policy.Diagnostics) {
			return parse.YAML(t.Name, t.YAML, parse.Options{Getenv: t.Getenv})
		},
		Compile: func(domain string, p *policy.Policy) (*plan.Plan, *policy.Diagnostics, error) {
			f, err := facts.get()
			if err != nil {
				return nil, nil, err
			}
			pl, d := compile.Compile(p, f, compile.Options{
				Domain: domain, DisableKprobeMulti: cfg.DisableKprobeMulti, AllowMissing: cfg.AllowMissingHooks,
				Open: elf.Open, OpenTypes: compile.OpenTypes, MayAsk: request.Hosts(cfg.ActionHosts).Allow,
			})
			return pl, d, nil
		},
	}), nil
}

// loadPolicies loads what is there at the start: what an earlier agent was given by the API and kept, then ready-made policies, then the directory, then the file. Only the file, which
// somebody named, ends the start if it cannot be loaded.
func loadPolicies(ctx context.Context, cfg *config.Config, readyMade []string, r *registry.Registry, tell io.Writer) error {
	if err := r.Restore(); err != nil {
		return fmt.Errorf("persist-grpc-policies-dir (%s): %w", cfg.Source("persist-grpc-policies-dir"), err)
	}
	for _, n := range readyMade {
		text, err := policies.Text(n)
		if err != nil {
			return err
		}
		t := registry.Text{Name: n + ".yaml", YAML: text, Getenv: os.LookupEnv}
		if err := r.Add(registry.DomainStatic, t, false); err != nil {
			r.AddBroken(registry.DomainStatic, t, err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	if len(readyMade) > 0 {
		tellServed(tell, r.List(registry.DomainStatic))
	}
	if _, err := r.AddDir(ctx, cfg.TracingPolicyDir); err != nil {
		return fmt.Errorf("tracing-policy-dir (%s): %w", cfg.Source("tracing-policy-dir"), err)
	}
	if cfg.TracingPolicy == "" || ctx.Err() != nil {
		return nil
	}
	if err := r.AddFile(cfg.TracingPolicy); err != nil {
		return fmt.Errorf("load the policy that tracing-policy names (%s):\n%w", cfg.Source("tracing-policy"), err)
	}
	return nil
}

// tellServed says which of the ready-made policies this kernel serves, by what, and which it does not, and why. It is written
// at once, as events may be on their way to the same terminal.
func tellServed(w io.Writer, list []registry.Status) {
	var b strings.Builder
	b.WriteString("ready-made policies on this kernel:\n")
	for i := range list {
		s := &list[i]
		fmt.Fprintf(&b, "  %s: %s\n", s.Key.Name, strings.ReplaceAll(s.State.String(), "_", " "))
		if s.Error != "" {
			fmt.Fprintf(&b, "      %s\n", strings.ReplaceAll(s.Error, "\n", "\n      "))
		}
		if s.Plan == nil || s.State == registry.StateLoadError {
			continue
		}
		if s.Plan.Loader {
			fmt.Fprintf(&b, "      %-30s by what the kernel tells of mappings (perf events)\n", "executable mappings")
		}
		for j := range s.Plan.Hooks {
			h := &s.Plan.Hooks[j]
			switch at := strings.TrimSpace(h.Attach.Backend.String() + " " + h.Attach.Symbol); {
			case h.Inactive != "":
				fmt.Fprintf(&b, "      %-30s not served: %s\n", h.Name, h.Inactive)
			case h.Attach.Backend.Equivalent():
				fmt.Fprintf(&b, "      %-30s by its equivalent %s\n", h.Name, at)
			default:
				fmt.Fprintf(&b, "      %-30s by %s\n", h.Name, at)
			}
		}
	}
	_, _ = io.WriteString(w, b.String()) // a reader that has gone is no reason to stop
}
