// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"io"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tetragon/internal/metrics"
)

// scrape returns the samples of an exposition, by name with labels, and checks its form.
func scrape(t *testing.T, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	body, _ := io.ReadAll(rec.Result().Body)
	if rec.Code != 200 {
		t.Fatalf("status %d: %s", rec.Code, body)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "# HELP ") || strings.HasPrefix(line, "# TYPE ") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			t.Fatalf("line %q is no sample", line)
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if _, twice := samples[line[:at]]; twice {
			t.Errorf("series %s comes twice", line[:at])
		}
		samples[line[:at]] = v
	}
	return samples
}

func newMetrics(t *testing.T, o metrics.Options) *metrics.Metrics {
	t.Helper()
	m, err := metrics.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestHandler_holdsEveryName(t *testing.T) {
	lane, ledger := new(metrics.Lane), metrics.NewLedger()
	ledger.Stage("file", "filtered").Seen(1)
	o := metrics.Options{
		Lane: lane, Ledger: ledger, EventMetrics: true, Labels: []string{"binary"},
		FlagWords: [32]string{0: "execve", 14: "clone"},
		Policies: func() []metrics.Policy {
			return []metrics.Policy{{
				Name: "p", Selectors: []metrics.Selector{{Hook: "kprobe:f", Post: 1, Unused: 1}}, Programs: []metrics.Program{{ID: 1, Attach: "f"}},
			}}
		},
		Queues: func() []metrics.Queue { return []metrics.Queue{{Sink: "file"}} },
		Memory: func() []metrics.Part { return []metrics.Part{{Name: "kernel_ring", Bytes: 1}} },
		RPCs:   new(metrics.RPCs),
	}
	o.RPCs.Start(metrics.Method{Type: "unary", Service: "s", Name: "m"})
	o.RPCs.Handled(metrics.Method{Type: "unary", Service: "s", Name: "m"}, "OK")
	lane.Syscalls.Count("openat", "/bin/true")
	m := newMetrics(t, o)
	lane.MsgOps[metrics.OpExec].Add(1)
	lane.Missed[metrics.OpExec][metrics.SendENOSPC].Add(1)
	lane.Events.Count(metrics.EventExec, "/bin/true")
	lane.Policies.Count(metrics.PolicyHook{Policy: "p", Hook: metrics.HookName{Kind: "kprobe", Name: "f"}}, "/bin/true")

	var names []string
	for series := range scrape(t, m) {
		name, _, _ := strings.Cut(series, "{")
		names = append(names, name, strings.TrimSuffix(name, "_bucket"))
	}
	for _, row := range metrics.Table() {
		if !slices.Contains(names, row.Name) && row.Idle == "" {
			t.Errorf("%s is missing", row.Name)
		}
	}
	for _, name := range []string{
		"go_goroutines", "go_sched_latencies_seconds_count", "process_resident_memory_bytes",
		"promhttp_metric_handler_errors_total",
	} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestHandler_values(t *testing.T) {
	lane, ledger := new(metrics.Lane), metrics.NewLedger()
	file := ledger.Stage("file", "filtered", "queue_full")
	file.Seen(10)
	file.Deliver(7)
	file.Drop(1, 3)
	ledger.Stage("grpc#4").Seen(5)
	m := newMetrics(t, metrics.Options{
		Lane: lane, Ledger: ledger, EventMetrics: true, Labels: []string{"binary", "pod", "node_name", "no such"},
		NodeName: "node-a", Build: metrics.Build{Version: "v1", GoVersion: "go1", Modified: "false"},
		FlagWords: [32]string{0: "execve", 14: "clone"},
	})
	lane.CountFlags(0x4001)
	lane.CountFlags(0x1)
	lane.LastExported.Store(1_500_000_000)
	lane.Events.Count(metrics.EventExit, "/bin/\xff\n")
	lane.Events.Count(metrics.EventExit, "/bin/\xfe\n")
	for _, binary := range []string{"/bin/\xff", "/bin/\xfe", "/bin/\xff"} {
		lane.Policies.Count(metrics.PolicyHook{Policy: "p", Hook: metrics.HookName{Kind: "tracepoint", Subsys: "sched", Name: "s"}}, binary)
	}
	lane.Policies.Count(metrics.PolicyHook{Policy: "p", Hook: metrics.HookName{Kind: "kprobe", Name: "f"}}, "/bin/ls")
	want := map[string]float64{
		"tetragon_policy_events_total{binary=\"/bin/\ufffd\",hook=\"tracepoint:sched/s\",namespace=\"\",node_name=\"node-a\",pod=\"\",policy=\"p\",workload=\"\"}": 3,
		`tetragon_policy_events_total{binary="/bin/ls",hook="kprobe:f",namespace="",node_name="node-a",pod="",policy="p",workload=""}`:                             1,
		`tetragon_build_info{commit="",go_version="go1",modified="false",time="",version="v1"}`:                                                                    1,
		`tetragon_flags_total{type="execve"}`:                                                                                               2,
		`tetragon_flags_total{type="clone"}`:                                                                                                1,
		`tetragon_events_last_exported_timestamp`:                                                                                           1.5,
		`tetragon_ledger_events{outcome="seen",reason="",stage="file"}`:                                                                     10,
		`tetragon_ledger_events{outcome="delivered",reason="",stage="file"}`:                                                                7,
		`tetragon_ledger_events{outcome="dropped",reason="filtered",stage="file"}`:                                                          0,
		`tetragon_ledger_events{outcome="dropped",reason="queue_full",stage="file"}`:                                                        3,
		`tetragon_process_cache_misses_total{operation="get"}`:                                                                              0,
		`tetragon_errors_total{error="process_pid_tid_mismatch_exec"}`:                                                                      0,
		"tetragon_events_total{binary=\"/bin/\ufffd\\n\",namespace=\"\",node_name=\"node-a\",pod=\"\",type=\"PROCESS_EXIT\",workload=\"\"}": 2,
	}
	got := map[string]float64{}
	for series, v := range scrape(t, m) {
		if strings.Contains(series, "grpc#4") {
			t.Errorf("%s is exposed, but goes away with its subscriber", series)
		}
		if _, ok := want[series]; ok {
			got[series] = v
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestHandler_labelFilter(t *testing.T) {
	tests := []struct {
		name string
		o    metrics.Options
		want []string
	}{
		{"binary", metrics.Options{EventMetrics: true, Labels: []string{"binary"}}, []string{"/a", "/b"}},
		{"none", metrics.Options{EventMetrics: true}, []string{""}},
		{"events off", metrics.Options{Labels: []string{"binary"}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Lane = new(metrics.Lane)
			m := newMetrics(t, tt.o)
			tt.o.Lane.Events.Count(metrics.EventExec, "/a")
			tt.o.Lane.Events.Count(metrics.EventExec, "/b")
			var got []string
			for series := range scrape(t, m) {
				if strings.HasPrefix(series, "tetragon_events_total{") {
					_, rest, _ := strings.Cut(series, `binary="`)
					binary, _, _ := strings.Cut(rest, `"`)
					got = append(got, binary)
				}
			}
			slices.Sort(got)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// Whoever may run programs chooses their names, so names must not make the agent grow.
func TestEventCounts_bounded(t *testing.T) {
	lane := new(metrics.Lane)
	m := newMetrics(t, metrics.Options{Lane: lane, EventMetrics: true, Labels: []string{"binary"}})
	const n = 10000
	for i := range n {
		lane.Events.Count(metrics.EventExec, "/tmp/"+strconv.Itoa(i))
	}
	series, sum := 0, 0.0
	for name, v := range scrape(t, m) {
		if strings.HasPrefix(name, "tetragon_events_total{") {
			series++
			sum += v
		}
	}
	if series > 4097 {
		t.Errorf("%d series for %d binaries", series, n)
	}
	if sum != n {
		t.Errorf("counts sum up to %g, want %d", sum, n)
	}
}

func TestLane_noAllocations(t *testing.T) {
	lane := new(metrics.Lane)
	got := testing.AllocsPerRun(1000, func() {
		lane.MsgOps[metrics.OpExec].Add(1)
		lane.CountFlags(0x4001)
		lane.Events.Count(metrics.EventExec, "/bin/true")
	})
	if got != 0 {
		t.Errorf("%g allocations an event", got)
	}
}

// TestHandler_policies: the contract has no label for the domain, so policies of one name are summed up.
func TestHandler_policies(t *testing.T) {
	m := newMetrics(t, metrics.Options{Lane: new(metrics.Lane), Policies: func() []metrics.Policy {
		return []metrics.Policy{
			{Name: "p", State: "enabled", KernelBytes: 100, Selectors: []metrics.Selector{
				{Hook: "kprobe:f", Label: "l", Post: 3}, {Hook: "kprobe:f", Index: 1, NoPost: 4}, {Hook: "kprobe:f", HookIndex: 1, Notify: 2},
			}},
			{Name: "p", State: "enabled", KernelBytes: 20, Selectors: []metrics.Selector{{Hook: "kprobe:f", Label: "l", Post: 5}}},
			{Name: "q", Namespace: "n", State: "load_error"},
		}
	}})
	got := map[string]float64{}
	for k, v := range scrape(t, m) {
		if strings.HasPrefix(k, "tetragon_tracingpolicy_") {
			got[strings.TrimPrefix(k, "tetragon_tracingpolicy_")] = v
		}
	}
	want := map[string]float64{
		`loaded{state="enabled"}`: 2, `loaded{state="load_error"}`: 1, `loaded{state="error"}`: 0, `loaded{state="disabled"}`: 0,
		`loaded{state="skipped"}`: 0, `loaded{state="partially_enabled"}`: 0,
		`kernel_memory_bytes{policy="p",policy_namespace=""}`: 120, `kernel_memory_bytes{policy="q",policy_namespace="n"}`: 0,
		`selector_actions_total{action="post",hook="kprobe:f",hook_index="0",policy="p",policy_namespace="",selector_index="0",selector_label="l"}`:           8,
		`selector_actions_total{action="nopost",hook="kprobe:f",hook_index="0",policy="p",policy_namespace="",selector_index="1",selector_label=""}`:          4,
		`selector_actions_total{action="notify_enforcer",hook="kprobe:f",hook_index="1",policy="p",policy_namespace="",selector_index="0",selector_label=""}`: 2,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("samples (-want +got):\n%s", d)
	}
}

// TestTable_contract: what the wire contract has is there, with its type and labels.
func TestTable_contract(t *testing.T) {
	have := map[string]string{}
	for _, row := range metrics.Table() {
		if _, twice := have[row.Name]; twice {
			t.Errorf("%s is there twice", row.Name)
		}
		labels := slices.Clone(row.Labels)
		slices.Sort(labels)
		have[row.Name] = strings.TrimSpace(row.Kind() + " " + strings.Join(labels, ","))
	}
	for line := range strings.Lines(contract) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "" && have[name] != want {
			t.Errorf("%s: got %q, want %q", name, have[name], want)
		}
	}
}

func TestHandler_latency(t *testing.T) {
	lane := new(metrics.Lane)
	m := newMetrics(t, metrics.Options{Lane: lane})
	for _, us := range []int{10, 50, 51, 700, 200000} {
		lane.Latency[metrics.OpExec].Observe(time.Duration(us) * time.Microsecond)
	}
	got := scrape(t, m)
	for series, want := range map[string]float64{
		`tetragon_handling_latency_bucket{op="5",le="50"}`: 2, `tetragon_handling_latency_bucket{op="5",le="100"}`: 3,
		`tetragon_handling_latency_bucket{op="5",le="1000"}`: 4, `tetragon_handling_latency_bucket{op="5",le="100000"}`: 4,
		`tetragon_handling_latency_bucket{op="5",le="+Inf"}`: 5, `tetragon_handling_latency_count{op="5"}`: 5,
		`tetragon_handling_latency_sum{op="5"}`: 200811,
	} {
		if got[series] != want {
			t.Errorf("%s is %g, want %g", series, got[series], want)
		}
	}
}

// TestHandler_programs: a program that several policies share is told of each, but of its place once.
func TestHandler_programs(t *testing.T) {
	shared := metrics.Program{ID: 7, Attach: "f", Section: "kprobes", Runs: 10, Seconds: 0.5, Missed: 2, Bytes: 4096}
	m := newMetrics(t, metrics.Options{Lane: new(metrics.Lane), Policies: func() []metrics.Policy {
		return []metrics.Policy{
			{Name: "p", Programs: []metrics.Program{shared, shared}}, {Name: "q", Programs: []metrics.Program{shared}},
			{Name: "q", Programs: []metrics.Program{{ID: 8, Attach: "g", Section: "lsm", Runs: 3}}},
		}
	}})
	got := map[string]float64{}
	for k, v := range scrape(t, m) {
		for _, p := range []string{"tetragon_overhead_program_runs", "tetragon_hook_", "tetragon_missed_prog"} {
			if strings.HasPrefix(k, p) && v != 0 {
				got[k] = v
			}
		}
	}
	want := map[string]float64{
		`tetragon_overhead_program_runs_total{attach="f",policy="p",policy_namespace="",section="kprobes",sensor="generic_kprobes"}`: 10,
		`tetragon_overhead_program_runs_total{attach="f",policy="q",policy_namespace="",section="kprobes",sensor="generic_kprobes"}`: 10,
		`tetragon_overhead_program_runs_total{attach="g",policy="q",policy_namespace="",section="lsm",sensor="generic_lsm"}`:         3,
		`tetragon_missed_prog_probes_total{attach="f",policy="p"}`:                                                                   2, `tetragon_missed_prog_probes_total{attach="f",policy="q"}`: 2,
		`tetragon_hook_runs_total{attach="f"}`: 10, `tetragon_hook_runs_total{attach="g"}`: 3, `tetragon_hook_seconds_total{attach="f"}`: 0.5,
		`tetragon_hook_kernel_memory_bytes{attach="f"}`: 4096,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("samples (-want +got):\n%s", d)
	}
}

// TestHandler_maxSeries: the bound is the user's.
func TestHandler_maxSeries(t *testing.T) {
	lane := new(metrics.Lane)
	m := newMetrics(t, metrics.Options{Lane: lane, EventMetrics: true, Labels: []string{"binary"}, MaxSeries: 2})
	for _, b := range []string{"/a", "/b", "/c", "/d"} {
		lane.Events.Count(metrics.EventExec, b)
		lane.Syscalls.Count("read", b)
	}
	sum := map[string]float64{}
	for k, v := range scrape(t, m) {
		if strings.Contains(k, `binary="(other)"`) {
			name, _, _ := strings.Cut(k, "{")
			sum[name] += v
		}
	}
	if d := cmp.Diff(map[string]float64{"tetragon_events_total": 2, "tetragon_syscalls_total": 2}, sum); d != "" {
		t.Errorf("beyond the bound (-want +got):\n%s", d)
	}
}
