// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"tetragon/internal/kernel"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/parse"
	"tetragon/internal/policy/plan"
)

// languageDoc is the table of the language. TestLanguage makes it.
const languageDoc = "../../../docs/language.md"

// languageKernels are the recorded kernels that the table has, and what it calls them.
var languageKernels = []struct{ name, title string }{{"6.12", "6.12"}, {"6.1", "6.1"}, {"6.18-bare", "without kprobes"}}

// languageHooks is a hook of each kind, with room for selectors; %s stands for what comes behind its arguments.
var languageHooks = []struct{ name, yaml string }{
	{"kprobe of a function", "  kprobes:\n  - call: security_file_open\n    syscall: false\n    args: [{index: 0, type: file}]\n%s"},
	{"kprobe of a system call", "  kprobes:\n  - call: sys_lseek\n    args: [{index: 0, type: int}, {index: 1, type: long}]\n%s"},
	{"its return", "  kprobes:\n  - call: sys_lseek\n    args: [{index: 0, type: int}, {index: 1, type: long}]\n    return: true\n    returnArg: {index: 0, type: long}\n%s"},
	{"fentry", "  fentries:\n  - call: tcp_connect\n    syscall: false\n    args: [{index: 0, type: sock}]\n%s"},
	{"tracepoint", "  tracepoints:\n  - subsystem: raw_syscalls\n    event: sys_enter\n    args: [{index: 4}]\n%s"},
	{"raw tracepoint", "  tracepoints:\n  - subsystem: sched\n    event: sched_process_exec\n    raw: true\n    args: [{index: 2, type: linux_binprm}]\n%s"},
	{"LSM hook", "  lsmhooks:\n  - hook: file_open\n    args: [{index: 0, type: file}]\n%s"},
	{"uprobe", "  uprobes:\n  - path: /prog\n    symbols: [greet]\n    args: [{index: 0, type: int}]\n%s"},
	{"uretprobe", "  uprobes:\n  - path: /prog\n    symbols: [greet]\n    args: [{index: 0, type: int}]\n    return: true\n    returnArg: {index: 0, type: int}\n%s"},
	{"static probe", "  usdts:\n  - path: /prog\n    provider: scenario\n    name: passed\n    args: [{index: 4, type: uint32}]\n%s"},
}

// languageParts are what a hook can have below its arguments: filters, actions, and their attributes.
var languageParts = []struct {
	title, intro string
	rows         []struct{ name, yaml string }
}{
	{"Filters", "One row for each member of a selector. Operators on arguments have a table of their own, below.", []struct{ name, yaml string }{
		{"matchPIDs", `matchPIDs: [{operator: In, values: [1]}]`},
		{"matchPIDs, isNamespacePID", `matchPIDs: [{operator: In, isNamespacePID: true, values: [1]}]`},
		{"matchPIDs, followForks", `matchPIDs: [{operator: NotIn, followForks: true, values: [1]}]`},
		{"matchPIDs, several entries", `matchPIDs: [{operator: NotIn, values: [1]}, {operator: NotIn, values: [2]}]`},
		{"matchBinaries", `matchBinaries: [{operator: In, values: [/bin/sh]}]`},
		{"matchBinaries, Prefix and Postfix", `matchBinaries: [{operator: Prefix, values: [/bin/]}, {operator: NotPostfix, values: [sh]}]`},
		{"matchBinaries, followChildren", `matchBinaries: [{operator: In, followChildren: true, values: [/bin/sh]}]`},
		{"matchParentBinaries", `matchParentBinaries: [{operator: In, values: [/bin/sh]}]`},
		{"matchNamespaces", `matchNamespaces: [{namespace: Pid, operator: In, values: ["4026531836"]}]`},
		{"matchNamespaceChanges", `matchNamespaceChanges: [{operator: In, values: [Mnt]}]`},
		{"matchCapabilities", `matchCapabilities: [{type: Effective, operator: In, values: [CAP_SYS_ADMIN]}]`},
		{"matchCapabilityChanges", `matchCapabilityChanges: [{type: Effective, operator: In, values: [CAP_SYS_ADMIN]}]`},
		{"matchData", "matchData: [{index: 0, operator: Equal, values: [sh]}]"},
		{"matchReturnArgs", `matchReturnArgs: [{index: 0, operator: LT, values: ["0"]}]`},
		{"Digest", `matchArgs: [{args: [0], operator: Digest, values: ["` + sampleDigest + `"]}]`},
		{"Digest, fsverity", `matchArgs: [{args: [0], operator: NotDigest, values: ["fsverity:` + sampleDigest + `"]}]`},
		{"matchWorkloads", `matchWorkloads: {hostSelector: {}}`},
	}},
	{"Actions", "As an entry of matchActions; in the columns of returns as one of matchReturnActions.", []struct{ name, yaml string }{
		{"Post", `ACTIONS: [{action: Post}]`},
		{"Post, rateLimit", `ACTIONS: [{action: Post, rateLimit: "5m"}]`},
		{"Post, rateLimitScope", `ACTIONS: [{action: Post, rateLimit: "5m", rateLimitScope: global}]`},
		{"Post, aggregate", `ACTIONS: [{action: Post, aggregate: "10s"}]`},
		{"Post, kernelStackTrace", `ACTIONS: [{action: Post, kernelStackTrace: true}]`},
		{"Post, userStackTrace", `ACTIONS: [{action: Post, userStackTrace: true}]`},
		{"Post, imaHash", `ACTIONS: [{action: Post, imaHash: true}]`},
		{"NoPost", `ACTIONS: [{action: NoPost}]`},
		{"Sigkill", `ACTIONS: [{action: Sigkill}]`},
		{"Signal", `ACTIONS: [{action: Signal, argSig: 15}]`},
		{"Override", `ACTIONS: [{action: Override, argError: -1}]`},
		{"TrackSock", `ACTIONS: [{action: TrackSock, argSock: 0}]`},
		{"UntrackSock", `ACTIONS: [{action: UntrackSock, argSock: 0}]`},
		{"GetUrl", `ACTIONS: [{action: GetUrl, argUrl: "http://localhost/"}]`},
		{"DnsLookup", `ACTIONS: [{action: DnsLookup, argFqdn: localhost}]`},
		{"NotifyEnforcer", `ACTIONS: [{action: NotifyEnforcer, argError: -1}]`},
		{"CleanupEnforcerNotification", `ACTIONS: [{action: CleanupEnforcerNotification}]`},
		{"Set", `ACTIONS: [{action: Set, argIndex: 0, argValue: 1}]`},
	}},
}

// languageFields are fields of spec and of hooks that are no selector, each in a whole spec.
var languageFields = []struct{ name, yaml string }{
	{"loader", "  loader: true\n"},
	{"lists, functions", "  lists: [{name: l, values: [security_file_open, tcp_connect]}]\n  kprobes: [{call: \"list:l\", syscall: false}]\n"},
	{"lists, syscalls", "  lists: [{name: l, type: syscalls, values: [sys_dup, i386/sys_dup]}]\n  kprobes: [{call: \"list:l\"}]\n"},
	{"lists, generated_syscalls", "  lists: [{name: l, type: generated_syscalls}]\n  kprobes: [{call: \"list:l\"}]\n"},
	{"lists, generated_ftrace", "  lists: [{name: l, type: generated_ftrace, pattern: \"^tcp_connect$\"}]\n  kprobes: [{call: \"list:l\", syscall: false}]\n"},
	{"lists, in InMap", "  lists: [{name: l, type: syscalls, values: [sys_dup]}]\n  tracepoints: [{subsystem: raw_syscalls, event: sys_enter, args: [{index: 4, type: syscall64}], selectors: [{matchArgs: [{index: 4, operator: InMap, values: [\"list:l\"]}]}]}]\n"},
	{"selectorsMacros", "  selectorsMacros: {m: {matchPIDs: [{operator: NotIn, values: [1]}]}}\n  kprobes: [{call: sys_lseek, selectors: [{macros: [m]}]}]\n"},
	{"enforcers", "  enforcers: [{calls: [security_file_open]}]\n  kprobes: [{call: sys_lseek}]\n"},
	{"podSelector", "  podSelector: {matchLabels: {a: b}}\n  kprobes: [{call: sys_lseek}]\n"},
	{"containerSelector", "  containerSelector: {matchLabels: {name: b}}\n  kprobes: [{call: sys_lseek}]\n"},
	{"hostSelector", "  hostSelector: {}\n  kprobes: [{call: sys_lseek}]\n"},
	{"nodeSelector", "  nodeSelector: {matchLabels: {a: b}}\n  kprobes: [{call: sys_lseek}]\n"},
	{"options, policy-mode", "  options: [{name: policy-mode, value: monitor}]\n  kprobes: [{call: sys_lseek}]\n"},
	{"options, disable-uprobe-multi", "  options: [{name: disable-uprobe-multi, value: \"true\"}]\n  uprobes: [{path: /prog, symbols: [greet]}]\n"},
	{"options, override-method", "  options: [{name: override-method, value: fmod-ret}]\n  enforcers: [{calls: [security_file_open]}]\n  kprobes: [{call: sys_lseek, selectors: [{matchActions: [{action: NotifyEnforcer, argError: -1}]}]}]\n"},
	{"options, override-fallback", "  options: [{name: override-fallback, value: sigkill}]\n  kprobes: [{call: sys_lseek, selectors: [{matchActions: [{action: Override, argError: -1}]}]}]\n"},
	{"options, sleepable-preload-size", "  options: [{name: sleepable-preload-size, value: \"4096\"}]\n  kprobes: [{call: sys_lseek}]\n"},
	{"options, disable-kprobe-multi", "  options: [{name: disable-kprobe-multi, value: \"true\"}]\n  kprobes: [{call: sys_lseek}]\n"},
	{"message, tags", "  kprobes: [{call: sys_lseek, message: hello, tags: [tag.one]}]\n"},
	{"ignore.callNotFound", "  kprobes: [{call: no_such_function, syscall: false, ignore: {callNotFound: true}}]\n"},
	{"return, returnArg", "  kprobes: [{call: sys_lseek, return: true, returnArg: {index: 0, type: long}}]\n"},
	{"Override on a system call that asks a guard", "  kprobes: [{call: sys_openat, selectors: [{matchActions: [{action: Override, argError: -1}]}]}]\n"},
	{"returnArgAction", "  kprobes: [{call: sk_alloc, syscall: false, return: true, returnArg: {index: 0, type: sock}, returnArgAction: TrackSock}]\n"},
	{"args, resolve", "  kprobes: [{call: security_file_open, syscall: false, args: [{index: 0, type: uint16, resolve: f_inode.i_mode}]}]\n"},
	{"args, btfType", "  kprobes: [{call: security_file_open, syscall: false, args: [{index: 0, type: uint16, btfType: file, resolve: f_inode.i_mode}]}]\n"},
	{"args, resolve through a union", "  kprobes: [{call: tcp_connect, syscall: false, args: [{index: 0, type: uint32, resolve: __sk_common.skc_daddr}]}]\n"},
	{"args, btfTypeModule", "  kprobes: [{call: security_file_open, syscall: false, args: [{index: 0, type: uint64, btfType: nf_conn, btfTypeModule: nf_conntrack, resolve: status}]}]\n"},
	{"args, sizeArgIndex", "  kprobes: [{call: sys_write, args: [{index: 1, type: char_buf, sizeArgIndex: 3}]}]\n"},
	{"args, maxData", "  kprobes: [{call: sys_write, args: [{index: 1, type: char_buf, sizeArgIndex: 3, maxData: true}]}]\n"},
	{"args, returnCopy", "  kprobes: [{call: sys_read, args: [{index: 1, type: char_buf, sizeArgIndex: 3, returnCopy: true}]}]\n"},
	{"args, label", "  kprobes: [{call: sys_lseek, args: [{index: 0, type: int, label: fd}]}]\n"},
	{"data, current_task", "  kprobes: [{call: sys_lseek, data: [{index: 0, type: string, source: current_task, resolve: comm}]}]\n"},
	{"data, pt_regs", "  kprobes: [{call: sys_lseek, data: [{index: 0, type: uint64, source: pt_regs, resolve: rdi}]}]\n"},
	{"uprobes, symbols", "  uprobes: [{path: /prog, symbols: [greet]}]\n"},
	{"uprobes, offsets", "  uprobes: [{path: /prog, offsets: [4096]}]\n"},
	{"uprobes, addrs", "  uprobes: [{path: /prog, addrs: [0x401000]}]\n"},
	{"uprobes, refCtrOffsets", "  uprobes: [{path: /prog, offsets: [4096], refCtrOffsets: [8192]}]\n"},
	{"uprobes, digestVerificationFailure", "  uprobes: [{path: /prog, symbols: [greet], binaryDigests: [\"build-id:deadbeee\"], ignore: {digestVerificationFailure: true}}]\n"},
	{"uprobes, binaryDigests", "  uprobes: [{path: /prog, symbols: [greet], binaryDigests: [\"build-id:deadbeef\"]}]\n"},
	{"uprobes, btfPath", "  uprobes: [{path: /prog, symbols: [greet], btfPath: /types, args: [{index: 1, type: uint16, btfType: file, resolve: f_inode.i_mode}]}]\n"},
	{"usdts", "  usdts: [{path: /prog, provider: scenario, name: passed}]\n"},
	{"lsmhooks", "  lsmhooks: [{hook: file_open, args: [{index: 0, type: file}]}]\n"},
}

// languageExpressions are expressions on each kind of hook, with what a policy has that shows one there.
var languageExpressions = []struct{ name, yaml, shown string }{
	{"kprobe", "  kprobes:\n  - call: sys_lseek\n    args: [{index: 1, type: int64}]\n%s", `(?s)  kprobes:.*CelExpr`},
	{"fentry", "  fentries:\n  - call: security_file_open\n    syscall: false\n    args: [{index: 0, type: uint32, resolve: f_flags}]\n%s", `(?s)  fentries:.*CelExpr`},
	{"tracepoint", "  tracepoints:\n  - subsystem: raw_syscalls\n    event: sys_enter\n    args: [{index: 4}]\n%s", `(?s)event: sys_enter.*CelExpr`},
	{"raw tracepoint", "  tracepoints:\n  - subsystem: sched\n    event: sched_process_exec\n    raw: true\n    args: [{index: 2, type: int, resolve: argc}]\n%s", `(?s)raw: true.*CelExpr`},
	{"LSM hook", "  lsmhooks:\n  - hook: file_open\n    args: [{index: 0, type: uint32, resolve: f_flags}]\n%s", `(?s)  lsmhooks:.*CelExpr`},
	{"uprobe", "  uprobes:\n  - path: /prog\n    symbols: [greet]\n    args: [{index: 0, type: int}]\n%s", `(?s)  uprobes:.*CelExpr`},
	{"uretprobe", "  uprobes:\n  - path: /prog\n    symbols: [greet]\n    args: [{index: 0, type: int}]\n    return: true\n    returnArg: {index: 0, type: int}\n%s", `return: true\n    returnArg: [^\n]*\n    selectors:\n    - matchArgs: \[\{operator: CelExpr`},
	{"static probe", "  usdts:\n  - path: /prog\n    provider: scenario\n    name: passed\n    args: [{index: 4, type: uint32}]\n%s", `(?s)  usdts:.*CelExpr`},
}

// languageShown are scenarios, or tests in Go, of rows whose policy is not in the scenario's own text, or does not name what the row has.
var languageShown = map[string]string{
	"loader": "doc_library", "const_buf": "hook_tracepoint", "lists, generated_syscalls": "TestLists_allSystemCalls",
}

// languageUnshown are rows that nothing shows: modules differ from machine to machine, and their types are not recorded.
var languageUnshown = []string{"args, btfTypeModule"}

// language makes the table.
type language struct {
	t         *testing.T
	kernels   []*kernel.Recorded
	reasons   []string             // of what is refused, by their numbers
	scenarios map[string][3]string // name -> the policies that it loads on each of languageKernels; empty: it does not run there
	goldens   map[string]string    // name -> a policy whose plan TestGolden compares
}

// verdict is a cell: what becomes of a spec on a kernel.
func (l *language) verdict(k *kernel.Recorded, spec string) string {
	src := "apiVersion: cilium.io/v1alpha1\nkind: TracingPolicy\nmetadata: {name: cell}\nspec:\n" + spec
	pol, d := parse.YAML("", []byte(src), parse.Options{})
	if pol != nil {
		p, cd := compile.Compile(pol, k, compile.Options{Open: openProgram, OpenTypes: openTypes(k)})
		if d = cd; p != nil {
			by := make(map[string]int)
			last := ""
			for i := range p.Hooks {
				switch h := &p.Hooks[i]; {
				case h.Inactive != "":
					return "inactive " + l.reason(h.Inactive)
				case h.Attach.Backend.Equivalent():
					last = "by " + strings.ReplaceAll(h.Attach.Backend.String(), "_", "\\_")
					by[last]++
				}
			}
			switch {
			case by[last] > 0 && by[last] == len(p.Hooks):
				return last
			case by[last] > 0:
				return fmt.Sprintf("yes, %d of %d hooks %s", by[last], len(p.Hooks), last)
			}
			return "yes"
		}
	}
	for _, x := range d.List {
		if !x.Warning {
			why := x.Text
			if len(x.Notes) > 0 && x.Code == "cannot-hook" {
				why += ": " + strings.Join(x.Notes, "; ")
			}
			return "no " + l.reason(fmt.Sprintf("%s `[%s]`", why, x.Code))
		}
	}
	l.t.Errorf("neither accepted nor refused:\n%s", src)
	return "?"
}

// reason gives a reason its number.
func (l *language) reason(why string) string {
	why = regexp.MustCompile(`kernel [0-9][^ :]*`).ReplaceAllString(why, "this kernel")
	i := slices.Index(l.reasons, why)
	if i < 0 {
		i, l.reasons = len(l.reasons), append(l.reasons, why)
	}
	return fmt.Sprintf("(%d)", i+1)
}

// cells are the verdicts on all kernels, one if they are the same.
func (l *language) cells(spec string) string {
	var out []string
	for _, k := range l.kernels {
		out = append(out, l.verdict(k, spec))
	}
	if len(slices.Compact(slices.Clone(out))) == 1 {
		return out[0]
	}
	return strings.Join(out, " / ")
}

// shown names what shows a row: of the scenarios that load a policy with what the pattern describes, the one that runs on
// most of the kernels; if there is none, the golden plan of such a policy.
func (l *language) shown(row, pattern string) string {
	if by := languageShown[row]; strings.HasPrefix(by, "Test") {
		return "`" + by + "`"
	}
	re := regexp.MustCompile(pattern)
	best, most := "", 0
	for _, n := range slices.Sorted(maps.Keys(l.scenarios)) {
		runs := 0
		for _, text := range l.scenarios[n] {
			if n == languageShown[row] && text != "" || re.MatchString(text) {
				runs++
			}
		}
		if n == languageShown[row] {
			runs += len(languageKernels) // whatever others there are
		}
		if runs > most {
			best, most = n, runs
		}
	}
	if best == "" {
		for _, n := range slices.Sorted(maps.Keys(l.goldens)) {
			if re.MatchString(l.goldens[n]) {
				return "`TestGolden/" + n + "`"
			}
		}
		if slices.Contains(languageUnshown, row) {
			return "nothing yet"
		}
		l.t.Errorf("%s: nothing shows it: no scenario and no golden plan has %s", row, pattern)
		return ""
	}
	var on []string
	for i, text := range l.scenarios[best] {
		if text != "" && (best == languageShown[row] || re.MatchString(text)) {
			on = append(on, languageKernels[i].title)
		}
	}
	if len(on) == len(languageKernels) {
		return "`" + best + ".txtar`"
	}
	return "`" + best + ".txtar` (" + strings.Join(on, ", ") + ")"
}

// notWithoutKprobes are features of the matrix that the third kernel lacks.
var notWithoutKprobes = strings.Fields("kprobe kprobe_multi fentry fexit lsm ima tracepoint write_user modules throwaway")

// features are those of each of languageKernels, as test/kernels.txt has them.
func (l *language) features() [3][]string {
	b, err := os.ReadFile("../../../test/kernels.txt")
	if err != nil {
		l.t.Fatal(err)
	}
	var out [3][]string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		for i, k := range languageKernels {
			if len(f) > 2 && f[0] == k.name {
				out[i] = f[2:]
			}
		}
	}
	out[2] = slices.DeleteFunc(slices.Clone(out[0]), func(f string) bool { return slices.Contains(notWithoutKprobes, f) })
	return out
}

// condition is "[feature]" or "[!feature]" before a command of a scenario.
var condition = regexp.MustCompile(`^\[(!?)([a-z0-9_]+)\] *`)

// loads gives the policies that a scenario loads on a kernel with some features: what its script names before it is skipped,
// and does not want to be refused.
func loads(a *txtar.Archive, has []string) string {
	named, refused := "", ""
script:
	for line := range strings.Lines(string(a.Comment)) {
		line = strings.TrimSpace(line)
		for m := condition.FindStringSubmatch(line); m != nil; m = condition.FindStringSubmatch(line) {
			if slices.Contains(has, m[2]) == (m[1] == "!") {
				continue script
			}
			line = line[len(m[0]):]
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case words[0] == "skip":
			break script
		case words[0] == "needs":
			for _, f := range words[1:] {
				if !slices.Contains(has, f) {
					return ""
				}
			}
		case words[0] == "!":
			refused += line + " \n"
		default:
			named += line + " \n"
		}
	}
	out := "\n" // it runs
	for _, f := range a.Files {
		stem := regexp.MustCompile(`\b` + regexp.QuoteMeta(strings.TrimSuffix(f.Name, filepath.Ext(f.Name))) + `\.[a-z]`)
		if bytes.Contains(f.Data, []byte("kind: TracingPolicy")) && stem.MatchString(named) && !stem.MatchString(refused) {
			out += string(f.Data)
		}
	}
	return out
}

// TestLanguage makes docs/language.md of what compiles on the recorded kernels, and holds the document to it: each cell is
// accepted, or refused with its reason.
func TestLanguage(t *testing.T) {
	l := &language{t: t, scenarios: make(map[string][3]string), goldens: make(map[string]string)}
	for _, k := range languageKernels {
		l.kernels = append(l.kernels, recorded(t, k.name))
	}
	features := l.features()
	l.archives("../../../test/scenario/*.txtar", func(name string, a *txtar.Archive) {
		var on [3]string
		for i := range on {
			on[i] = loads(a, features[i])
		}
		l.scenarios[name] = on
	})
	l.archives("testdata/*.txtar", func(name string, a *txtar.Archive) {
		if !strings.HasSuffix(name, ".bad") {
			l.goldens[name] = string(a.Files[0].Data)
		}
	})
	got := l.document()
	if *update {
		if err := os.WriteFile(languageDoc, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(languageDoc)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("docs/language.md, if it is right run go test ./internal/policy/compile -run Language -update:\n%s", lineDiff(string(want), string(got)))
	}
}

func (l *language) archives(pattern string, f func(name string, a *txtar.Archive)) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		l.t.Fatalf("%s: no files: %v", pattern, err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			l.t.Fatal(err)
		}
		f(strings.TrimSuffix(filepath.Base(file), ".txtar"), a)
	}
}

func (l *language) document() []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	var titles []string
	for _, k := range languageKernels {
		titles = append(titles, k.title)
	}
	p(`# The language of policies

<!-- made by go test ./internal/policy/compile -run Language -update; do not edit -->

What of the language works where. Every cell is a policy that %s compiles for three recorded kernels: Debian's 6.12 and 6.1,
and one without kprobes and trampolines. A cell with three words has one for each, in this order: %s; with one word they are
all the same.

- **yes**: it works.
- **by** something: the function cannot be hooked on this kernel; what stands for it sees the same calls (tetra policy explain
  says how they differ).
- **inactive**: the policy is accepted, this hook of it does not run, and the status says why.
- **no**: it is refused, with the reason that has this number at the end.

- **yes, N of M hooks by** something: the others it hooks as they are.

The cells are made by the compiler, from the recorded kernels. The last column says what shows that it also runs: the scenario
of test/scenario that loads a policy with it on most of the kernels, and behind it, if these are not all, on which. Where a scenario
runs follows from what it needs and what test/kernels.txt says that a kernel has; for the third one, from what is left of that
without kprobes. There %s fails if the scenario does; on the third it is %s on a machine without them. %s is the plan
that a test compares, where no scenario has it. A row is shown by one scenario, on one or some of its hooks: which kinds of hooks
the operators of expressions run on is a table of its own.

`, "`TestLanguage`", strings.Join(titles, " / "), "`make test`", "`make hosttest`", "`TestGolden/...`")

	for _, part := range languageParts {
		p("## %s\n\n%s\n\n| |", part.title, part.intro)
		for _, h := range languageHooks {
			p(" %s |", h.name)
		}
		p(" Shown by |\n|---|%s---|\n", strings.Repeat("---|", len(languageHooks)))
		for _, r := range part.rows {
			p("| %s |", r.name)
			for _, h := range languageHooks {
				actions := "matchActions"
				if h.name == "its return" || h.name == "uretprobe" {
					actions = "matchReturnActions"
				}
				body := "    selectors:\n    - " + strings.ReplaceAll(r.yaml, "ACTIONS", actions) + "\n"
				if r.name == "matchData" {
					body = "    data: [{index: 0, type: string, source: current_task, resolve: comm}]\n" + body
				}
				hook := h.yaml
				if strings.HasSuffix(r.name, "ntrackSock") || r.name == "TrackSock" { // they need a socket
					hook = strings.Replace(hook, "security_file_open\n    syscall: false\n    args: [{index: 0, type: file}]", "tcp_connect\n    syscall: false\n    args: [{index: 0, type: sock}]", 1)
				}
				if strings.HasPrefix(r.name, "Digest") { // they need a file that is open
					hook = strings.Replace(hook, "hook: file_open", "hook: mmap_file", 1)
				}
				if strings.Contains(r.name, "Enforcer") {
					hook = "  enforcers: [{calls: [security_file_open]}]\n" + hook
				}
				p(" %s |", l.cells(fmt.Sprintf(hook, body)))
			}
			word, attribute, _ := strings.Cut(r.name, ", ")
			pattern := regexp.QuoteMeta(word)
			if part.title == "Actions" {
				pattern = `action: ` + word + `\b`
			}
			if attribute = strings.Fields(attribute + " -")[0]; attribute != "-" && attribute != "several" {
				pattern += `[^\n]*` + attribute
			}
			p(" %s |\n", l.shown(r.name, pattern))
		}
		p("\n")
	}

	p("## Expressions\n\nCelExpr in matchArgs, by kind of hook.\n\n| | Works | Shown by |\n|---|---|---|\n")
	for _, x := range languageExpressions {
		body := "    selectors: [{matchArgs: [{operator: CelExpr, values: [\"arg0 == arg0\"]}]}]\n"
		p("| %s | %s | %s |\n", x.name, l.cells(fmt.Sprintf(x.yaml, body)), l.shown(x.name, x.shown))
	}
	p("\n## Fields and options\n\n| | %s | Shown by |\n|---|---|---|\n", "Works")
	for _, r := range languageFields {
		word, attribute, _ := strings.Cut(r.name, ", ")
		pattern := `\b` + regexp.QuoteMeta(strings.TrimPrefix(word, "ignore.")) + `:`
		if attribute != "" && word != "message" && word != "return" {
			pattern = map[string]string{"lists": `type: `, "data": `source: `, "options": `name: `}[word] + regexp.QuoteMeta(attribute)
			switch attribute {
			case "symbols", "offsets", "addrs", "refCtrOffsets", "digestVerificationFailure", "btfTypeModule":
				pattern = `\b` + attribute + `:`
			case "resolve through a union":
				pattern = `resolve: rcu_users`
			case "functions":
				pattern = `call: "?list:`
			case "in InMap":
				pattern = `InMap, values: \[?"?list:`
			}
		}
		if strings.HasPrefix(r.name, "Override on") {
			pattern = `(?s)call: "?(sys_|list:).*action: Override`
		}
		p("| %s | %s | %s |\n", r.name, l.cells(r.yaml), l.shown(r.name, pattern))
	}

	p("\n## Types of arguments\n\nOn a function (security_file_ioctl), or on a tracepoint where they belong to it, and which operators of matchArgs go with\n"+
		"them. What is not listed is refused as `[operator-type]` or `[bad-expression]`, on every kernel (%s).\n\n| Type | Works | Operators | Shown by |\n|---|---|---|---|\n", "`TestMatrix`")
	matrix := l.matrix()
	for _, typ := range compile.TypesOfLanguage() {
		spec := fmt.Sprintf("  kprobes:\n  - call: security_file_ioctl\n    syscall: false\n    args: [{index: 0, type: %s, sizeArgIndex: 2}]\n", typ)
		switch typ {
		case "syscall64":
			spec = "  tracepoints: [{subsystem: raw_syscalls, event: sys_enter, args: [{index: 4, type: syscall64}]}]\n"
		case "const_buf":
			spec = "  tracepoints: [{subsystem: raw_syscalls, event: sys_enter, args: [{index: 5}]}]\n"
		case "data_loc":
			spec = "  tracepoints: [{subsystem: sched, event: sched_process_exec, args: [{index: 4}]}]\n"
		}
		if !strings.Contains(typ, "buf") && typ != "char_iovec" {
			spec = strings.Replace(spec, ", sizeArgIndex: 2", "", 1)
		}
		p("| %s | %s | %s | %s |\n", typ, l.cells(spec), matrix[typ], l.shown(typ, `type: `+typ+`\b`))
	}

	p("\n## Operators\n\n| Operator | Shown by |\n|---|---|\n")
	for _, op := range operatorOrder {
		p("| %s | %s |\n", op, l.shown(op, `operator: `+op+`\b`))
	}

	p("\n## Reasons\n\n")
	for i, r := range l.reasons {
		p("%d. %s\n", i+1, strings.NewReplacer("*", "\\*", "|", "\\|").Replace(r))
	}
	return b.Bytes()
}

// matrix reads what TestMatrix holds.
func (l *language) matrix() map[string]string {
	b, err := os.ReadFile("testdata/matrix.txt")
	if err != nil {
		l.t.Fatal(err)
	}
	out := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 {
			out[f[0]] = strings.Join(f[1:], " ")
		}
	}
	return out
}

// TestLists_allSystemCalls: a list of type generated_syscalls has all that the kernel has, and one program sees those that can
// be traced.
func TestLists_allSystemCalls(t *testing.T) {
	src := "apiVersion: cilium.io/v1alpha1\nkind: TracingPolicy\nmetadata: {name: all}\nspec:\n  lists: [{name: l, type: generated_syscalls}]\n  kprobes: [{call: \"list:l\"}]\n"
	pol, d := parse.YAML("", []byte(src), parse.Options{})
	if pol == nil {
		t.Fatal(d)
	}
	p, d := compile.Compile(pol, recorded(t, "6.12"), compile.Options{})
	if p == nil {
		t.Fatal(d)
	}
	if a := p.Hooks[0].Attach; a.Backend != plan.BackendKprobeMulti || len(a.Symbols) < 300 || !slices.Contains(a.Symbols, "__x64_sys_lseek") {
		t.Errorf("the first hook is by %s, on %d functions", a.Backend, len(a.Symbols))
	}
}
