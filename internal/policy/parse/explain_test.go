// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"slices"
	"strings"
	"testing"
)

// TestExplain_everyField wants a type and a meaning for every field of the schema.
func TestExplain_everyField(t *testing.T) {
	for _, r := range Resources() {
		e, err := Explain(r.Kind)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		var walk func(path string, f *Field)
		walk = func(path string, f *Field) {
			n++
			if f.Type == "" {
				t.Errorf("%s: no type", path)
			}
			if !strings.HasSuffix(f.Doc, ".") {
				t.Errorf("%s: no doc that is a sentence: %q", path, f.Doc)
			}
			if strings.HasSuffix(f.Type, "Object") != (len(f.Fields) > 0) {
				t.Errorf("%s: is %s and has %d fields", path, f.Type, len(f.Fields))
			}
			if f.Default != "" && f.Enum != nil && !slices.Contains(f.Enum, f.Default) {
				t.Errorf("%s: the default %s is none of its values", path, f.Default)
			}
			for i := range f.Fields {
				walk(path+"."+f.Fields[i].Name, &f.Fields[i])
			}
		}
		walk(r.Kind, &e.Field)
		if n < 500 {
			t.Errorf("%s: only %d fields were seen", r.Kind, n)
		}
	}
}

func TestExplain(t *testing.T) {
	for what, want := range map[string]string{
		"tracingpolicy":                            "TracingPolicy: TracingPolicy Object",
		"TGTPN":                                    "TracingPolicyNamespaced: TracingPolicyNamespaced Object",
		"tracingpolicies.spec":                     "TracingPolicy: spec Object",
		"tgtp.spec.kprobes[3].args[0].type":        "TracingPolicy: type string",
		"tgtp.spec.kprobes.3.args":                 "TracingPolicy: args []Object",
		`tgtp[spec]["kprobes"]['call']`:            "TracingPolicy: call string",
		"tgtp.spec.selectorsMacros.matchPIDs":      "TracingPolicy: matchPIDs []Object",
		"tgtp.spec.selectorsMacros.mine.matchPIDs": "TracingPolicy: matchPIDs []Object",
		"tgtp.metadata.labels.app":                 "TracingPolicy: labels map[string]string",
		"tgtp.spec.uprobes.offsets":                "TracingPolicy: offsets []integer",
		"tgtp.spec.loader":                         "TracingPolicy: loader boolean",
		"tgtp.spec.kprobe":                         `error: there is no field "kprobe" in TracingPolicy.spec; did you mean "kprobes"?`,
		"tgtp.spec.selectorsMacros.matchPID":       `error: there is no field "matchPID" in TracingPolicy.spec.selectorsMacros; did you mean "matchPIDs"?`,
		"tgtp.spec.loader.x":                       `error: there is no field "x" in TracingPolicy.spec.loader: it is of type boolean`,
		"tgtp.xyz":                                 `error: there is no field "xyz" in TracingPolicy; there are apiVersion, kind, metadata, spec`,
		"tracingpolicys":                           `error: there is no resource "tracingpolicys"; did you mean "TracingPolicy"?`,
		"tgtp..spec":                               `error: "tgtp..spec" is no path: RESOURCE.FIELD.FIELD, or RESOURCE[FIELD][FIELD]`,
		"tgtp[spec":                                `error: "tgtp[spec" is no path: RESOURCE.FIELD.FIELD, or RESOURCE[FIELD][FIELD]`,
		"tgtp.":                                    `error: "tgtp." is no path: RESOURCE.FIELD.FIELD, or RESOURCE[FIELD][FIELD]`,
		"":                                         `error: "" is no path: RESOURCE.FIELD.FIELD, or RESOURCE[FIELD][FIELD]`,
		"0":                                        `error: "0" is no path: RESOURCE.FIELD.FIELD, or RESOURCE[FIELD][FIELD]`,
	} {
		e, err := Explain(what)
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else {
			got = e.Kind + ": " + e.Name + " " + e.Type
		}
		if got != want {
			t.Errorf("%q:\n got %s\nwant %s", what, got, want)
		}
	}
}

// TestExplain_says wants what a rule says to be told.
func TestExplain_says(t *testing.T) {
	e, err := Explain("tgtp.spec.kprobes.args")
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]Field{}
	for _, f := range e.Fields {
		of[f.Name] = f
	}
	if f := of["type"]; f.Default != "auto" || !slices.Contains(f.Enum, "sockaddr_un") {
		t.Errorf("type: %+v", f)
	}
	if f := of["sizeArgIndex"]; f.Minimum == nil || *f.Minimum != 0 || *f.Maximum != maxSizeArg {
		t.Errorf("sizeArgIndex: %+v", f)
	}
	if e, err := Explain("tgtp.spec.kprobes"); err != nil || !slices.ContainsFunc(e.Fields, func(f Field) bool {
		return f.Name == "call" && f.Required
	}) || !slices.ContainsFunc(e.Fields, func(f Field) bool { return f.Name == "syscall" && f.Default == "true" && !f.Required }) {
		t.Errorf("kprobes: %+v, %v", e, err)
	}
}
