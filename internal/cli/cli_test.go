// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"tetragon/api/v1/tetragon"
)

var update = flag.Bool("update", false, "rewrite what scripts compare with; read the difference")

// TestMain lets scripts run tetra as a program of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tetra": func() {
			os.Exit(Main(context.Background(), Options{
				Args: os.Args[1:], Version: "v1.2.3", RunDir: os.Getenv("TETRA_TEST_RUN_DIR"),
			}))
		},
	})
}

// Each script has an agent of its own on $SOCK, which sends what is in $WORK/events.jsonl and writes what it was asked
// to $WORK/request.json. Calls about policies it notes in $WORK/calls.txt; it answers from $WORK/policies.json, and refuses
// with the code and text in $WORK/refusal.txt. $KERNELS has recorded kernels. A file "endless" keeps the stream open after that, "flood" goes on sending, "break" ends it with
// an error. Scripts run tetra by "sh -c 'tetra ... </dev/null'" where it shall not read standard input,
// which is a pipe otherwise.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			run := filepath.Join(env.WorkDir, "run")
			if err := os.Mkdir(run, 0o700); err != nil {
				return err
			}
			sock := filepath.Join(run, "tetragon.sock")
			lis, err := net.Listen("unix", sock)
			if err != nil {
				return err
			}
			srv := grpc.NewServer()
			tetragon.RegisterFineGuidanceSensorsServer(srv, &fakeAgent{dir: env.WorkDir})
			go func() { _ = srv.Serve(lis) }() // ends by Stop
			env.Defer(srv.Stop)
			env.Setenv("SOCK", sock)
			kernels, err := filepath.Abs("../policy/compile/testdata/kernels")
			if err != nil {
				return err
			}
			env.Setenv("KERNELS", kernels)
			env.Setenv("TETRA_TEST_RUN_DIR", run)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// await FILE: wait until it is there.
			"await": func(ts *testscript.TestScript, _ bool, args []string) {
				for end := time.Now().Add(30 * time.Second); ; {
					_, err := os.Stat(ts.MkAbs(args[0]))
					if err == nil {
						return
					}
					if time.Now().After(end) {
						ts.Fatalf("%s is not there", args[0])
					}
					time.Sleep(time.Millisecond)
				}
			},
		},
	})
}

// fakeAgent answers from files in dir.
type fakeAgent struct {
	tetragon.UnimplementedFineGuidanceSensorsServer
	dir string
}

func (f *fakeAgent) GetVersion(context.Context, *tetragon.GetVersionRequest) (*tetragon.GetVersionResponse, error) {
	return &tetragon.GetVersionResponse{Version: "v9\x1b[2J"}, nil
}

func (f *fakeAgent) GetHealth(context.Context, *tetragon.GetHealthStatusRequest) (*tetragon.GetHealthStatusResponse, error) {
	h := &tetragon.GetHealthStatusResponse{}
	b, err := os.ReadFile(filepath.Join(f.dir, "health.json"))
	if err != nil {
		return nil, err
	}
	return h, protojson.Unmarshal(b, h)
}

func (f *fakeAgent) GetEvents(req *tetragon.GetEventsRequest, s grpc.ServerStreamingServer[tetragon.GetEventsResponse]) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
	if err != nil {
		return err
	}
	var b bytes.Buffer // protojson's own spacing differs from build to build
	if err := json.Indent(&b, text, "", " "); err != nil {
		return err
	}
	b.WriteByte('\n')
	in, err := os.Open(filepath.Join(f.dir, "events.jsonl"))
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read from
	for lines := bufio.NewScanner(in); lines.Scan(); {
		ev := &tetragon.GetEventsResponse{}
		if err := protojson.Unmarshal(lines.Bytes(), ev); err != nil {
			return err
		}
		if err := s.Send(ev); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(f.dir, "request.json"), b.Bytes(), 0o600); err != nil {
		return err
	}
	for _, err := os.Stat(filepath.Join(f.dir, "flood")); err == nil; {
		if err := s.Send(&tetragon.GetEventsResponse{NodeName: "flood"}); err != nil {
			return err
		}
	}
	switch _, err := os.Stat(filepath.Join(f.dir, "endless")); {
	case err == nil:
		<-s.Context().Done()
		return s.Context().Err()
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if _, err := os.Stat(filepath.Join(f.dir, "break")); err == nil {
		return status.Error(codes.Unavailable, "gone\x1b")
	}
	return nil
}

// policyCall notes a call about policies and refuses it if the script says so.
func (f *fakeAgent) policyCall(what string, req proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(f.dir, "calls.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%s %s\n", what, b.Bytes()); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	refusal, err := os.ReadFile(filepath.Join(f.dir, "refusal.txt"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	code, message, _ := bytes.Cut(refusal, []byte("\n"))
	var c codes.Code
	if err := c.UnmarshalJSON([]byte(strconv.Quote(string(code)))); err != nil {
		return err
	}
	return status.Error(c, strings.TrimSuffix(string(message), "\n"))
}

// GetDebug answers with the process table in processes.json.
func (f *fakeAgent) GetDebug(context.Context, *tetragon.GetDebugRequest) (*tetragon.GetDebugResponse, error) {
	b, err := os.ReadFile(filepath.Join(f.dir, "processes.json"))
	if err != nil {
		return nil, err
	}
	list := &tetragon.DumpProcessCacheResArgs{}
	if err := protojson.Unmarshal(b, list); err != nil {
		return nil, err
	}
	return &tetragon.GetDebugResponse{Arg: &tetragon.GetDebugResponse_Processes{Processes: list}}, nil
}

func (f *fakeAgent) AddTracingPolicy(_ context.Context, req *tetragon.AddTracingPolicyRequest) (*tetragon.AddTracingPolicyResponse, error) {
	return &tetragon.AddTracingPolicyResponse{}, f.policyCall("add", req)
}

func (f *fakeAgent) DeleteTracingPolicy(_ context.Context, req *tetragon.DeleteTracingPolicyRequest) (*tetragon.DeleteTracingPolicyResponse, error) {
	return &tetragon.DeleteTracingPolicyResponse{}, f.policyCall("delete", req)
}

func (f *fakeAgent) ConfigureTracingPolicy(_ context.Context, req *tetragon.ConfigureTracingPolicyRequest) (*tetragon.ConfigureTracingPolicyResponse, error) {
	return &tetragon.ConfigureTracingPolicyResponse{}, f.policyCall("configure", req)
}

func (f *fakeAgent) ListDomains(_ context.Context, req *tetragon.ListDomainsRequest) (*tetragon.ListDomainsResponse, error) {
	return &tetragon.ListDomainsResponse{Domains: []string{"grpc", "static"}}, f.policyCall("domains", req)
}

func (f *fakeAgent) ListTracingPolicies(_ context.Context, req *tetragon.ListTracingPoliciesRequest) (*tetragon.ListTracingPoliciesResponse, error) {
	if err := f.policyCall("list", req); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(f.dir, "policies.json"))
	if err != nil {
		return nil, err
	}
	res := &tetragon.ListTracingPoliciesResponse{}
	return res, protojson.Unmarshal(b, res)
}
