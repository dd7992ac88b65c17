// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"slices"

	"github.com/cilium/ebpf/asm"

	"tetragon/internal/policy/plan"
)

// What rules order to be done at once. Which rules decide is found by generated code: the first of each group that is alive.
// So there is no loop, and no state of a loop that the verifier could take for constant. What they order is read from the
// table of rules, as the mode of a policy changes while its programs run.

// orders says whether a rule orders anything of this kind.
func (b *body) orders(i int) bool { return b.p.Rules[i].Do.Enforces() || b.p.Rules[i].Do.Forget != 0 }

// signals says whether a rule may send a signal.
func (b *body) signals(i int) bool {
	return len(b.p.Rules[i].Do.Signals) > 0 || b.p.Rules[i].Do.Enforcer
}

// enforces says whether any rule does.
func (b *body) enforces() bool {
	for i := range b.p.Rules {
		if b.orders(i) {
			return true
		}
	}
	return false
}

// overrides says whether any rule has the call denied.
func (b *body) overrides() bool {
	return slices.ContainsFunc(b.p.Rules, func(r plan.Rule) bool { return r.Do.Override })
}

// noVerdict notes that nothing was ordered yet.
func (b *body) noVerdict() {
	w := int64(b.words)
	if b.enforces() {
		w |= 1 << 8
	}
	b.c.add(asm.StoreImm(asm.R10, wordsAt, w, asm.Word))
}

// enforce carries out what the rules that decide order.
func (b *body) enforce() {
	if !b.enforces() {
		return
	}
	c := b.c
	signals := false
	for i := range b.p.Rules {
		signals = signals || b.signals(i)
	}
	c.add(storeImm64(asm.R10, sentAt, 0))
	if signals {
		c.add(storeImm64(asm.R10, stepAt, 0))
		b.deciding(b.signals, func(i int) {
			if do := &b.p.Rules[i].Do; do.Enforcer {
				c.add(asm.Mov.Imm(asm.R1, int32(b.o.Base+i)), asm.LoadImm(asm.R2, int64(do.From), asm.DWord), asm.Mov.Imm(asm.R3, kills(do)), call("verdict_signals"))
			} else {
				c.add(asm.Mov.Imm(asm.R1, int32(b.o.Base+i)), call("enforce_signals"))
			}
			c.add(
				asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord), asm.Or.Reg(asm.R1, asm.R0), asm.StoreMem(asm.R10, stepAt, asm.R1, asm.DWord),
			)
		})
		none := c.label()
		c.add(
			asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord), asm.JEq.Imm(asm.R1, 0, none),
			call("enforce_send"), asm.StoreMem(asm.R10, sentAt, asm.R0, asm.DWord),
		)
		c.here(none)
	}
	b.deciding(b.orders, func(i int) {
		do := &b.p.Rules[i].Do
		if do.Enforcer {
			c.add(asm.Mov.Imm(asm.R1, int32(b.o.Base+i)), asm.LoadImm(asm.R2, int64(do.From), asm.DWord),
				asm.LoadMem(asm.R3, asm.R10, sentAt, asm.DWord), asm.Mov.Imm(asm.R4, kills(do)), call("verdict_count"))
		} else {
			c.add(asm.Mov.Imm(asm.R1, int32(b.o.Base+i)), asm.LoadMem(asm.R2, asm.R10, sentAt, asm.DWord), call("enforce_count"))
		}
		if do.Override {
			b.override(do)
		}
		if do.Set != nil {
			b.set(i)
		}
		if n := do.Notify; n != nil {
			signals := uint64(0)
			if n.Signal > 0 {
				signals = 1 << (n.Signal - 1)
			}
			c.add(asm.Mov.Imm(asm.R1, int32(b.o.Base+i)), asm.LoadImm(asm.R2, int64(n.To), asm.DWord), asm.Mov.Imm(asm.R3, n.Error),
				asm.LoadImm(asm.R4, int64(signals), asm.DWord), call("verdict_notify"))
		}
		if do.Forget != 0 {
			c.add(asm.Mov.Imm(asm.R1, int32(b.o.Base+i)), asm.LoadImm(asm.R2, int64(do.Forget), asm.DWord), call("verdict_forget"))
		}
		if do.Enforcer {
			c.add(verdict(do.From), call("verdict_drop"))
		}
	})
}

// kills says for the library whether an error that was ordered of an enforcer kills.
func kills(do *plan.Actions) int32 {
	if do.Kills {
		return 1
	}
	return 0
}

// override sees to it that the call is denied with the error in R0, which is ENFORCE_NONE if it is not, or with the one that
// was ordered before.
func (b *body) override(do *plan.Actions) {
	c := b.c
	next := c.label()
	b.jumpNone(next)
	if do.From != 0 && !do.Enforcer {
		c.add(verdict(do.From), call("verdict_error"), asm.JEq.Imm(asm.R0, 0, next))
	}
	switch {
	case do.Later != 0:
		c.add(asm.Mov.Reg(asm.R2, asm.R0), verdict(do.Later), call("verdict_keep"))
	case !b.p.Attach.Backend.Denies():
		b.fail("%s overrides nothing", b.p.Attach.Backend)
	default:
		// The first policy's error stands.
		c.add(asm.LoadMem(asm.R1, asm.R10, errorAt, asm.Half), asm.JNE.Imm(asm.R1, 0, next), asm.StoreMem(asm.R10, errorAt, asm.R0, asm.Half))
	}
	c.here(next)
}

// verdict loads the name of a verdict for a call of the library.
func verdict(v plan.Verdict) asm.Instruction { return asm.LoadImm(asm.R1, int64(v), asm.DWord) }

// keepsVerdicts says whether a rule orders what others carry out.
func (b *body) keepsVerdicts() bool {
	for i := range b.p.Rules {
		if b.p.Rules[i].Do.Later != 0 {
			return true
		}
	}
	return false
}

// newCall forgets what was ordered for an earlier call. Only a program that is on may do so: what it forgets it orders again
// if that still holds.
func (b *body) newCall() {
	if b.o.Test || b.o.Touch {
		return
	}
	dropped := make(map[plan.Verdict]bool)
	for i := range b.p.Rules {
		if v := b.p.Rules[i].Do.Later; v != 0 && !dropped[v] {
			dropped[v] = true
			b.c.add(verdict(v), call("verdict_drop"))
		}
	}
}

// set writes what a rule sets to where the value was loaded from.
func (b *body) set(i int) {
	c := b.c
	v := b.p.Rules[i].Do.Set.Value
	if v < 0 || v >= len(b.p.Values) || len(b.p.Values[v].Source.Steps) != 1 || b.p.Attach.User == nil {
		b.fail("value %d cannot be set", v)
		return
	}
	s := b.p.Values[v].Source
	off := s.Steps[0].Off
	s.Steps = nil
	bad, done := c.label(), c.label()
	b.source(&s, bad)
	if off != int64(int32(off)) {
		b.fail("an offset of %d bytes is out of reach", off)
		return
	}
	c.add(
		asm.Add.Imm(asm.R1, int32(off)), asm.JSLT.Imm(asm.R1, 0, bad), asm.Mov.Reg(asm.R2, asm.R1),
		asm.Mov.Imm(asm.R1, int32(b.o.Base+i)), call("enforce_set"), asm.JEq.Imm(asm.R0, 0, done),
	)
	c.here(bad)
	c.add(asm.StoreImm(asm.R10, errorAt, 1, asm.Half))
	c.here(done)
}

// noError is ENFORCE_NONE of bpf/abi/hook.h; the package's test compares them.
const noError = 1<<31 - 1

// jumpNone jumps if R0 says that nothing is to be overridden.
func (b *body) jumpNone(label string) {
	b.c.add(asm.JEq.Imm(asm.R0, noError, label))
}

// deciding does something for each rule that `which` says and that is the first of its group that is alive.
func (b *body) deciding(which func(int) bool, do func(int)) {
	c := b.c
	for g := range b.p.Groups {
		group := &b.p.Groups[g]
		for i := group.First; i < group.First+len(group.Hook.Rules); i++ {
			if !which(i) {
				continue
			}
			next := c.label()
			for w := group.First / 64; w <= i/64; w++ {
				// Of the group's rules in this word up to this one, only this one.
				lo, hi := max(group.First-64*w, 0), min(i-64*w, 63)
				mask := ^uint64(0) >> (63 - hi) &^ (1<<lo - 1)
				want := uint64(0)
				if w == i/64 {
					want = 1 << (i % 64)
				}
				if b.words == 1 {
					c.add(asm.Mov.Reg(asm.R1, asm.R6))
				} else {
					c.add(asm.LoadMem(asm.R1, asm.R10, liveAt(w), asm.DWord))
				}
				b.andImm(asm.R1, mask)
				c.jumpImm(asm.JNE, asm.R1, want, next)
			}
			do(i)
			c.here(next)
		}
	}
}

// minError is the least number that the kernel takes for an error.
const minError = -4095

// verdict leaves in R0 what the program returns.
func (b *body) verdict() {
	c := b.c
	if !b.p.Attach.Backend.Denies() || b.o.Test || !b.overrides() {
		c.add(asm.Mov.Imm(asm.R0, exitCode(b.p.Attach.Backend))) // bound: a few LSM hooks may return no error at all
		return
	}
	if b.p.Attach.Backend.Cgroup() {
		goesOn, done := c.label(), c.label()
		c.add(
			asm.LoadMem(asm.R1, asm.R10, errorAt, asm.Half), asm.JEq.Imm(asm.R1, 0, goesOn),
			asm.LSh.Imm(asm.R1, 48), asm.ArSh.Imm(asm.R1, 48), asm.FnSetRetval.Call(), asm.Mov.Imm(asm.R0, 0),
		)
		c.jump(done)
		c.here(goesOn)
		c.add(asm.Mov.Imm(asm.R0, 1))
		c.here(done)
		return
	}
	denies, done := c.label(), c.label()
	c.add(
		asm.LoadMem(asm.R0, asm.R10, errorAt, asm.Half), asm.LSh.Imm(asm.R0, 48), asm.ArSh.Imm(asm.R0, 48),
		asm.JSGT.Imm(asm.R0, 0, denies), asm.JSGE.Imm(asm.R0, minError, done), // bound: what an LSM hook may return
	)
	c.here(denies)
	c.add(asm.Mov.Imm(asm.R0, -1))
	c.here(done)
}
