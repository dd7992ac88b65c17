// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/compile"
)

// sampleValue is a value that each operator can read.
var sampleValue = map[string][]string{
	"Equal": {"1"}, "NotEqual": {"1"}, "GT": {"1"}, "LT": {"1"}, "Mask": {"1"}, "InMap": {"1"}, "NotInMap": {"1"}, "InRange": {"1:2"},
	"NotInRange": {"1:2"}, "Prefix": {"1"}, "NotPrefix": {"1"}, "Postfix": {"1"}, "NotPostfix": {"1"}, "SubString": {"1"},
	"SubStringIgnCase": {"1"}, "SAddr": {"10.0.0.1"}, "NotSAddr": {"10.0.0.1"}, "DAddr": {"10.0.0.1"}, "NotDAddr": {"10.0.0.1"},
	"SPort": {"1"}, "NotSPort": {"1"}, "DPort": {"1"}, "NotDPort": {"1"}, "SPortPriv": nil, "NotSportPriv": nil, "DPortPriv": nil,
	"NotDPortPriv": nil, "Protocol": {"6"}, "Family": {"2"}, "State": {"1"}, "CapabilitiesGained": nil, "FileType": {"reg"},
	"NotFileType": {"reg"}, "CelExpr": {"arg0 == arg1"}, "Digest": {sampleDigest}, "NotDigest": {sampleDigest},
}

const sampleDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

var operatorOrder = strings.Fields(`Equal NotEqual GT LT Mask InMap NotInMap InRange NotInRange Prefix NotPrefix Postfix NotPostfix SubString
	SubStringIgnCase SAddr NotSAddr DAddr NotDAddr SPort NotSPort DPort NotDPort SPortPriv NotSportPriv DPortPriv NotDPortPriv Protocol Family
	State CapabilitiesGained FileType NotFileType CelExpr Digest NotDigest`)

// TestMatrix holds which operator goes with which type, on each recorded kernel: each pair is a filter, or is refused as
// [operator-type], and an expression over a type that has none as [bad-expression]; there is no third way. The table is in
// testdata/matrix.txt.
func TestMatrix(t *testing.T) {
	for _, k := range kernels {
		t.Run(k, func(t *testing.T) { testMatrix(t, recorded(t, k), k == kernels[0]) })
	}
}

func testMatrix(t *testing.T, f *kernel.Recorded, first bool) {
	const golden = "testdata/matrix.txt"
	old, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for line := range strings.Lines(string(old)) {
		rows[strings.Fields(line)[0]] = line
	}
	var b bytes.Buffer
	for _, typ := range compile.TypesOfLanguage() {
		plain := matrixPolicy(typ, "Equal")
		if plain.Tracepoints != nil {
			plain.Tracepoints[0].Selectors = nil
			if p, d := compile.Compile(plain, f, compile.Options{}); p == nil && typ == "data_loc" && strings.Contains(d.String(), "[unknown-tracepoint]") {
				b.WriteString(rows[typ]) // the kernel does not say what fields its tracepoints have
				continue
			}
		}
		begin, hints := b.Len(), make(map[string]bool)
		fmt.Fprintf(&b, "%-16s", typ)
		for _, op := range operatorOrder {
			if strings.HasSuffix(op, "Digest") && f.Lacks(kernel.BpfLSM) != "" { // nothing has one here
				if slices.Contains(strings.Fields(rows[typ]), op) {
					fmt.Fprintf(&b, " %s", op)
				}
				continue
			}
			pol := matrixPolicy(typ, op)
			p, d := compile.Compile(pol, f, compile.Options{})
			refused := false
			for _, x := range d.List {
				switch {
				case x.Warning:
				case x.Code == "operator-type", op == "CelExpr" && x.Code == "bad-expression":
					refused = true
					if list, ok := strings.CutPrefix(x.Hint, "it has "); ok && !strings.HasPrefix(list, "none") {
						hints[strings.ReplaceAll(list, ",", "")] = true
					}
				default:
					t.Errorf("%s %s: %s", typ, op, d)
				}
			}
			switch {
			case refused:
			case p == nil || len(p.Hooks) != 1 || len(p.Hooks[0].Rules[0].Filters) != 1:
				t.Errorf("%s %s: neither refused nor a filter:\n%v%s", typ, op, p, d)
			default:
				fmt.Fprintf(&b, " %s", op)
			}
		}
		has := strings.Join(strings.Fields(strings.ReplaceAll(b.String()[begin:], "CelExpr", ""))[1:], " ")
		for hint := range hints {
			if hint != has {
				t.Errorf("%s: the hint says %q, it has %q", typ, hint, has)
			}
		}
		b.WriteByte('\n')
	}
	if *update && first {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !*update && !bytes.Equal(old, b.Bytes()) {
		t.Errorf("-want +got:\n%s", lineDiff(string(old), b.String()))
	}
}

// formats are tracepoints with a field of a type that only they have.
var formats = map[string]struct {
	subsystem, event string
	index            int64
}{
	"syscall64": {"raw_syscalls", "sys_enter", 4}, "const_buf": {"raw_syscalls", "sys_enter", 5}, "data_loc": {"sched", "sched_process_exec", 4},
}

// matrixPolicy has one filter with an operator on an argument of a type.
func matrixPolicy(typ, op string) *policy.Policy {
	text := func(s string) policy.Text { return policy.Text{Value: s} }
	arg := policy.Arg{Type: text(typ), SizeArgIndex: policy.Int{Value: 2, Set: true}}
	m := policy.ArgMatch{Operator: text(op), Args: []policy.Int{{}}}
	if op == "CapabilitiesGained" {
		m.Args = []policy.Int{{}, {Value: 1}}
	}
	for _, v := range sampleValue[op] {
		m.Values = append(m.Values, text(v))
	}
	common := policy.Common{Args: []policy.Arg{arg, arg}, Selectors: []policy.Selector{{Args: []policy.ArgMatch{m}}}}
	pol := &policy.Policy{Name: "matrix", Kind: policy.KindCluster}
	if at, ok := formats[typ]; ok {
		arg.Index.Value, arg.SizeArgIndex = at.index, policy.Int{}
		if typ == "const_buf" { // it is found out, and cannot be asked for
			arg.Type.Value = "auto"
		}
		common.Args = []policy.Arg{arg, arg}
		pol.Tracepoints = []policy.Tracepoint{{Common: common, Subsystem: text(at.subsystem), Event: text(at.event)}}
		return pol
	}
	if isDigest := strings.HasSuffix(op, "Digest"); isDigest { // only hooks of the security modules have some
		on := "mmap_file"
		if typ == "linux_binprm" {
			on = "bprm_check_security"
		}
		pol.LsmHooks = []policy.LsmHook{{Common: common, Hook: text(on)}}
		return pol
	}
	pol.Kprobes = []policy.Kprobe{{Common: common, Call: text("security_file_ioctl")}}
	return pol
}
