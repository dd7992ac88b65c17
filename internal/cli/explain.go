// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"tetragon/internal/policy/parse"
)

// explainer is one call of the command.
type explainer struct {
	output, version          string
	recursive, example, list bool
}

func (a *app) explainCommand() *cobra.Command {
	var x explainer
	cmd := &cobra.Command{
		Use:   "explain RESOURCE[.FIELD...]",
		Short: "Describe the fields of policies",
		Long: `Describes a kind of policy, or a field of it: type, allowed values, default and meaning. A path has dots or brackets, and
may have indexes: tgtp.spec.kprobes[0].args. "tetra policy explain" explains one policy instead.`,
		Example: "  tetra explain --list\n  tetra explain tracingpolicy.spec.kprobes.selectors\n  tetra explain tgtp.spec.uprobes --example",
		Args: func(_ *cobra.Command, args []string) error {
			if x.list && len(args) > 0 || !x.list && len(args) != 1 {
				return hint(errors.New("explain takes one RESOURCE[.FIELD...], or --list"), "tetra explain --list names the resources")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return x.run(cmd.OutOrStdout(), args) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeField(word), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
	}
	f := cmd.Flags()
	f.StringVarP(&x.output, "output", "o", "text", "text, json or yaml")
	f.BoolVarP(&x.recursive, "recursive", "R", false, "also the fields of the fields, down to the last")
	f.BoolVar(&x.example, "example", false, "print a policy that has the field")
	f.BoolVar(&x.list, "list", false, "list the resources and their short names")
	f.StringVar(&x.version, "api-version", "", "version of the language: "+parse.APIVersion+" is the only one")
	return cmd
}

func (x *explainer) run(w io.Writer, args []string) error {
	if !slices.Contains([]string{"text", "json", "yaml"}, x.output) {
		return fmt.Errorf("--output: %q is not text, json or yaml", x.output)
	}
	if x.version != "" && x.version != parse.APIVersion {
		return hint(fmt.Errorf("--api-version: there is no version %q", x.version), "there is %s", parse.APIVersion)
	}
	if x.list {
		return x.writeList(w)
	}
	e, err := parse.Explain(args[0])
	if err != nil {
		return err
	}
	if x.example {
		all, err := examplesOf(e.Kind)
		if err == nil {
			_, err = io.WriteString(w, exampleOf(e, all))
		}
		return err
	}
	if !x.recursive {
		for i := range e.Fields {
			e.Fields[i].Fields = nil
		}
	}
	if x.output == "text" {
		_, err = io.WriteString(w, explainText(e, x.recursive))
		return err
	}
	return x.write(w, e)
}

// write prints a value as JSON or YAML.
func (x *explainer) write(w io.Writer, v any) error {
	var b bytes.Buffer
	if x.output == "json" {
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return err
		}
	} else {
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := errors.Join(enc.Encode(v), enc.Close()); err != nil {
			return err
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (x *explainer) writeList(w io.Writer) error {
	type row struct {
		Name       string   `json:"name" yaml:"name"`
		Kind       string   `json:"kind" yaml:"kind"`
		ShortNames []string `json:"shortNames" yaml:"shortNames"`
	}
	var rows []row
	for _, r := range parse.Resources() {
		rows = append(rows, row{r.Plural, r.Kind, []string{r.Short}})
	}
	if x.output != "text" {
		return x.write(w, rows)
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "NAME\tSHORTNAMES")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\n", r.Name, strings.Join(r.ShortNames, ","))
	}
	return t.Flush()
}

// explainText is laid out as kubectl lays it out.
func explainText(e *parse.Explained, recursive bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "GROUP:      %s\nKIND:       %s\nVERSION:    %s\n", e.Group, e.Kind, e.Version)
	if len(e.Path) > 0 {
		fmt.Fprintf(&b, "\nFIELD: %s <%s>%s\n", e.Name, e.Type, required(&e.Field))
		for _, v := range e.Enum {
			if v == e.Enum[0] {
				b.WriteString("ENUM:\n")
			}
			fmt.Fprintf(&b, "    %s\n", v)
		}
		for _, l := range limits(&e.Field) {
			b.WriteString(l + "\n")
		}
	}
	fmt.Fprintf(&b, "\nDESCRIPTION:\n%s", wrapped(e.Doc, "    "))
	if len(e.Fields) > 0 {
		b.WriteString("\nFIELDS:\n")
		writeFields(&b, e.Fields, "  ", recursive)
	}
	return b.String()
}

// writeFields says all of fields, or only names and types of those below as well.
func writeFields(b *strings.Builder, fs []parse.Field, indent string, recursive bool) {
	for i := range fs {
		f := &fs[i]
		fmt.Fprintf(b, "%s%s\t<%s>%s\n", indent, f.Name, f.Type, required(f))
		if len(f.Enum) > 0 {
			b.WriteString(wrapped("enum: "+strings.Join(f.Enum, ", "), indent))
		}
		if recursive {
			writeFields(b, f.Fields, indent+"  ", recursive)
			continue
		}
		for _, l := range limits(f) {
			b.WriteString(indent + l + "\n")
		}
		b.WriteString(wrapped(f.Doc, indent+"  ") + "\n")
	}
}

func required(f *parse.Field) string {
	if f.Required {
		return " -required-"
	}
	return ""
}

// limits are lines on what a value may be, and is.
func limits(f *parse.Field) []string {
	var out []string
	if f.Default != "" {
		out = append(out, "default: "+f.Default)
	}
	if f.Minimum != nil {
		out = append(out, fmt.Sprintf("range: %d to %d", *f.Minimum, *f.Maximum))
	}
	if f.MaxItems > 0 {
		out = append(out, fmt.Sprintf("entries: at most %d", f.MaxItems))
	}
	return out
}

// wrapped breaks text into lines of at most 80 letters.
func wrapped(text, indent string) string {
	var b strings.Builder
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+len(line)+1+len(word) > 80 {
			b.WriteString(indent + line + "\n")
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return b.String() + indent + line + "\n"
}

// completeField lists what may come after what was typed.
func completeField(word string) []string {
	var out []string
	dot := strings.LastIndexByte(word, '.')
	if dot < 0 {
		for _, r := range parse.Resources() {
			for _, n := range []string{r.Singular, r.Short} {
				if strings.HasPrefix(n, strings.ToLower(word)) {
					out = append(out, n)
				}
			}
		}
		return out
	}
	e, err := parse.Explain(word[:dot])
	if err != nil {
		return nil
	}
	for _, f := range e.Fields {
		if n := word[:dot+1] + f.Name; strings.HasPrefix(n, word) {
			out = append(out, n)
		}
	}
	return out
}

// exampleFiles are policies of kind TracingPolicy: between them they have each section that is not refused.
//
//go:embed examples/*.yaml
var exampleFiles embed.FS

// example is one of them.
type example struct {
	name string // of its file: the section that it is about, or SECTION-SOMETHING
	text string
	root any // the same as YAML has it
}

// examplesOf returns the examples, the shortest first, as policies of a kind that can have what is in them.
func examplesOf(kind string) ([]example, error) {
	entries, err := exampleFiles.ReadDir("examples")
	if err != nil {
		return nil, err
	}
	var out []example
	for _, x := range entries {
		b, err := exampleFiles.ReadFile("examples/" + x.Name())
		if err != nil {
			return nil, err
		}
		text := string(b)
		if kind == "TracingPolicyNamespaced" {
			text = strings.Replace(text, "kind: TracingPolicy\nmetadata:\n", "kind: TracingPolicyNamespaced\nmetadata:\n  namespace: default\n", 1)
			if _, d := parse.YAML(x.Name(), []byte(text), parse.Options{}); d.Bad() {
				continue // of a section that a namespace cannot have
			}
		}
		var root any
		if err := yaml.Unmarshal([]byte(text), &root); err != nil {
			return nil, fmt.Errorf("example %s: %w", x.Name(), err)
		}
		out = append(out, example{strings.TrimSuffix(x.Name(), ".yaml"), text, root})
	}
	slices.SortStableFunc(out, func(a, b example) int { return len(a.text) - len(b.text) })
	return out, nil
}

// exampleOf picks an example that has the field, that of its section or the shortest; without one, the shortest that has it in
// another section, or as much of its path as there is, and says so.
func exampleOf(e *parse.Explained, all []example) string {
	best, most := "", -1
	for _, x := range all {
		if n := depth(x.root, e.Path); n > most || n == most && len(e.Path) > 1 && x.name == e.Path[1] {
			best, most = x.text, n
		}
	}
	if most < len(e.Path) {
		best = lacking(e.Path, most, best, all)
	}
	if e.Kind == "TracingPolicyNamespaced" {
		best = "# Refused so far: this version does not follow Kubernetes yet.\n" + best
	}
	return best
}

func lacking(path []string, most int, best string, all []example) string {
	for _, section := range []string{"kprobes", "fentries", "tracepoints", "uprobes", "usdts", "lsmhooks"} {
		if len(path) < 3 || path[0] != "spec" {
			break
		}
		other := append([]string{"spec", section}, path[2:]...)
		if path[1] == "selectorsMacros" {
			other = append([]string{"spec", section, "selectors"}, path[2:]...)
		}
		for _, x := range all {
			if depth(x.root, other) == len(other) {
				return fmt.Sprintf("# No example has %s; this one has %s.\n", strings.Join(path, "."), strings.Join(other, ".")) + x.text
			}
		}
	}
	has := "none of it"
	if most > 0 {
		has = strings.Join(path[:most], ".")
	}
	return fmt.Sprintf("# No example has %s; this one has %s.\n", strings.Join(path, "."), has) + best
}

// exampleMacro is the name that macros have in examples; paths leave it out.
const exampleMacro = "macro"

// depth says how many parts of a path a document has.
func depth(v any, path []string) int {
	switch x := v.(type) {
	case []any:
		n := 0
		for _, y := range x {
			n = max(n, depth(y, path))
		}
		return n
	case map[string]any:
		if len(path) == 0 {
			return 0
		}
		if y, ok := x[path[0]]; ok {
			return 1 + depth(y, path[1:])
		}
		if y, ok := x[exampleMacro]; ok {
			return depth(y, path)
		}
	}
	return 0
}
