// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

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

// TestMatrix holds which operator goes with which type: each pair is a filter, or is refused as [operator-type], and an
// expression over a type that has none as [bad-expression]; there is no third way. The table is in testdata/matrix.txt.
func TestMatrix(t *testing.T) {
	f := recorded(t, "6.12")
	var b bytes.Buffer
	for _, typ := range compile.TypesOfLanguage() {
		if typ == "const_buf" || typ == "data_loc" { // they come from formats
			continue
		}
		fmt.Fprintf(&b, "%-16s", typ)
		for _, op := range operatorOrder {
			pol := matrixPolicy(typ, op)
			p, d := compile.Compile(pol, f, compile.Options{})
			refused := false
			for _, x := range d.List {
				switch {
				case x.Warning:
				case x.Code == "operator-type", op == "CelExpr" && x.Code == "bad-expression":
					refused = true
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
		b.WriteByte('\n')
	}
	const golden = "testdata/matrix.txt"
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("-want +got:\n%s", lineDiff(string(want), b.String()))
	}
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
	if typ == "syscall64" {
		arg.Index.Value = 4
		common.Args = []policy.Arg{arg, arg}
		pol.Tracepoints = []policy.Tracepoint{{Common: common, Subsystem: text("raw_syscalls"), Event: text("sys_enter")}}
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
