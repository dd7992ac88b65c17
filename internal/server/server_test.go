// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event"
	"tetragon/internal/event/export"
	"tetragon/internal/metrics"
	"tetragon/internal/server"
)

// encoder makes of an event what clients of these tests look at.
type encoder struct{}

func (encoder) AppendJSON(b []byte, ev *event.Event) []byte { return append(b, ev.Process.Binary...) }

func (encoder) AppendWire(b []byte, ev *event.Event) []byte {
	b, err := proto.MarshalOptions{}.MarshalAppend(b, &tetragon.GetEventsResponse{
		Event: &tetragon.GetEventsResponse_ProcessExec{ProcessExec: &tetragon.ProcessExec{
			Process: &tetragon.Process{Binary: ev.Process.Binary},
		}},
	})
	if err != nil {
		panic("bug: " + err.Error())
	}
	return b
}

// agent is a server on a real socket, with the sinks behind it.
type agent struct {
	*server.Server
	set    *export.Set
	ledger *metrics.Ledger
	lane   *metrics.Lane
	socket string
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(t *testing.T, o server.Options) *agent {
	t.Helper()
	a := &agent{ledger: metrics.NewLedger(), lane: new(metrics.Lane), socket: filepath.Join(t.TempDir(), "t.sock")}
	a.set = export.NewSet(export.Options{Encoder: encoder{}, Ledger: a.ledger, Lane: a.lane})
	o.Events, o.Ledger, o.Log = a.set, a.ledger, quiet()
	a.Server = server.New(o)
	ls, err := server.Listen([]server.Address{{Network: "unix", Address: a.socket}}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	a.Serve(ls[0])
	t.Cleanup(a.Stop)
	return a
}

func dial(t *testing.T, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (a *agent) client(t *testing.T) tetragon.FineGuidanceSensorsClient {
	t.Helper()
	return tetragon.NewFineGuidanceSensorsClient(dial(t, "unix://"+a.socket))
}

// stream is a stream that is known to be subscribed.
func (a *agent) stream(ctx context.Context, t *testing.T, req *tetragon.GetEventsRequest) grpc.ServerStreamingClient[tetragon.GetEventsResponse] {
	t.Helper()
	st, err := a.client(t).GetEvents(ctx, req)
	if err == nil {
		_, err = st.Header()
	}
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func execs(names ...string) []event.Event {
	evs := make([]event.Event, len(names))
	for i, name := range names {
		evs[i] = event.Event{Kind: event.KindExec, Process: &event.Process{Binary: name, Key: event.Key{Pid: uint32(i + 1)}}}
	}
	return evs
}

func (a *agent) balance(t *testing.T, stage string) metrics.Balance {
	t.Helper()
	for _, b := range a.ledger.Read() {
		if b.Stage == stage {
			return b
		}
	}
	t.Fatalf("no stage %s", stage)
	return metrics.Balance{}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); runtime.Gosched() {
		if time.Since(begin) > time.Minute {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func next(t *testing.T, st grpc.ServerStreamingClient[tetragon.GetEventsResponse]) string {
	t.Helper()
	ev, err := st.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return ev.GetProcessExec().GetProcess().GetBinary()
}

func TestGetEvents(t *testing.T) {
	a := start(t, server.Options{})
	everything := a.stream(t.Context(), t, &tetragon.GetEventsRequest{})
	some := a.stream(t.Context(), t, &tetragon.GetEventsRequest{
		AllowList: []*tetragon.Filter{{BinaryRegex: []string{"^b", "^c"}}},
		DenyList:  []*tetragon.Filter{{Pid: []uint32{3}}},
	})
	large := strings.Repeat("x", 100_000) // more than one frame
	a.set.Batch(execs("a", "b", "c", large))
	for _, want := range []string{"a", "b", "c", large} {
		if got := next(t, everything); got != want {
			t.Errorf("event of %d bytes, want %d", len(got), len(want))
		}
	}
	if got := next(t, some); got != "b" {
		t.Errorf("filtered stream got %q", got)
	}
	a.set.Batch(execs("cc"))
	if got := next(t, some); got != "cc" {
		t.Errorf("filtered stream got %q", got)
	}
}

func TestGetEvents_refuses(t *testing.T) {
	tests := []struct {
		name string
		req  string
		code codes.Code
		want string
	}{
		{"regex", `{"allow_list":[{},{"binary_regex":["("]}]}`, codes.InvalidArgument, "allow list: filter 2: binary_regex"},
		{"deny list", `{"deny_list":[{"labels":["a in"]}]}`, codes.InvalidArgument, "deny list: filter 1: labels"},
		{"cel", `{"allow_list":[{"cel_expression":["process_exec"]}]}`, codes.InvalidArgument, "write a condition"},
		{"caps", `{"allow_list":[{"capabilities":{}}]}`, codes.InvalidArgument, "enable-process-cred"},
		{"ancestors", `{"allow_list":[{"ancestor_binary_regex":["x"]}]}`, codes.InvalidArgument, "ancestors are not enabled"},
		{"aggregation", `{"aggregation_options":{"window_size":"-1s"}}`, codes.InvalidArgument, "aggregation_options: window_size"},
		{"fields", `{"field_filters":[{},{"event_set":[7]}]}`, codes.InvalidArgument, "field filter 2: event_set: unknown event type 7"},
		{"action", `{"field_filters":[{"action":9}]}`, codes.InvalidArgument, "field filter 1: action: unknown action 9"},
	}
	a := start(t, server.Options{})
	c := a.client(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := new(tetragon.GetEventsRequest)
			if err := protojson.Unmarshal([]byte(tt.req), req); err != nil {
				t.Fatal(err)
			}
			st, err := c.GetEvents(t.Context(), req)
			if err == nil {
				_, err = st.Recv()
			}
			if status.Code(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s with %q", err, tt.code, tt.want)
			}
		})
	}
	if got := a.balance(t, "grpc").Seen; got != 0 {
		t.Error("a refused stream was subscribed")
	}
}

func TestGetEvents_slowClientLosesItsOwnOnly(t *testing.T) {
	a := start(t, server.Options{Queue: 1000})
	slow := a.stream(t.Context(), t, &tetragon.GetEventsRequest{})
	fast := a.stream(t.Context(), t, &tetragon.GetEventsRequest{})
	const batches, batch = 200, 100
	name := strings.Repeat("x", 1000)
	evs := execs(make([]string, batch)...)
	for i := range batches {
		for j := range evs {
			evs[j].Process.Binary = fmt.Sprint(name, i*batch+j)
		}
		a.set.Batch(evs)
		for j := range evs { // the slow one reads nothing meanwhile
			if got := next(t, fast); got != evs[j].Process.Binary {
				t.Fatalf("fast client got event %s, want %s", got[len(name):], evs[j].Process.Binary[len(name):])
			}
		}
	}
	all := a.balance(t, "grpc")
	var lost uint64
	for _, d := range all.Dropped {
		if d.Reason == "queue_full" {
			lost = d.Count
		}
	}
	if lost == 0 || lost >= batches*batch {
		t.Fatalf("slow client lost %d of %d", lost, batches*batch)
	}
	if got := a.lane.Overflowed.Load(); got != lost {
		t.Errorf("metric says %d, ledger %d", got, lost)
	}
	for range batches*batch - lost {
		next(t, slow)
	}
	a.set.Batch(execs("after"))
	if got := next(t, slow); got != "after" {
		t.Errorf("slow client got %q behind what it did not lose", got)
	}
	until(t, "all is counted", func() bool { return a.balance(t, "grpc").Pending == 0 })
}

func TestGetEvents_clientsThatVanish(t *testing.T) {
	a := start(t, server.Options{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			conn, err := grpc.NewClient("unix://"+a.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Error(err)
			}
			st, err := tetragon.NewFineGuidanceSensorsClient(conn).GetEvents(ctx, &tetragon.GetEventsRequest{})
			if err == nil && i%3 > 0 {
				_, err = st.Header()
			}
			if err == nil && i%3 > 1 {
				_, err = st.Recv()
			}
			if err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				cancel()
			}
			_ = conn.Close()
			cancel()
		})
	}
	gone := make(chan struct{})
	go func() { wg.Wait(); close(gone) }()
	for waiting := true; waiting; runtime.Gosched() {
		select {
		case <-gone:
			waiting = false
		default:
			a.set.Batch(execs("a", "b"))
		}
	}
	until(t, "the streams are gone", func() bool { return len(a.ledger.Read()) == 1 })
	if got := a.balance(t, "grpc"); got.Pending != 0 {
		t.Errorf("balance %v", got)
	}
	st := a.stream(t.Context(), t, &tetragon.GetEventsRequest{})
	a.set.Batch(execs("still here"))
	if got := next(t, st); got != "still here" {
		t.Errorf("got %q", got)
	}
}

func TestGetEvents_limitedStreams(t *testing.T) {
	a := start(t, server.Options{MaxStreams: 1})
	ctx, cancel := context.WithCancel(t.Context())
	a.stream(ctx, t, &tetragon.GetEventsRequest{})
	second := func() error {
		st, err := a.client(t).GetEvents(t.Context(), &tetragon.GetEventsRequest{})
		if err == nil {
			_, err = st.Recv()
		}
		return err
	}
	if err := second(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("second stream: %v", err)
	}
	cancel()
	until(t, "the first is gone", func() bool { return len(a.ledger.Read()) == 1 })
	a.stream(t.Context(), t, &tetragon.GetEventsRequest{})
}

func TestStop_endsStreams(t *testing.T) {
	tests := []struct {
		name string
		stop func(a *agent)
	}{
		{"server", func(a *agent) { a.Stop() }},
		{"sinks", func(a *agent) { _ = a.set.Close(context.Background()) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := start(t, server.Options{})
			st := a.stream(t.Context(), t, &tetragon.GetEventsRequest{})
			tt.stop(a)
			_, err := st.Recv()
			if status.Code(err) != codes.Unavailable {
				t.Errorf("stream ends with %v", err)
			}
			a.Stop()
			if _, err := os.Lstat(a.socket); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("socket after stop: %v", err)
			}
		})
	}
}

func TestStop_stuckClient(t *testing.T) {
	a := start(t, server.Options{})
	a.stream(t.Context(), t, &tetragon.GetEventsRequest{}) // reads nothing
	evs := execs(strings.Repeat("x", 100_000))
	for range 50 {
		a.set.Batch(evs)
	}
	a.Stop()
	until(t, "all is counted", func() bool { return a.balance(t, "grpc").Pending == 0 })
}

func TestGetHealth(t *testing.T) {
	a := start(t, server.Options{Notes: func() []string { return []string{"no kprobes"} }})
	st := a.ledger.Stage("ring", "full")
	st.Seen(5)
	st.Deliver(3)
	st.Drop(0, 1)
	got, err := a.client(t).GetHealth(t.Context(), &tetragon.GetHealthStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &tetragon.GetHealthStatusResponse{
		HealthStatus: []*tetragon.HealthStatus{{Event: 1, Status: 1, Details: "running"}},
		Balance: []*tetragon.StageBalance{
			got.GetBalance()[0],
			{Stage: "ring", Seen: 5, Delivered: 3, Pending: 1, Dropped: []*tetragon.StageDrop{{Reason: "full", Count: 1}}},
		},
		Notes: []string{"no kprobes"},
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

func TestGetVersion_andInfo(t *testing.T) {
	a := start(t, server.Options{Version: "v1.2", Info: func() server.Info {
		return server.Info{
			Name: "tetragon", Probes: []server.Probe{{"kprobe_multi", false}, {"lsm", true}},
			Conf: []server.Setting{
				{"s", "a\xff"}, {"b", true}, {"i", 5}, {"u", uint16(7)}, {"l", []string{"x", "y"}}, {"d", 15 * time.Second},
				{"m", fs.FileMode(0o600)},
			},
			Build: server.Build{GoVersion: "go1", Commit: "c", Time: "t", Modified: "true"},
		}
	}})
	c := a.client(t)
	v, err := c.GetVersion(t.Context(), &tetragon.GetVersionRequest{})
	if err != nil || v.GetVersion() != "v1.2" {
		t.Errorf("version %v, %v", v, err)
	}
	got, err := c.GetInfo(t.Context(), &tetragon.GetInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := new(tetragon.GetInfoResponse)
	if err := protojson.Unmarshal([]byte(`{"version":"v1.2","name":"tetragon",
		"probes":[{"Name":"kprobe_multi","Enabled":false},{"Name":"lsm","Enabled":true}],
		"conf":[
			{"key":"s","value":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"a\ufffd"}},
			{"key":"b","value":{"@type":"type.googleapis.com/google.protobuf.BoolValue","value":true}},
			{"key":"i","value":{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"5"}},
			{"key":"u","value":{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"7"}},
			{"key":"l","value":{"@type":"type.googleapis.com/google.protobuf.ListValue","value":["x","y"]}},
			{"key":"d","value":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"15s"}},
			{"key":"m","value":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"-rw-------"}}],
		"build":{"go_version":"go1","commit":"c","time":"t","modified":"true"}}`), want); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

func TestDebug(t *testing.T) {
	process, err := proto.Marshal(&tetragon.Process{Pid: wrapperspb.UInt32(7), Binary: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	var wanted server.ProcessesWanted
	level := new(slog.LevelVar)
	a := start(t, server.Options{Level: level, Processes: func(_ context.Context, w server.ProcessesWanted) ([]server.Process, error) {
		wanted = w
		return []server.Process{{Alive: true, Refs: 3, Encoded: process}, {Refs: 1}, {}}, nil
	}})
	c := a.client(t)
	for _, l := range []tetragon.LogLevel{tetragon.LogLevel_LOG_LEVEL_TRACE, tetragon.LogLevel_LOG_LEVEL_DEBUG, tetragon.LogLevel_LOG_LEVEL_ERROR, tetragon.LogLevel_LOG_LEVEL_INFO} {
		if _, err := c.SetDebug(t.Context(), &tetragon.SetDebugRequest{Arg: &tetragon.SetDebugRequest_Level{Level: l}}); err != nil {
			t.Fatal(err)
		}
		got, err := c.GetDebug(t.Context(), &tetragon.GetDebugRequest{})
		if err != nil || got.GetLevel() != l {
			t.Errorf("level %v, %v, want %v", got, err, l)
		}
	}
	for name, req := range map[string]*tetragon.SetDebugRequest{
		"level: 99 is not known":  {Arg: &tetragon.SetDebugRequest_Level{Level: 99}},
		"level: not given":        {},
		"flag: CONFIG_FLAG_DUMP_": {Flag: tetragon.ConfigFlag_CONFIG_FLAG_DUMP_PROCESS_CACHE},
	} {
		if _, err := c.SetDebug(t.Context(), req); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v, want %q", req, err, name)
		}
	}
	if level.Level() != slog.LevelInfo {
		t.Errorf("a refused change left level %v", level.Level())
	}
	if _, err := c.GetDebug(t.Context(), &tetragon.GetDebugRequest{Flag: 9}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("unknown flag: %v", err)
	}
	got, err := c.GetDebug(t.Context(), &tetragon.GetDebugRequest{
		Flag: tetragon.ConfigFlag_CONFIG_FLAG_DUMP_PROCESS_CACHE,
		Arg:  &tetragon.GetDebugRequest_Dump{Dump: &tetragon.DumpProcessCacheReqArgs{SkipZeroRefcnt: true}},
	})
	if err != nil || wanted != (server.ProcessesWanted{ReferredTo: true}) {
		t.Fatalf("asked for %+v: %v", wanted, err)
	}
	var said []string
	for _, p := range got.GetProcesses().GetProcesses() {
		said = append(said, fmt.Sprint(p.GetProcess().GetPid().GetValue(), " ", p.GetColor(), " ", p.GetRefcnt().GetValue()))
	}
	if d := cmp.Diff([]string{"0 deletePending 1", "0 deleteReady 0", "7 inUse 3"}, said); d != "" {
		t.Error(d)
	}
}

// TestGetEvents_tellsWhatWasMissed: at its end, a stream says how many events its client was too slow for.
func TestGetEvents_tellsWhatWasMissed(t *testing.T) {
	a := start(t, server.Options{Queue: 1})
	st := a.stream(t.Context(), t, &tetragon.GetEventsRequest{FieldFilters: []*tetragon.FieldFilter{{}}})
	if head, err := st.Header(); err != nil || len(head.Get(server.WarningKey)) != 1 {
		t.Errorf("header %v, %v: want a warning about the filter without fields", head, err)
	}
	a.set.Batch(execs("a", "b", "c"))
	_ = a.set.Close(t.Context())
	if got := next(t, st); got != "a" {
		t.Errorf("got %q", got)
	}
	if _, err := st.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("end: %v", err)
	}
	if tr := st.Trailer(); fmt.Sprint(tr.Get(server.SeenKey), tr.Get(server.DroppedKey)) != "[3] [2]" {
		t.Errorf("trailer %v", tr)
	}
}

// Every method that does nothing says so in words of its own.
func TestUnimplemented(t *testing.T) {
	done := map[string]bool{
		"GetEvents": true, "GetHealth": true, "GetVersion": true, "GetInfo": true, "GetDebug": true, "SetDebug": true,
	}
	a := start(t, server.Options{})
	conn := dial(t, "unix://"+a.socket)
	for _, m := range tetragon.FineGuidanceSensors_ServiceDesc.Methods {
		if done[m.MethodName] {
			continue
		}
		err := conn.Invoke(t.Context(), "/tetragon.FineGuidanceSensors/"+m.MethodName, &tetragon.GetVersionRequest{}, &tetragon.GetVersionResponse{})
		text := status.Convert(err).Message()
		if status.Code(err) != codes.Unimplemented || !strings.HasPrefix(text, m.MethodName) || strings.Contains(text, "method") {
			t.Errorf("%s: %v", m.MethodName, err)
		}
	}
	for _, m := range []string{"ListSensors", "EnableSensor", "DisableSensor", "RemoveSensor"} {
		err := conn.Invoke(t.Context(), "/tetragon.FineGuidanceSensors/"+m, &tetragon.GetVersionRequest{}, &tetragon.GetVersionResponse{})
		if got := status.Convert(err).Message(); got != m+" is deprecated" {
			t.Errorf("%s: %q", m, got)
		}
	}
}

// params is a JSON export without a file.
type params struct{ export.FileParams }

func (p *params) Params() export.FileParams { return p.FileParams }

func (p *params) SetParams(n export.FileParams) error {
	if n.MaxSizeMB < 0 {
		return errors.New("negative")
	}
	p.FileParams = n
	return nil
}

func TestEventLog(t *testing.T) {
	p := &params{export.FileParams{MaxSizeMB: 10, MaxBackups: 5}}
	a := start(t, server.Options{EventLog: p})
	c := tetragon.NewEventLogServiceClient(dial(t, "unix://"+a.socket))
	get := func() *tetragon.GetEventLogParamsResponse {
		t.Helper()
		m, err := c.GetEventLogParams(t.Context(), &tetragon.GetEventLogParamsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	want := &tetragon.GetEventLogParamsResponse{MaxSize: 10, RotationInterval: "0s", MaxBackups: 5}
	if d := cmp.Diff(want, get(), protocmp.Transform()); d != "" {
		t.Error(d)
	}
	for _, bad := range []*tetragon.SetEventLogParamsRequest{
		{MaxBackups: new(int32(1)), RotationInterval: new("soon")}, {MaxBackups: new(int32(1)), MaxSize: new(int32(-1))},
	} {
		if _, err := c.SetEventLogParams(t.Context(), bad); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if d := cmp.Diff(want, get(), protocmp.Transform()); d != "" {
		t.Errorf("after refused changes: %s", d)
	}
	if _, err := c.SetEventLogParams(t.Context(), &tetragon.SetEventLogParamsRequest{RotationInterval: new("90m")}); err != nil {
		t.Fatal(err)
	}
	p.MaxSizeMB = math.MaxInt
	want.RotationInterval, want.MaxSize = "1h30m0s", math.MaxInt32
	if d := cmp.Diff(want, get(), protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

func TestEventLog_withoutExport(t *testing.T) {
	a := start(t, server.Options{})
	c := tetragon.NewEventLogServiceClient(dial(t, "unix://"+a.socket))
	_, err := c.GetEventLogParams(t.Context(), &tetragon.GetEventLogParamsRequest{})
	_, err2 := c.SetEventLogParams(t.Context(), &tetragon.SetEventLogParamsRequest{})
	for _, err := range []error{err, err2} {
		if status.Code(err) != codes.Unknown || status.Convert(err).Message() != "no log params setters available" {
			t.Errorf("error %v", err)
		}
	}
}

func TestListen_unix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "t.sock")
	open := func() net.Listener {
		t.Helper()
		ls, err := server.Listen([]server.Address{{Network: "unix", Address: path}}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		return ls[0]
	}
	old := syscall.Umask(0)
	first := open()
	syscall.Umask(old)
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %s", st.Mode())
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if got := server.Target(first); got != "unix://"+path {
		t.Errorf("target %s", got)
	}
	if _, err := server.Listen([]server.Address{{Network: "unix", Address: path}}, quiet()); !errors.Is(err, server.ErrOccupied) {
		t.Errorf("second agent: %v", err)
	}
	// An agent that was killed leaves its socket.
	if err := os.Rename(path, path+".kept"); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".kept", path); err != nil {
		t.Fatal(err)
	}
	second := open()
	if conn, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
	// What somebody else put in its place stays.
	if err := errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600), second.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	third, err := server.Listen([]server.Address{{Network: "unix", Address: path}}, quiet())
	if err == nil || !strings.Contains(err.Error(), "something else than a socket") {
		t.Errorf("a file in its place: %v, %v", third, err)
	}
}

func TestListen_refuses(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close() //nolint:errcheck // a test
	tests := []struct {
		name, network, address, want string
	}{
		{"relative", "unix", "t.sock", "must be absolute"},
		{"long", "unix", "/" + strings.Repeat("x", 107), "the path has 108 bytes"},
		{"long directory", "unix", "/tmp/" + strings.Repeat("x", 98) + "/s", "too long for a socket"},
		{"no TLS", "tcp", "localhost:0", "TCP needs server-tls-cert-file"},
		{"all interfaces without TLS", "tcp", ":0", "TCP needs server-tls-cert-file"},
		{"no port", "tcp", "localhost", "missing port"},
		{"taken port", "tcp", busy.Addr().String(), "occupied by another process"},
		{"other network", "udp", "localhost:0", "neither unix nor tcp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			good := filepath.Join(t.TempDir(), "good")
			_, err := server.Listen([]server.Address{{Network: "unix", Address: good}, {Network: tt.network, Address: tt.address, Insecure: strings.Contains(tt.name, "taken")}}, quiet())
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.address) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if _, err := os.Lstat(good); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the other socket stays: %v", err)
			}
		})
	}
}

func TestListen_loopback(t *testing.T) {
	a := start(t, server.Options{Version: "v1"})
	var log strings.Builder
	ls, err := server.Listen([]server.Address{{Network: "tcp", Address: "localhost:0", Insecure: true}}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	a.Serve(ls[0])
	if !strings.Contains(log.String(), "no TLS") {
		t.Errorf("no warning: %s", log.String())
	}
	c := tetragon.NewFineGuidanceSensorsClient(dial(t, server.Target(ls[0])))
	if _, err := c.GetVersion(t.Context(), &tetragon.GetVersionRequest{}); err != nil {
		t.Error(err)
	}
}

func TestHealth(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := server.NewHealth(l)
	c := healthpb.NewHealthClient(dial(t, l.Addr().String()))
	check := func() healthpb.HealthCheckResponse_ServingStatus {
		t.Helper()
		r, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "liveness"})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetStatus()
	}
	if got := check(); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("status %s", got)
	}
	h.Shutdown()
	if got := check(); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("status at shutdown %s", got)
	}
	h.Stop()
}
