// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/digest"
	"tetragon/internal/policy/plan"
)

// hashed says where hooks have the file that they are about: a parameter, and a member of what it points to.
var hashed = map[string]struct {
	param  int64
	member string
}{
	"bprm_check_security":   {0, "linux_binprm.file"},
	"bprm_committed_creds":  {0, "linux_binprm.file"},
	"bprm_committing_creds": {0, "linux_binprm.file"},
	"bprm_creds_for_exec":   {0, "linux_binprm.file"},
	"bprm_creds_from_file":  {param: 1},
	"file_ioctl":            {},
	"file_lock":             {},
	"file_open":             {},
	"file_post_open":        {},
	"file_receive":          {},
	"mmap_file":             {},
}

// digestsWanted is what the selectors of a hook want to know of the file that it is about.
type digestsWanted struct {
	at       policy.Place // the first of them
	tells    bool         // the hash, in the event
	compares bool         // by its hash
	verity   bool         // by the digest of fs-verity
}

func (w *digestsWanted) any() bool { return w.tells || w.compares || w.verity }

// reads says whether the file is read, for which the program sleeps.
func (w *digestsWanted) reads() bool { return w.tells || w.compares }

func isDigest(op policy.Text) bool { return op.Value == "Digest" || op.Value == "NotDigest" }

// digests says what the selectors of the hook want.
func (h *hook) digests() digestsWanted {
	var w digestsWanted
	first := func(at policy.Place) {
		if !w.any() {
			w.at = at
		}
	}
	for i := range h.selectors {
		for _, m := range h.selectors[i].Args {
			if !isDigest(m.Operator) {
				continue
			}
			first(m.Operator.Place)
			for _, v := range m.Values {
				if d, err := digest.Parse(v.Value); err == nil && d.Verity {
					w.verity = true
				} else {
					w.compares = true
				}
			}
		}
		for _, a := range h.selectors[i].Actions {
			if a.ImaHash.Value {
				first(a.ImaHash.Place)
				w.tells = true
			}
		}
	}
	return w
}

// hashAt says where the file is whose hash a hook tells or compares.
func (c *compiler) hashAt(h *hook, of *kernel.Func) {
	w := h.digests()
	if !w.any() {
		return
	}
	name := h.lsm.Hook.Value
	file, ok := hashed[name]
	if !ok || int(file.param) >= len(of.Params) {
		c.d.Error(w.at, "cannot-hash", "the hook %s has no file to be hashed", name).
			WithHint("hooks that have: %s", strings.Join(slices.Sorted(maps.Keys(hashed)), ", "))
		return
	}
	for _, x := range []struct {
		wanted bool
		needs  kernel.Feature
		what   string
	}{{w.reads(), kernel.ImaHash, "hashes"}, {w.verity, kernel.Verity, "digests of fs-verity"}} {
		if why := c.f.Lacks(x.needs); x.wanted && why != "" {
			c.d.Error(w.at, "cannot-hash", "%s gives no %s on this kernel", name, x.what).WithNote("%s", why)
			return
		}
	}
	skips := c.f.Lacks(kernel.LsmSleep)
	if skips != "" && w.reads() && h.enforces() {
		c.d.Error(w.at, "cannot-hash", "a hook that denies or kills looks at no hashes on this kernel: while one file is read, calls on the same CPU pass by unseen").
			WithNote("%s", skips).
			WithHint("make two entries of lsmhooks: one that enforces, one that tells or compares hashes")
		return
	}
	s := arg(file.param)
	if file.member != "" {
		var err error
		if s.Steps, err = c.through([]string{file.member}); err != nil || len(s.Steps) != 1 {
			c.d.Error(w.at, "cannot-hash", "%s gives no hashes on this kernel", name).WithNote("its types do not say where the file is: %v", err)
			return
		}
	}
	if name == "file_open" {
		const why = "at file_open the kernel has not opened the file yet: it has a hash only if IMA has made one before"
		const hint = "file_post_open (6.9 and later), mmap_file, bprm_check_security"
		if w.compares || w.verity {
			c.d.Error(w.at, "cannot-hash", why).WithHint(hint)
			return
		}
		c.d.Warn(w.at, "cannot-hash", why).WithHint(hint)
	}
	h.plan.Attach.Hash = &s
	mind := func(when bool, text string) {
		if when {
			h.plan.Caveats = append(h.plan.Caveats, text)
		}
	}
	mind(skips != "" && w.reads(), "a file is read to be hashed: meanwhile calls of other tasks on the same CPU are not seen by this hook (counted as missed where the kernel's statistics are on)")
	mind(w.reads(), "the call waits until all of the file has been read; IMA keeps the hash of a file until it changes only if its own policy measures the file")
	mind((w.compares || w.verity) && file.member != "", "what is executed is compared, a script and its interpreter both; what an interpreter or the dynamic loader is told to read is not executed")
}

// lowerDigest makes a filter of Digest or NotDigest.
func (c *compiler) lowerDigest(h *hook, m *policy.ArgMatch, as []typed, t *typed, what string, r *plan.Rule) {
	v := &h.plan.Values[t.value]
	if what != "args" || v.Type != plan.TypeFile && v.Type != plan.TypeBinprm {
		c.d.Error(m.Operator.Place, "operator-type", "operator %s does not go with type %s", m.Operator.Value, t.row.name).WithHint("%s", operatorsOf(t.row.name, t.row))
		return
	}
	at := h.plan.Attach.Hash
	switch {
	case h.lsm == nil:
		c.d.Error(m.Operator.Place, "cannot-hash", "a hook of %s knows no digests of files", h.section).
			WithHint("an entry of lsmhooks, such as bprm_check_security; or matchBinaries, or the path")
		return
	case at == nil:
		return // why there is none was told
	case !reflect.DeepEqual(v.Source, arg(at.N)) || (len(at.Steps) > 0) != (v.Type == plan.TypeBinprm):
		c.d.Error(m.Operator.Place, "cannot-hash", "%s knows the digest of its parameter %d alone, which %s is not", h.lsm.Hook.Value, at.N, nameOf(as, t, what)).
			WithHint("an entry of args with index: %d, of type file or linux_binprm, without resolve", at.N)
		return
	}
	f := plan.Filter{Kind: plan.FilterDigest, Field: plan.FieldHash, Not: negative(m.Operator), Value: t.value}
	if len(m.Values) == 0 {
		c.noValues(m)
	}
	for i, x := range m.Values {
		d, err := digest.Parse(x.Value)
		if err != nil {
			c.d.Error(x.Place, "bad-digest", "%v", err)
			continue
		}
		field := plan.FieldHash
		if d.Verity {
			field = plan.FieldVerity
		}
		switch {
		case i == 0:
			f.Field = field
		case field != f.Field:
			hint := "make a selector of each"
			if f.Not {
				hint = "make an entry of matchArgs of each"
			}
			c.d.Error(x.Place, "bad-digest", "one entry has hashes of files or digests of fs-verity, not both").WithHint("%s", hint)
			return
		}
		if own := c.f.HashAlgorithm(); !d.Verity && own != "" && own != d.Algorithm {
			c.d.Warn(x.Place, "digest-algorithm", "IMA makes hashes by %s here: no file has one by %s", own, d.Algorithm).
				WithHint("say the %s of the file, or boot with ima_hash=%s", own, d.Algorithm)
		}
		f.Strings = append(f.Strings, d.String())
	}
	slices.Sort(f.Strings)
	f.Strings = slices.Compact(f.Strings)
	f.Text = fmt.Sprintf("%s %s %s", nameOf(as, t, what), m.Operator.Value, quoted(m.Values))
	r.Filters = append(r.Filters, f)
}
