// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"strings"
	"testing"

	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event"
	"tetragon/internal/event/enrich"
)

const pieceSize = len(abi.Data{}.Data)

// cut makes the pieces of block, as they come before the exec of pid 100.
func cut(what uint32, block string) [][]byte {
	var out [][]byte
	for i := 0; i*pieceSize < len(block); i++ {
		out = append(out, abitest.Data(abi.Head{Pid: 100, Time: 1001, Ktime: 1001}, what, uint32(i),
			block[i*pieceSize:min(len(block), (i+1)*pieceSize)], len(block)))
	}
	return out
}

func without(recs [][]byte, i int) [][]byte {
	return append(append([][]byte(nil), recs[:i]...), recs[i+1:]...)
}

func TestPieces(t *testing.T) {
	word := strings.Repeat("0123456789", 1000) // three pieces, with its NUL
	block := "ls\x00" + word + "\x00"
	pieces := cut(abi.DataArgs, block)
	if len(pieces) != 3 {
		t.Fatalf("%d pieces, want 3", len(pieces))
	}
	for name, c := range map[string]struct {
		pieces [][]byte
		want   string
		words  string
	}{
		"all":             {pieces, word, "execve clone dataArgs"},
		"the first lost":  {without(pieces, 0), "", "execve truncArgs clone"},
		"the second lost": {without(pieces, 1), word[:pieceSize-3], "execve truncArgs clone dataArgs"},
		"the last lost":   {without(pieces, 2), word[:2*pieceSize-3], "execve truncArgs clone dataArgs"},
		"all lost":        {nil, "", "execve truncArgs clone"},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{})
			for _, p := range c.pieces { // each in a batch of its own
				if evs := l.feed(abitest.Aligned(p)); len(evs) != 0 {
					t.Fatalf("a piece made events: %q", say(evs))
				}
			}
			x := child(abitest.Texts{Name: "/bin/ls"})
			x.with = func(x *abi.Exec) { x.ArgsTotal = uint32(len(block)) }
			p := l.one(x.exec()).Process
			if p.Arguments != c.want || p.Flags.String() != c.words {
				t.Errorf("got %d bytes (%s), want %d (%s)", len(p.Arguments), p.Flags, len(c.want), c.words)
			}
			l.settled()
		})
	}
}

func TestPieces_environment(t *testing.T) {
	val := strings.Repeat("v", 5000)
	env := "A=" + val + "\x00B=2\x00"
	args := "ls\x00" + strings.Repeat("a", 6000) + "\x00"
	for name, on := range map[string]bool{"asked for": true, "not asked for": false} {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{Env: on})
			l.feed(cut(abi.DataArgs, args)...)
			l.feed(cut(abi.DataEnv, env)...)
			x := child(abitest.Texts{Name: "/bin/ls"})
			x.with = func(x *abi.Exec) { x.ArgsTotal, x.EnvTotal = uint32(len(args)), uint32(len(env)) }
			p := l.one(x.exec()).Process
			if len(p.Arguments) != 6000 {
				t.Errorf("%d bytes of arguments, want 6000", len(p.Arguments))
			}
			if on && (len(p.Env) != 2 || p.Env[0] != event.EnvVar{Key: "A", Value: val} || p.Env[1] != event.EnvVar{Key: "B", Value: "2"}) {
				t.Errorf("environment of %d", len(p.Env))
			}
			if !on && p.Env != nil {
				t.Errorf("environment of %d, want none", len(p.Env))
			}
		})
	}
}

// Pieces whose exec was lost are not kept for ever, whether there is anything in them or not.
func TestPieces_bounded(t *testing.T) {
	piece := strings.Repeat("x", pieceSize)
	for name, c := range map[string]struct {
		execs uint32
		index uint32
		text  string
		same  bool
		limit int // of those that wait
	}{
		"full":              {6000, 0, piece, false, 17 << 20 / pieceSize},
		"empty":             {70_000, 0, "", false, 1 << 16},
		"the first lost":    {70_000, 1, "x", false, 1 << 16},
		"of one exec alone": {6000, 0, piece, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t, enrich.Options{})
			for i := range c.execs {
				h := abi.Head{Pid: 1000 + i, Time: 1001, Ktime: 1001}
				index := c.index
				if c.same {
					h.Pid, index = 1000, i
				}
				l.feed(abitest.Data(h, abi.DataArgs, index, c.text, len(c.text)))
			}
			n, bytes := l.e.Waiting()
			if bytes > 17<<20 || n > c.limit {
				t.Errorf("%d execs with %d bytes wait", n, bytes)
			}
		})
	}
}
