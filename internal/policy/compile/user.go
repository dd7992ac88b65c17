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
	addr    bool        // place.Offset is an address yet
	btfPath policy.Text // of its types; empty: none are named
	usdt    *policy.Usdt
	uprobe  *policy.Uprobe // nil for static probes
	args    []elf.Arg      // of a static probe
	machine string         // of the file; empty if it is not known
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
	var digests []string
	for _, d := range u.Digests {
		digests = append(digests, strings.ToLower(strings.TrimSpace(d.Value)))
	}
	path := c.absolute(u.Path)
	add := func(n int, call string, at policy.Place, place plan.Place, addr bool) {
		place.Path, place.Digests = path, digests
		if n < len(u.RefCtrOffset) {
			place.RefCtr = uint64(u.RefCtrOffset[n].Value)
		}
		c.hooks = append(c.hooks, &hook{
			common: &u.Common, section: "uprobes", index: i, call: call, at: at,
			kprobe: &policy.Kprobe{Common: u.Common, Return: u.Return, ReturnArg: u.ReturnArg, Data: u.Data},
			user:   &userHook{path: u.Path, place: place, addr: addr, uprobe: u, btfPath: u.BTFPath},
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
	switch {
	case u.usdt != nil:
		h.plan.Event, h.plan.Subsys, h.plan.TpEvent = plan.EventUsdt, u.usdt.Provider.Value, u.usdt.Name.Value
	case u.place.Symbol != "":
		h.plan.Symbol = h.call
	}
	h.plan.Attach = plan.Attach{Backend: b, User: &u.place}
	h.access = access{
		count: maxRegs, param: func(i int) reached { return reached{source: arg(int64(i))} }, ret: reached{source: result()},
	}
	if u.usdt != nil {
		h.access = access{count: len(u.args), param: func(i int) reached {
			r := reachProbe(&u.args[i])
			if r.why != "" {
				r.why = fmt.Sprintf("argument %d of %s cannot be read: %s", i, h.what(), r.why)
			}
			return r
		}}
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
	case errors.Is(err, os.ErrNotExist) && len(u.place.Digests) > 0:
		c.d.Error(u.path.Place, "user-program", "%s is not there, so it has no digest", u.place.Path).WithHint("add the policy when it is there")
		return false
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
	if len(u.place.Digests) > 0 && !c.hasDigest(h, f) {
		return false
	}
	switch {
	case u.usdt != nil: // it was looked at when its places were found
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

// hasDigest compares a program with the digests that the policy names. The sensor does so again with what it attaches to.
func (c *compiler) hasDigest(h *hook, f *elf.File) bool {
	u := h.user
	at := u.uprobe.Digests[0].Place
	ok, other, err := f.Is(u.place.Digests)
	switch {
	case err != nil:
		c.d.Error(at, "user-program", "%s: %v", u.place.Path, err)
	case !ok && u.uprobe.DigestFailure.Value:
		h.plan.Rejected = true
		c.inactive(h, fmt.Sprintf("%s is another program: it has %s", u.place.Path, other))
	case !ok:
		c.d.Error(at, "other-digest", "%s is another program: it has %s", u.place.Path, other).
			WithHint("ignore: {digestVerificationFailure: true} loads the policy without this hook")
	}
	return ok
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

// userTypes reads the types that the policy names for a program.
func (c *compiler) userTypes(h *hook) (Types, error) {
	if c.o.OpenTypes == nil {
		return nil, errors.New("the file with its types cannot be looked at here")
	}
	path := c.absolute(h.user.btfPath)
	if t := c.types[path]; t != nil {
		return t, nil
	}
	t, err := c.o.OpenTypes(path)
	if err == nil {
		if c.types == nil {
			c.types = make(map[string]Types)
		}
		c.types[path] = t
	}
	return t, err
}

// userReadable are what a user program can have: numbers, and what can be told of its own memory and descriptors.
var userReadable = []plan.Type{
	plan.TypeInt, plan.TypeString, plan.TypeBytes, plan.TypeSockaddr, plan.TypeSockaddrUn, plan.TypeFd,
}

// userType refuses types of the kernel's own objects on a user program.
func (c *compiler) userType(h *hook, a *policy.Arg, row *typeRow) bool {
	if h.user == nil || slices.Contains(userReadable, row.typ) && !row.load || a.Source.Value == "current_task" {
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

// expandUsdt makes a hook of each way in which the arguments of a static probe are passed: its places may differ in that.
func (c *compiler) expandUsdt(i int, u *policy.Usdt) {
	path := c.absolute(u.Path)
	full := u.Provider.Value + ":" + u.Name.Value
	f, err := c.open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		c.d.Error(u.Path.Place, "user-program", "%s is not there: where the arguments of a static probe are is known from the file alone", path).
			WithHint("add the policy when it is there")
		return
	case err != nil:
		c.d.Error(u.Path.Place, "user-program", "%s cannot be hooked: %v", path, err)
		return
	}
	probes, err := f.FindProbes(u.Provider.Value, u.Name.Value)
	if err != nil {
		c.d.Error(u.Name.Place, "unknown-probe", "%s: %v", path, err)
		return
	}
	seen := make(map[string]bool)
	for _, p := range probes {
		if seen[p.Args] {
			continue
		}
		seen[p.Args] = true
		c.hooks = append(c.hooks, &hook{
			common: &u.Common, section: "usdts", index: i, call: full, at: u.Name.Place,
			kprobe: &policy.Kprobe{Common: u.Common},
			user: &userHook{
				path: u.Path, btfPath: u.BTFPath, usdt: u, args: elf.ParseArgs(f.Machine(), p.Args), place: plan.Place{Path: path, Probe: full, Args: p.Args},
			},
		})
	}
}

// reachProbe makes a source of where an argument of a static probe is.
func reachProbe(a *elf.Arg) reached {
	no := func(format string, args ...any) reached { return reached{why: fmt.Sprintf(format, args...)} }
	bits := a.Size * 8
	switch {
	case a.Bad != "":
		return no("the file says that it is at %s", a.Bad)
	case a.Float:
		return no("it is a number with a point, in a register that programs do not see")
	case !a.Mem && a.Base == "":
		return reached{source: constant(a.Const)}
	}
	s, ok := register(a.Base)
	if !ok {
		return no("it is in register %q, which programs do not see", a.Base)
	}
	if !a.Mem {
		if s.Bits == 0 || bits < s.Bits {
			s.Bits = bits
		}
		if s.Bits == 64 {
			s.Bits = 0
		}
		s.Signed = a.Signed && s.Bits != 0
		return reached{source: s}
	}
	if a.Index != "" {
		x, ok := register(a.Index)
		if !ok || x.Bits != 0 {
			return no("it is at register %q, which is no whole one that programs see", a.Index)
		}
		s.Index, s.Scale = x.Off, a.Scale
	}
	if s.Bits != 0 {
		return no("it is in memory at a part of a register (%s)", a.Base)
	}
	s.Steps = []plan.Step{{Off: a.Disp, Size: a.Size, Signed: a.Signed, User: true}}
	return reached{source: s}
}
