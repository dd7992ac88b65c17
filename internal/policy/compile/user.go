// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"tetragon/internal/elf"
	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// userHook is what a hook on a user program has beside what all have.
type userHook struct {
	path    policy.Text
	place   plan.Place
	addr    bool // place.Offset is an address yet
	usdt    *policy.Usdt
	args    []elf.Arg // of a static probe
	machine string    // of the file; empty if it is not known
}

// programFile is a program that was looked at.
type programFile struct {
	f   *elf.File
	err error
}

// open opens a program, once for all hooks on it.
func (c *compiler) open(path string) (*elf.File, error) {
	if x, ok := c.files[path]; ok {
		return x.f, x.err
	}
	if c.files == nil {
		c.files = make(map[string]programFile)
	}
	x := programFile{err: os.ErrNotExist}
	if c.o.Open != nil {
		x.f, x.err = c.o.Open(path)
	}
	c.files[path] = x
	return x.f, x.err
}

func (c *compiler) closeFiles() {
	for _, x := range c.files {
		if x.f != nil {
			_ = x.f.Close() // nothing was written
		}
	}
}

// absolute makes the path of a program what it is for the whole machine.
func (c *compiler) absolute(path policy.Text) string {
	p, err := filepath.Abs(path.Value)
	if err != nil {
		c.d.Error(path.Place, "user-program", "%q has no absolute path: %v", path.Value, err)
	}
	return p
}

// expandUprobe makes a hook of each place that the entry names.
func (c *compiler) expandUprobe(i int, u *policy.Uprobe) {
	if len(u.Digests) > 0 {
		c.d.Error(u.Digests[0].Place, "not-yet-supported", "comparing the program with a digest (binaryDigests) is not supported yet").
			WithHint("take it out")
	}
	path := c.absolute(u.Path)
	add := func(n int, call string, at policy.Place, place plan.Place, addr bool) {
		place.Path = path
		if n < len(u.RefCtrOffset) {
			place.RefCtr = uint64(u.RefCtrOffset[n].Value)
		}
		c.hooks = append(c.hooks, &hook{
			common: &u.Common, section: "uprobes", index: i, call: call, at: at,
			kprobe: &policy.Kprobe{Common: u.Common, Return: u.Return, ReturnArg: u.ReturnArg, Data: u.Data},
			user:   &userHook{path: u.Path, place: place, addr: addr},
		})
	}
	for n, s := range u.Symbols {
		place := plan.Place{}
		name, off, plus := strings.Cut(s.Value, "+")
		if place.Symbol = name; plus {
			place.Offset, _ = strconv.ParseUint(off, 0, 64) // the parser has refused what is no number
		}
		add(n, s.Value, s.Place, place, false)
	}
	for n, o := range u.Offsets {
		add(n, plan.OffsetName(uint64(o.Value)), o.Place, plan.Place{Offset: uint64(o.Value)}, false)
	}
	for n, o := range u.Addrs {
		add(n, plan.OffsetName(uint64(o.Value)), o.Place, plan.Place{Offset: uint64(o.Value)}, true)
	}
}

// resolveUser puts a hook on its place in a user program.
func (c *compiler) resolveUser(h *hook) {
	u := h.user
	h.plan.Event, h.plan.Name = plan.EventUprobe, h.call
	b := plan.BackendUprobe
	if h.needsReturn() {
		b = plan.BackendUretprobe
	}
	if why := c.f.Lacks(kernel.Uprobe); why != "" {
		h.tried(b, "%s", why)
		c.impossible(h)
		return
	}
	u.place.Multi = !c.opts.noUprobeMulti && c.f.Lacks(kernel.UprobeMulti) == ""
	if !c.lookAt(h, b) {
		h.dead = true
		return
	}
	if u.usdt == nil && u.place.Symbol != "" {
		h.plan.Symbol = h.call
	}
	h.plan.Attach = plan.Attach{Backend: b, User: &u.place}
	h.access = access{
		count: maxRegs, param: func(i int) reached { return reached{source: arg(int64(i))} }, ret: reached{source: result()},
	}
	if b == plan.BackendUretprobe && h.wantsRegisters() {
		c.d.Error(h.at, "cannot-hook", "at the return of %s the registers of its beginning are gone", h.what()).
			WithHint("take the registers out of data, or return: true")
		h.dead = true
	}
}

// lookAt compares the hook with the program, if that is there. false: it does not do.
func (c *compiler) lookAt(h *hook, b plan.Backend) bool {
	u := h.user
	f, err := c.open(u.place.Path)
	switch {
	case errors.Is(err, os.ErrNotExist) && u.addr:
		c.d.Error(u.path.Place, "user-program", "%s is not there: what is at an address is known from the file alone", u.place.Path).
			WithHint("symbols and offsets can wait until it comes")
		return false
	case errors.Is(err, os.ErrNotExist) && c.o.Open == nil:
		return true
	case errors.Is(err, os.ErrNotExist):
		c.d.Warn(u.path.Place, "user-program-missing", "%s is not there; it is hooked when it comes", u.place.Path)
		return true
	case err != nil:
		c.d.Error(u.path.Place, "user-program", "%s cannot be hooked: %v", u.place.Path, err)
		return false
	}
	if u.machine = f.Machine(); u.machine != runtime.GOARCH {
		c.d.Error(u.path.Place, "user-program", "%s is a program for %s; this machine is %s", u.place.Path, u.machine, runtime.GOARCH)
		return false
	}
	switch {
	case u.addr:
		if u.place.Offset, err = f.Offset(u.place.Offset); err != nil {
			c.d.Error(h.at, "user-address", "%s: %v", u.place.Path, err)
			return false
		}
		u.addr = false
	case u.place.Symbol != "":
		fn, err := f.Function(u.place.Symbol)
		if err == nil {
			_, err = f.Offset(fn.Addr + u.place.Offset)
		}
		if err != nil {
			c.d.Error(h.at, "unknown-symbol", "%s: %v", u.place.Path, err)
			return false
		}
		if fn.Size > 0 && u.place.Offset >= fn.Size {
			c.d.Error(h.at, "unknown-symbol", "%s: %s has %d bytes; there is no byte %d", u.place.Path, u.place.Symbol, fn.Size, u.place.Offset)
			return false
		}
		if fn.Indirect {
			c.d.Warn(h.at, "indirect-symbol", "what is at %s chooses the function when the program starts; it is called once, and the function is not hooked", u.place.Symbol).
				WithHint("the functions that it chooses from have names of their own, such as %s_avx2", u.place.Symbol)
		}
	default:
		if !f.HasCode(u.place.Offset) {
			c.d.Error(h.at, "user-address", "%s: no code of the file is at offset %#x", u.place.Path, u.place.Offset)
			return false
		}
	}
	return c.lookAtGo(h, f, b)
}

// lookAtGo says what is different in programs that Go made.
func (c *compiler) lookAtGo(h *hook, f *elf.File, b plan.Backend) bool {
	u := h.user
	if !f.Go() {
		return true
	}
	if b == plan.BackendUretprobe {
		c.d.Error(h.kprobe.Return.Place, "go-return", "%s was made by Go: its stacks move, and a changed return address breaks it", u.place.Path).
			WithHint("leave out return, and hook the instruction of the return: symbol+OFFSET")
		return false
	}
	if len(h.common.Args) > 0 && h.user.usdt == nil {
		c.d.Warn(h.common.Args[0].Place, "go-arguments", "%s was made by Go, whose functions pass arguments in rax, rbx, rcx, rdi, rsi, r8, ...; args are those of C", u.place.Path).
			WithHint("data: [{index: 0, type: int, source: pt_regs, resolve: rax}] is the first one")
	}
	return true
}

// userTypes are what a user program can have: numbers, and what can be told of its own memory and descriptors.
var userTypes = []plan.Type{
	plan.TypeInt, plan.TypeString, plan.TypeBytes, plan.TypeSockaddr, plan.TypeSockaddrUn, plan.TypeFd,
}

// userType refuses types of the kernel's own objects on a user program.
func (c *compiler) userType(h *hook, a *policy.Arg, row *typeRow) bool {
	if h.user == nil || slices.Contains(userTypes, row.typ) && !row.load || a.Source.Value == "current_task" {
		return true
	}
	why := "that is an object of the kernel"
	if row.typ == plan.TypeIovec {
		why = "its vectors could name memory of the kernel"
	}
	c.d.Error(a.Type.Place, "arg-type", "a user program has no %s: %s", row.name, why).
		WithHint("numbers, string, char_buf, sockaddr, sockaddr_un or fd")
	return false
}

// expandUsdt makes a hook of each way in which the arguments of a static probe are passed.
func (c *compiler) expandUsdt(_ int, u *policy.Usdt) {
	c.d.Error(u.Place, "not-yet-supported", "%s", fmt.Sprintf("a static probe of a user program (usdts) is not supported yet"))
}
