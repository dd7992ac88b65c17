// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tetragon/internal/metrics"
)

const (
	rulesFile     = "../../deploy/prometheus/tetragon.rules.yml"
	rulesTestFile = "../../deploy/prometheus/tetragon.test.yml"
	dashboardFile = "../../deploy/grafana/tetragon.json"
)

// promtool finds Prometheus's own checker.
func promtool(t *testing.T) string {
	t.Helper()
	p, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: Debian package prometheus, which tools/setup.sh installs")
	}
	return p
}

func TestPromtool_rules(t *testing.T) {
	p := promtool(t)
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", rulesTestFile}} {
		if out, err := exec.Command(p, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestPromtool_exposition lets Prometheus read what we expose. Its complaints about names are those that the contract has
// earned; there is none about ours but one.
func TestPromtool_exposition(t *testing.T) {
	p := promtool(t)
	lane, ledger := new(metrics.Lane), metrics.NewLedger()
	ledger.Stage("file", "filtered").Seen(1)
	lane.Events.Count(metrics.EventExec, "/bin/\"true\"\\\n")
	m := newMetrics(t, metrics.Options{Lane: lane, Ledger: ledger, EventMetrics: true, Labels: []string{"binary"}})
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	body, _ := io.ReadAll(rec.Result().Body)
	cmd := exec.Command(p, "check", "metrics")
	cmd.Stdin = strings.NewReader(string(body))
	out, _ := cmd.CombinedOutput() // its status says only that there are complaints
	ourNames := map[string]bool{}
	for _, row := range metrics.Table() {
		ourNames[row.Name] = row.Ours
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		name, what, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.HasPrefix(name, "tetragon_") {
			if !strings.HasPrefix(name, "go_") && name != "" { // a sentence, not a complaint about a name
				got = append(got, strings.TrimSpace(line))
			}
			continue
		}
		if ourNames[name] {
			got = append(got, name+" "+what)
		}
	}
	// A ledger is written over when the kernel's own account is read; its name is older than this test.
	if d := cmp.Diff([]string{`tetragon_ledger_events counter metrics should have "_total" suffix`}, got); d != "" {
		t.Errorf("complaints (-want +got):\n%s\nall of them:\n%s", d, out)
	}
}

// metricName finds names of metrics in an expression of PromQL.
var metricName = regexp.MustCompile(`\b(?:tetragon|grpc_server|process|go)_[a-z_]+\b`)

// TestDeploy_namesExist wants alerts and dashboard to ask for what there is, and PromQL to understand them.
func TestDeploy_namesExist(t *testing.T) {
	known := []string{"process_cpu_seconds_total", "process_resident_memory_bytes"}
	labels := []string{"instance", "job", "le", "severity"}
	for _, row := range metrics.Table() {
		known = append(known, row.Name)
		labels = append(labels, row.Labels...)
	}
	b, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var exprs []string
	for _, m := range regexp.MustCompile(`(?m)^ +expr: (.*)$`).FindAllStringSubmatch(string(b), -1) {
		exprs = append(exprs, m[1])
	}
	dash := dashboard(t)
	if len(exprs) < 7 || len(dash) < 12 {
		t.Fatalf("%d alerts, %d panels: not all were read", len(exprs), len(dash))
	}
	exprs = append(exprs, dash...)
	byLabel := regexp.MustCompile(`by \(([a-z_, ]+)\)`)
	for _, e := range exprs {
		names := metricName.FindAllString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(e, `""`), -1)
		found := false
		for _, n := range names {
			if slices.Contains(labels, n) {
				continue
			}
			found = true
			if !slices.Contains(known, n) {
				t.Errorf("%s: there is no metric %s", e, n)
			}
		}
		if !found && !strings.HasPrefix(e, "up{") {
			t.Errorf("%s: asks for nothing of ours", e)
		}
		for _, m := range byLabel.FindAllStringSubmatch(e, -1) {
			for _, l := range strings.Split(m[1], ",") {
				if l = strings.TrimSpace(l); !slices.Contains(labels, l) {
					t.Errorf("%s: there is no label %s", e, l)
				}
			}
		}
	}
	// A rule is the only form in which promtool takes any expression.
	p := promtool(t)
	var sb strings.Builder
	sb.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for _, e := range dash {
		e = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(e)
		q, _ := json.Marshal(e)
		sb.WriteString("  - record: x:y\n    expr: " + string(q) + "\n")
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(sb.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(p, "check", "rules", "--lint=none", file).CombinedOutput(); err != nil {
		t.Errorf("the dashboard's expressions: %v\n%s", err, out)
	}
}

// dashboard returns the expressions of all panels, and checks that each panel has what Grafana wants.
func dashboard(t *testing.T) (exprs []string) {
	t.Helper()
	b, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title, UID string
		Panels     []struct {
			ID                       int
			Title, Type, Description string
			GridPos                  struct{ H, W, X, Y int }
			Targets                  []struct{ Expr, RefID string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || d.UID == "" {
		t.Error("the dashboard has no title or no uid")
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" || p.Description == "" || p.GridPos.W == 0 || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: lacks something that Grafana or its reader wants", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, x := range p.Targets {
			exprs = append(exprs, x.Expr)
		}
	}
	return exprs
}
