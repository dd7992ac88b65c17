// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"tetragon/api/v1/tetragon"
)

func (a *app) tracingPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tracingpolicy",
		Aliases: []string{"tp"},
		Short:   "Add, list, switch and delete the policies of the agent",
		Long: `Asks a running agent about its policies, and changes them. A policy is known by its domain, its namespace and its name:
those that come by this command are in the domain "grpc" unless --domain says otherwise, those that the agent reads when it
starts are in the domain "static".`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.tpAdd(), a.tpDelete(), a.tpTurn(true), a.tpTurn(false), a.tpSetMode(), a.tpList(), a.tpStatus(), a.tpDomains(), a.tpModify(), a.tpGenerate())
	return cmd
}

// refusedError is what the agent says of a policy: one line, or many.
type refusedError struct{ lines []string }

func (e *refusedError) Error() string { return strings.Join(e.lines, "\n") }

// policyCall asks the agent. What it says of a policy stays as it is; what goes wrong on the way there is explained.
func (a *app) policyCall(ctx context.Context, do func(context.Context, tetragon.FineGuidanceSensorsClient) error) error {
	return a.unary(ctx, func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
		err := do(ctx, c)
		switch st := status.Convert(err); st.Code() {
		case codes.InvalidArgument, codes.AlreadyExists, codes.NotFound, codes.FailedPrecondition, codes.Unknown:
			return &refusedError{strings.Split(st.Message(), "\n")}
		}
		return err
	})
}

// identity are the flags that tell policies of one name apart.
type identity struct{ namespace, domain string }

func (i *identity) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&i.namespace, "namespace", "n", "", "namespace of the policy")
	cmd.Flags().StringVar(&i.domain, "domain", "", `domain of the policy (default "grpc")`)
}

// said prints what was done.
func said(cmd *cobra.Command, format string, args ...any) error {
	_, err := fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
	return err
}

// variable is a variable as a policy names it.
var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// variables finds the values of those that a text names. Nothing else of the environment leaves this program.
func variables(text []byte) map[string]string {
	out := make(map[string]string)
	for _, m := range variable.FindAllSubmatch(text, -1) {
		if v, ok := os.LookupEnv(string(m[1])); ok {
			out[string(m[1])] = v
		}
	}
	return out
}

func (a *app) tpAdd() *cobra.Command {
	var domain, mode string
	var replace bool
	cmd := &cobra.Command{
		Use:   "add FILE",
		Short: "Load a policy and enable it",
		Long: `Loads a policy from a file and enables it. Either all of it works afterwards, or nothing has changed and every mistake
in it is told. Variables, as ${NAME}, have the values that they have in the environment of this command.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, ok := modes[mode]
			if mode != "" && !ok {
				return fmt.Errorf("mode %q is not enforce or monitor", mode)
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read policy: %w", err)
			}
			req := &tetragon.AddTracingPolicyRequest{
				Yaml: string(bytes.ToValidUTF8(text, []byte("\ufffd"))), Domain: domain, File: args[0], Replace: replace, Variables: variables(text), Mode: m,
			}
			err = a.policyCall(cmd.Context(), func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
				_, err := c.AddTracingPolicy(ctx, req)
				return err
			})
			var refused *refusedError
			if errors.As(err, &refused) && len(refused.lines) > 1 {
				p := a.newPainter(cmd.ErrOrStderr(), "auto")
				for _, l := range refused.lines {
					fmt.Fprintln(cmd.ErrOrStderr(), p.line(l))
				}
				return fmt.Errorf("tracing policy %q is not added", args[0])
			}
			if err != nil {
				return err
			}
			return said(cmd, "tracing policy %q added", args[0])
		},
	}
	cmd.Flags().StringVar(&domain, "domain", "", `domain for the policy (default "grpc")`)
	cmd.Flags().StringVarP(&mode, "mode", "m", "", "enforce or monitor, in the place of what the policy says")
	cmd.Flags().BoolVar(&replace, "replace", false, "take the place of a policy of that name, without a gap")
	return cmd
}

func (a *app) tpDelete() *cobra.Command {
	var id identity
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a policy",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.policyCall(cmd.Context(), func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
				_, err := c.DeleteTracingPolicy(ctx, &tetragon.DeleteTracingPolicyRequest{Name: args[0], Namespace: id.namespace, Domain: id.domain})
				return err
			})
			if err != nil {
				return err
			}
			return said(cmd, "tracing policy %q deleted", args[0])
		},
	}
	id.register(cmd)
	return cmd
}

func (a *app) configure(ctx context.Context, req *tetragon.ConfigureTracingPolicyRequest) error {
	return a.policyCall(ctx, func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
		_, err := c.ConfigureTracingPolicy(ctx, req)
		return err
	})
}

func (a *app) tpTurn(on bool) *cobra.Command {
	var id identity
	verb, short := "disable", "Disable a policy; nothing is unloaded, so that it can come back at once"
	if on {
		verb, short = "enable", "Enable a policy that was disabled"
	}
	cmd := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &tetragon.ConfigureTracingPolicyRequest{Name: args[0], Namespace: id.namespace, Domain: id.domain, Enable: &on}
			if err := a.configure(cmd.Context(), req); err != nil {
				return err
			}
			return said(cmd, "tracing policy %q %sd", args[0], verb)
		},
	}
	id.register(cmd)
	return cmd
}

// modes are those that can be set.
var modes = map[string]tetragon.TracingPolicyMode{
	"enforce": tetragon.TracingPolicyMode_TP_MODE_ENFORCE, "monitor": tetragon.TracingPolicyMode_TP_MODE_MONITOR,
}

func (a *app) tpSetMode() *cobra.Command {
	var id identity
	cmd := &cobra.Command{
		Use:   "set-mode NAME MODE",
		Short: "Set the mode of a policy: enforce or monitor",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, ok := modes[args[1]]
			if !ok {
				return fmt.Errorf("mode %q is not enforce or monitor", args[1])
			}
			req := &tetragon.ConfigureTracingPolicyRequest{Name: args[0], Namespace: id.namespace, Domain: id.domain, Mode: &m}
			if err := a.configure(cmd.Context(), req); err != nil {
				return err
			}
			return said(cmd, "tracing policy %q set to mode %q", args[0], args[1])
		},
	}
	id.register(cmd)
	return cmd
}

// form is the flag for text or JSON.
type form string

func (f *form) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP((*string)(f), "output", "o", "text", "text or json")
}

func (f form) check() error {
	if f != "text" && f != "json" {
		return fmt.Errorf("--output: %q is not text or json", string(f))
	}
	return nil
}

// list asks for policies.
func (a *app) list(ctx context.Context, domain string) (res *tetragon.ListTracingPoliciesResponse, err error) {
	err = a.policyCall(ctx, func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
		res, err = c.ListTracingPolicies(ctx, &tetragon.ListTracingPoliciesRequest{Domain: domain})
		return err
	})
	return res, err
}

// writeJSON writes a message in one line.
func writeJSON(w io.Writer, m proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return err
	}
	var b bytes.Buffer // protojson's own spacing differs from build to build
	if err := json.Compact(&b, text); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

func (a *app) tpList() *cobra.Command {
	var domain string
	var output form
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the policies, with what they have done",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			res, err := a.list(cmd.Context(), domain)
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), res)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), policyTable(res.GetPolicies()))
			return err
		},
	}
	cmd.Flags().StringVar(&domain, "domain", "", "only the policies of this domain")
	output.register(cmd)
	return cmd
}

// enumWord is the name of an enum's value as tables show it.
func enumWord(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

// policyTable is the table of policies; one that is only there in part is followed by its hooks.
func policyTable(ps []*tetragon.TracingPolicyStatus) string {
	rows := [][]string{{"ID", "NAME", "DOMAIN", "STATE", "FILTERID", "NAMESPACE", "SENSORS", "KERNELMEMORY", "MODE", "NPOST", "NENFORCE", "NMONITOR"}}
	for _, p := range ps {
		namespace := p.GetNamespace()
		if namespace == "" {
			namespace = "(global)"
		}
		c := p.GetStats().GetActionCounters()
		rows = append(rows, []string{
			fmt.Sprint(p.GetId()), p.GetName(), p.GetDomain(), enumWord(p.GetState().String(), "TP_STATE_"), fmt.Sprint(p.GetFilterId()), namespace,
			strings.Join(p.GetSensors(), ","), siBytes(p.GetKernelMemoryBytes()), enumWord(p.GetMode().String(), "TP_MODE_"), fmt.Sprint(c.GetPost()),
			fmt.Sprint(c.GetSignal() + c.GetOverride() + c.GetNotifyEnforcer() + c.GetSet()),
			fmt.Sprint(c.GetMonitorSignal() + c.GetMonitorOverride() + c.GetMonitorNotifyEnforcer() + c.GetMonitorSet()),
		})
	}
	lines := columns(rows)
	var b strings.Builder
	b.WriteString(lines[0] + "\n")
	for i, p := range ps {
		b.WriteString(lines[i+1] + "\n")
		if p.GetState() != tetragon.TracingPolicyState_TP_STATE_PARTIALLY_ENABLED {
			continue
		}
		hooks := [][]string{{"SECTION", "CFGIDX", "DESCRIPTION", "STATUS"}}
		for _, h := range p.GetHookStatuses() {
			hooks = append(hooks, []string{h.GetSection(), fmt.Sprint(h.GetHookIdx()), h.GetHookDescription(), enumWord(h.GetState().String(), "STATUS_")})
		}
		for _, l := range columns(hooks) {
			b.WriteString("    " + l + "\n")
		}
	}
	return b.String()
}

// columns aligns cells, three spaces apart.
func columns(rows [][]string) []string {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i := range r {
			r[i] = printable(r[i])
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
	}
	out := make([]string, len(rows))
	for n, r := range rows {
		var b strings.Builder
		for i, cell := range r {
			b.WriteString(cell)
			b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+3))
		}
		out[n] = strings.TrimRight(b.String(), " ")
	}
	return out
}

// siBytes writes a size in powers of 1000.
func siBytes(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for units := "kMGTPE"; v >= 999.995 && unit < len(units); unit++ {
		v /= 1000
	}
	return strconv.FormatFloat(v, 'f', 2, 64) + " " + "kMGTPE"[unit-1:unit] + "B"
}

func (a *app) tpDomains() *cobra.Command {
	var output form
	cmd := &cobra.Command{
		Use:   "domains",
		Short: "List the domains that hold policies",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			var res *tetragon.ListDomainsResponse
			err := a.policyCall(cmd.Context(), func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) (err error) {
				res, err = c.ListDomains(ctx, &tetragon.ListDomainsRequest{})
				return err
			})
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), res)
			}
			return said(cmd, "%s", printable(fmt.Sprint(res.GetDomains())))
		},
	}
	output.register(cmd)
	return cmd
}

func (a *app) tpStatus() *cobra.Command {
	var id identity
	var output form
	cmd := &cobra.Command{
		Use:   "status [NAME...]",
		Short: "Tell how each hook of a policy is served, and what it has done",
		Long: `Tells of each policy, or of those that are named: its state, what is wrong or odd with it, and for each of its hooks where
it runs, how that differs from what was asked for, and what became of the calls.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := output.check(); err != nil {
				return err
			}
			res, err := a.list(cmd.Context(), id.domain)
			if err != nil {
				return err
			}
			found := make(map[string]bool)
			res.Policies = slices.DeleteFunc(res.GetPolicies(), func(p *tetragon.TracingPolicyStatus) bool {
				ok := len(args) == 0 || slices.Contains(args, p.GetName()) && (id.namespace == "" || id.namespace == p.GetNamespace())
				found[p.GetName()] = found[p.GetName()] || ok
				return !ok
			})
			for _, n := range args {
				if !found[n] {
					return hint(fmt.Errorf("policy %s: not found", n), "%q lists them", "tetra tracingpolicy list")
				}
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), res)
			}
			var b strings.Builder
			for i, p := range res.GetPolicies() {
				if i > 0 {
					b.WriteByte('\n')
				}
				writePolicy(&b, p)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), b.String())
			return err
		},
	}
	cmd.Flags().StringVarP(&id.namespace, "namespace", "n", "", "namespace of the policies")
	cmd.Flags().StringVar(&id.domain, "domain", "", "only the policies of this domain")
	output.register(cmd)
	return cmd
}

// writePolicy tells all of one policy.
func writePolicy(b *strings.Builder, p *tetragon.TracingPolicyStatus) {
	line := func(word, format string, args ...any) {
		for i, l := range strings.Split(fmt.Sprintf(format, args...), "\n") {
			if i > 0 {
				word = ""
			}
			fmt.Fprintf(b, "  %-9s %s\n", word, printable(l))
		}
	}
	fmt.Fprintf(b, "%s: %s\n", printable(p.GetName()), enumWord(p.GetState().String(), "TP_STATE_"))
	if p.GetNamespace() != "" {
		line("namespace", "%s", p.GetNamespace())
	}
	line("domain", "%s", p.GetDomain())
	if p.GetFile() != "" {
		line("file", "%s", p.GetFile())
	}
	if p.GetError() != "" {
		line("error", "%s", p.GetError())
	}
	for _, w := range p.GetWarnings() {
		line("warning", "%s", w)
	}
	line("mode", "%s", enumWord(p.GetMode().String(), "TP_MODE_"))
	if slices.Contains(p.GetSensors(), "__loader__") {
		line("loader", "executable mappings are told")
	}
	if p.GetKernelMemoryBytes() > 0 {
		line("memory", "%s in the kernel", siBytes(p.GetKernelMemoryBytes()))
	}
	for _, h := range p.GetHooks() {
		writeHook(b, h)
	}
}

func writeHook(b *strings.Builder, h *tetragon.TracingPolicyHook) {
	fmt.Fprintf(b, "  %s[%d] %s\n", printable(h.GetSection()), h.GetHookIdx(), printable(h.GetFunction()))
	line := func(word, format string, args ...any) {
		fmt.Fprintf(b, "    %-9s %s\n", word, printable(fmt.Sprintf(format, args...)))
	}
	switch {
	case h.GetInactive() != "":
		line("inactive", "%s", h.GetInactive())
	case h.GetEquivalent():
		line("runs", "%s, an equivalent", h.GetAttached())
	default:
		line("runs", "%s", h.GetAttached())
	}
	for _, t := range h.GetTried() {
		line("not", "%s", t)
	}
	for _, c := range h.GetCaveats() {
		line("mind", "%s", c)
	}
	if h.GetInactive() != "" {
		return
	}
	text := fmt.Sprintf("%d matched, %d told", h.GetMatched(), h.GetPosted())
	for _, c := range []struct {
		n    uint64
		what string
	}{
		{h.GetNopost(), "not told by NoPost"}, {h.GetLimited(), "over the rate limit"}, {h.GetMerged(), "counted and told together"}, {h.GetLost(), "lost, there was no room"},
		{h.GetMissed(), "calls not seen, the program was running already"},
	} {
		if c.n > 0 {
			text += fmt.Sprintf(", %d %s", c.n, c.what)
		}
	}
	line("calls", "%s", text)
	if n := h.GetRuns(); n > 0 {
		line("cost", "%d ns a call in the kernel, over %d calls", h.GetRunTimeNs()/n, n)
	}
	if h.GetEnforced()+h.GetMonitored() > 0 {
		line("enforced", "%d signals and denials; %d more were only noted", h.GetEnforced(), h.GetMonitored())
	}
	if h.GetHooksOfProgram() > 1 {
		line("shared", "its program serves %d hooks", h.GetHooksOfProgram())
	}
}
