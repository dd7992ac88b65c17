// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
)

// key is everything that makes two attach points differ, as text.
func (a *Attach) key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%s", a.Backend, a.Symbol)
	if a.Module != "" {
		fmt.Fprintf(&b, "[%s]", a.Module)
	}
	if len(a.Symbols) > 0 {
		fmt.Fprintf(&b, ":%s", strings.Join(a.Symbols, ","))
	}
	if u := a.User; u != nil {
		fmt.Fprintf(&b, ":%s", u)
	}
	if a.Hash != nil {
		fmt.Fprintf(&b, ":hash %v", *a.Hash)
	}
	for _, c := range a.Calls {
		fmt.Fprintf(&b, ":%s/%d", c.ABI, c.Nr)
	}
	for i := range a.When {
		w := &a.When[i]
		fmt.Fprintf(&b, ":%v&%x", w.Source, w.Mask)
		if w.Not {
			b.WriteByte('!')
		}
		for _, r := range w.Ranges {
			fmt.Fprintf(&b, "[%x-%x]", r.Lo, r.Hi)
		}
	}
	return b.String()
}

// Key is everything that makes two values differ, as text; values with equal keys are read once.
func (v *Value) Key() string {
	k := fmt.Sprintf("%v:%d:%d:%t:%d:%t:%t:%t:%d", v.Source, v.Type, v.Bits, v.Signed, v.Bytes, v.Max, v.Exit, v.Track, v.Owner)
	if v.Size != nil {
		k += fmt.Sprintf(":%v", *v.Size)
	}
	return k
}
