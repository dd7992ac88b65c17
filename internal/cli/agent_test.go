// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tetragon/api/v1/tetragon"
)

// talker answers what is asked of the agent itself.
type talker struct {
	tetragon.UnimplementedFineGuidanceSensorsServer
	tetragon.UnimplementedEventLogServiceServer
	level tetragon.LogLevel
	set   *tetragon.SetEventLogParamsRequest
}

func (t *talker) GetHealth(context.Context, *tetragon.GetHealthStatusRequest) (*tetragon.GetHealthStatusResponse, error) {
	return &tetragon.GetHealthStatusResponse{Notes: []string{"no iterator"}, Balance: []*tetragon.StageBalance{{
		Stage: "kernel", Dropped: []*tetragon.StageDrop{{Reason: "ring_full_exec", Count: 4}, {Reason: "filtered", Count: 9}},
	}}}, nil
}

func (t *talker) GetDebug(_ context.Context, req *tetragon.GetDebugRequest) (*tetragon.GetDebugResponse, error) {
	if req.GetFlag() == tetragon.ConfigFlag_CONFIG_FLAG_LOG_LEVEL {
		return &tetragon.GetDebugResponse{Arg: &tetragon.GetDebugResponse_Level{Level: t.level}}, nil
	}
	p := &tetragon.ProcessInternal{Color: "inUse", Refcnt: wrapperspb.UInt32(2), Process: &tetragon.Process{
		Pid: wrapperspb.UInt32(7), Binary: "/bin/x", Arguments: "--pass hush", Cwd: "/home/hush",
		EnvironmentVariables: []*tetragon.EnvVar{{Key: "T", Value: "hush"}},
	}}
	return &tetragon.GetDebugResponse{Arg: &tetragon.GetDebugResponse_Processes{
		Processes: &tetragon.DumpProcessCacheResArgs{Processes: []*tetragon.ProcessInternal{p}}}}, nil
}

func (t *talker) SetDebug(_ context.Context, req *tetragon.SetDebugRequest) (*tetragon.SetDebugResponse, error) {
	t.level = req.GetLevel()
	return &tetragon.SetDebugResponse{Arg: &tetragon.SetDebugResponse_Level{Level: t.level}}, nil
}

func (t *talker) GetInfo(context.Context, *tetragon.GetInfoRequest) (*tetragon.GetInfoResponse, error) {
	res := &tetragon.GetInfoResponse{Name: "tetragon", Version: "v9"}
	for key, v := range map[string]proto.Message{
		"redaction-filters": wrapperspb.String(`{"redact":["(hush)"]}`), "debug": wrapperspb.Bool(true), "rb-size": wrapperspb.Int64(5),
	} {
		a, err := anypb.New(v)
		if err != nil {
			return nil, err
		}
		res.Conf = append(res.Conf, &tetragon.GetInfoResponse_ConfVal{Key: key, Value: a})
	}
	return res, nil
}

func (t *talker) ListTracingPolicies(context.Context, *tetragon.ListTracingPoliciesRequest) (*tetragon.ListTracingPoliciesResponse, error) {
	return &tetragon.ListTracingPoliciesResponse{Policies: []*tetragon.TracingPolicyStatus{{Name: "p"}}}, nil
}

func (t *talker) GetEventLogParams(context.Context, *tetragon.GetEventLogParamsRequest) (*tetragon.GetEventLogParamsResponse, error) {
	return &tetragon.GetEventLogParamsResponse{MaxSize: 10, RotationInterval: "0s", MaxBackups: 5}, nil
}

func (t *talker) SetEventLogParams(_ context.Context, req *tetragon.SetEventLogParamsRequest) (*tetragon.SetEventLogParamsResponse, error) {
	t.set = req
	return &tetragon.SetEventLogParamsResponse{}, nil
}

// talk serves a talker, and returns how to run tetra against it.
func talk(t *testing.T) (*talker, func(args ...string) (out, errs string, code int)) {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "tetragon.sock"))
	if err != nil {
		t.Fatal(err)
	}
	agent := &talker{level: tetragon.LogLevel_LOG_LEVEL_INFO}
	s := grpc.NewServer()
	tetragon.RegisterFineGuidanceSensorsServer(s, agent)
	tetragon.RegisterEventLogServiceServer(s, agent)
	go func() { _ = s.Serve(l) }() // ends by Stop
	t.Cleanup(s.Stop)
	return agent, func(args ...string) (string, string, int) {
		var out, errs bytes.Buffer
		code := Main(t.Context(), Options{
			Args: args, Version: "v1", Out: &out, Err: &errs, RunDir: dir, In: strings.NewReader(""), Getenv: func(string) string { return "" },
		})
		return out.String(), errs.String(), code
	}
}

func TestAgentVerbs(t *testing.T) {
	agent, tetra := talk(t)
	tests := []struct{ args, out, errs string }{
		{"loglevel get", "Current log level: LOG_LEVEL_INFO\n", ""},
		{"loglevel set warning", "Log level set to: LOG_LEVEL_WARN\n", ""},
		{"log get", "Current log level: LOG_LEVEL_WARN\n", ""},
		{"loglevel set loud", "", `"loud" is none of trace, debug, info, warn, error, fatal, panic`},
		{"loglevel set", "", "give a level, such as debug"},
		{"info", `{"Name":"tetragon","Version":"v9","Probes":{},"Conf":{"debug":true,"rb-size":5,"redaction-filters":"{\"redact\":[\"(hush)\"]}"},` +
			`"Build":{"GoVersion":"","Commit":"","Time":"","Modified":""}}` + "\n", ""},
		{"eventlog get", `Current logging parameters: max_size:10 rotation_interval:"0s" max_backups:5` + "\n", ""},
		{"eventlog set --max-size 3 --rotation-interval 1h", "", ""},
		{"eventlog set", "", "nothing to change"},
		{"dump processcache", `{"process":{"pid":7,"cwd":"/home/hush","binary":"/bin/x","arguments":"--pass hush",` +
			`"environment_variables":[{"Key":"T","Value":"hush"}]},"color":"inUse","refcnt":2}` + "\n", ""},
		{"debug dump policies", `{"policies":[{"name":"p"}]}` + "\n", ""},
		{"metrics", "", "is the agent running? --address names another place"},
		{"sensors list", "", "sensors is not supported: sensors are deprecated"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			out, errs, code := tetra(strings.Fields(tt.args)...)
			if d := cmp.Diff(tt.out, out); d != "" {
				t.Error(d)
			}
			if !strings.Contains(errs, tt.errs) || (tt.errs == "") != (code == 0) || tt.errs == "" && errs != "" {
				t.Errorf("code %d, %q, want %q", code, errs, tt.errs)
			}
		})
	}
	if agent.set.GetMaxSize() != 3 || agent.set.GetRotationInterval() != "1h0m0s" || agent.set.MaxBackups != nil {
		t.Errorf("asked to set %v", agent.set)
	}
}

func TestBugtool_leavesSecretsOut(t *testing.T) {
	_, tetra := talk(t)
	path := filepath.Join(t.TempDir(), "out.tar.gz")
	out, errs, code := tetra("bugtool", "--out", path, "--bpftool", "/nowhere/bpftool")
	if code != 0 {
		t.Fatalf("%s%s", out, errs)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read from
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "hush") {
			t.Errorf("%s holds the secret: %s", h.Name, b)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		parts[name] = string(b)
	}
	for name, want := range map[string]string{
		"version.txt": "CLI version: v1", "status.txt": "dropped[ring_full_exec] 4", "info.json": `"redaction-filters":"(left out)"`,
		"tracing-policies.json": `"name":"p"`, "processcache.json": `{"process":{"pid":7,"binary":"/bin/x"},"color":"inUse","refcnt":2}`,
		"doctor.txt": "no iterator", "kernel.txt": "Linux", "tetragon-bugtool.log": "metrics: ",
	} {
		if !strings.Contains(parts[name], want) {
			t.Errorf("%s is %q, want %q in it", name, parts[name], want)
		}
	}
	if _, _, code := tetra("bugtool", "--out", "/nowhere/at/all.tar.gz"); code == 0 {
		t.Error("an archive that could not be written is no error")
	}
}

func TestDoctor(t *testing.T) {
	_, tetra := talk(t)
	out, _, _ := tetra("doctor") // how it ends is up to this machine
	for _, want := range []string{"limited  agent         no iterator\n", "4 were lost at stage kernel (ring_full_exec)", "-> a larger ring"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "filtered") {
		t.Errorf("what a filter refused is no loss:\n%s", out)
	}
	if _, errs, code := tetra("doctor", "-o", "xml"); code == 0 || !strings.Contains(errs, "not text or json") {
		t.Errorf("code %d, %s", code, errs)
	}
}

func TestMetrics(t *testing.T) {
	const text = "# HELP tetragon_a What.\n# TYPE tetragon_a counter\ntetragon_a{x=\"1\"} 2\nother 3\n"
	ok := true
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ok {
			w.WriteHeader(http.StatusTeapot)
		}
		fmt.Fprint(w, text)
	}))
	defer s.Close()
	_, tetra := talk(t)
	at := strings.TrimPrefix(s.URL, "http://")
	if out, errs, _ := tetra("metrics", "--address", at); out != text {
		t.Errorf("%q, %s", out, errs)
	}
	if out, _, _ := tetra("metrics", "--address", at, "tetragon_"); out != strings.TrimSuffix(text, "other 3\n") {
		t.Errorf("with a prefix: %q", out)
	}
	ok = false
	if _, errs, code := tetra("metrics", "--address", at); code == 0 || !strings.Contains(errs, "418") {
		t.Errorf("refused: code %d, %s", code, errs)
	}
}

// TestMan: each command that help lists has a page, which names its flags.
func TestMan(t *testing.T) {
	_, tetra := talk(t)
	dir := filepath.Join(t.TempDir(), "man")
	if out, errs, code := tetra("man", dir); code != 0 {
		t.Fatalf("%s%s", out, errs)
	}
	b, err := os.ReadFile(filepath.Join(dir, "tetra-getevents.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".TH TETRA\\-GETEVENTS 1\n", ".B \\-o, \\-\\-output\n", ".SH EXAMPLES\n", "tetra(1)"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q is not in the page", want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "tetra-debug.1")); err == nil {
		t.Error("a hidden command has a page")
	}
	if got := roff(".a\\-\n'b"); got != "\\&.a\\e\\-\n\\&'b" {
		t.Errorf("escaped as %q", got)
	}
}

func TestCompletion(t *testing.T) {
	_, tetra := talk(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, errs, code := tetra("completion", shell); code != 0 || !strings.Contains(out, "tetra") {
			t.Errorf("%s: code %d, %s", shell, code, errs)
		}
	}
}
