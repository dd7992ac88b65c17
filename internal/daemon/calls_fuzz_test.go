// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event/export"
	"tetragon/internal/kernel"
	"tetragon/internal/metrics"
	"tetragon/internal/policy/plan"
	"tetragon/internal/server"
)

// fussySensors notes what is loaded, and refuses the next change when it is told to.
type fussySensors struct {
	noSensors
	loaded map[uint32]bool
	refuse bool
}

func (f *fussySensors) do(change func()) error {
	if f.refuse {
		f.refuse = false
		return errors.New("the kernel does not want to")
	}
	change()
	return nil
}

func (f *fussySensors) Add(*plan.Plan) (uint32, error) {
	f.ids++
	return f.ids, f.do(func() { f.loaded[f.ids] = true })
}
func (f *fussySensors) Replace(uint32, *plan.Plan) error { return f.do(func() {}) }
func (f *fussySensors) SetMode(uint32, bool) error       { return f.do(func() {}) }
func (f *fussySensors) Enable(uint32) error              { return f.do(func() {}) }
func (f *fussySensors) Disable(uint32) error             { return f.do(func() {}) }
func (f *fussySensors) Remove(id uint32) error           { return f.do(func() { delete(f.loaded, id) }) }

// policyCalls are the calls that change policies, in the numbers by which FuzzPolicyCalls names them.
var policyCalls = []struct {
	method string
	req    func() proto.Message
	res    func() proto.Message
}{
	{tetragon.FineGuidanceSensors_AddTracingPolicy_FullMethodName, func() proto.Message { return new(tetragon.AddTracingPolicyRequest) }, func() proto.Message { return new(tetragon.AddTracingPolicyResponse) }},
	{tetragon.FineGuidanceSensors_DeleteTracingPolicy_FullMethodName, func() proto.Message { return new(tetragon.DeleteTracingPolicyRequest) }, func() proto.Message { return new(tetragon.DeleteTracingPolicyResponse) }},
	{tetragon.FineGuidanceSensors_ConfigureTracingPolicy_FullMethodName, func() proto.Message { return new(tetragon.ConfigureTracingPolicyRequest) }, func() proto.Message { return new(tetragon.ConfigureTracingPolicyResponse) }},
	{tetragon.FineGuidanceSensors_EnableTracingPolicy_FullMethodName, func() proto.Message { return new(tetragon.EnableTracingPolicyRequest) }, func() proto.Message { return new(tetragon.EnableTracingPolicyResponse) }},
	{tetragon.FineGuidanceSensors_DisableTracingPolicy_FullMethodName, func() proto.Message { return new(tetragon.DisableTracingPolicyRequest) }, func() proto.Message { return new(tetragon.DisableTracingPolicyResponse) }},
}

// script writes calls as FuzzPolicyCalls reads them: the number of the call, twice the length of its message and whether the
// kernel refuses, and the message.
func script(calls ...proto.Message) []byte {
	var b []byte
	for _, m := range calls {
		i := slices.IndexFunc(policyCalls, func(c struct {
			method   string
			req, res func() proto.Message
		}) bool {
			return c.req().ProtoReflect().Descriptor() == m.ProtoReflect().Descriptor()
		})
		text, err := proto.Marshal(m)
		if err != nil {
			panic(err)
		}
		b = append(b, byte(i))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(text)<<1))
		b = append(b, text...)
	}
	return b
}

// FuzzPolicyCalls takes any calls that change policies, with any messages, over the wire, through parser, compiler and
// registry: each has its answer, and one that fails leaves what is loaded as it was.
func FuzzPolicyCalls(f *testing.F) {
	const yaml = "apiVersion: cilium.io/v1alpha1\nkind: TracingPolicy\nmetadata: {name: p}\nspec:\n  tracepoints:\n" +
		"  - {subsystem: sched, event: sched_process_exec, raw: true, args: [{index: 2, type: linux_binprm}]}\n"
	monitor := tetragon.TracingPolicyMode_TP_MODE_MONITOR
	add := &tetragon.AddTracingPolicyRequest{Yaml: yaml, File: "p.yaml"}
	for _, calls := range [][]proto.Message{
		{add, &tetragon.ConfigureTracingPolicyRequest{Name: "p", Enable: new(false), Mode: &monitor}, &tetragon.DeleteTracingPolicyRequest{Name: "p"}},
		{add, add, &tetragon.AddTracingPolicyRequest{Yaml: yaml, Replace: true, Mode: monitor}},
		{&tetragon.AddTracingPolicyRequest{Yaml: yaml, Domain: "d", Variables: map[string]string{"A": "b"}}, &tetragon.DisableTracingPolicyRequest{Name: "p", Domain: "d"}, &tetragon.EnableTracingPolicyRequest{Name: "p", Domain: "d"}},
		{&tetragon.AddTracingPolicyRequest{Yaml: strings.Replace(yaml, "sched_process_exec", "nothing", 1)}, &tetragon.ConfigureTracingPolicyRequest{}},
	} {
		f.Add(script(calls...))
		refused := script(calls...)
		refused[1] |= 1
		f.Add(refused)
	}
	keeper := &factsKeeper{}
	facts, err := kernel.Read(kernel.Options{})
	if err != nil {
		f.Skip("needs the kernel's types: ", err)
	}
	quiet := slog.New(slog.DiscardHandler)
	socket := filepath.Join(f.TempDir(), "s")
	f.Fuzz(func(t *testing.T, calls []byte) {
		keeper.facts = facts // for as long as we like
		sensors := &fussySensors{loaded: map[uint32]bool{}}
		reg, err := policyLane(loadConfig(t), sensors, keeper, func(bool) error { return nil }, quiet)
		if err != nil {
			t.Fatal(err)
		}
		set := export.NewSet(export.Options{Ledger: metrics.NewLedger()})
		s := server.New(server.Options{Events: set, Log: quiet, Policies: reg, DeprecatedPolicyRPC: true})
		ls, err := server.Listen([]server.Address{{Network: "unix", Address: socket}}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		s.Serve(ls[0])
		defer s.Stop()
		conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }() // before the server waits for it
		loaded := func() (out []string) {
			for _, p := range reg.List("") {
				if p.State.String() != "load_error" {
					out = append(out, fmt.Sprint(p.ID, p.Key, p.State, p.Mode, p.File, len(p.Hooks)))
				}
			}
			return out
		}
		for n := 0; len(calls) >= 3 && n < 20; n++ {
			call := policyCalls[int(calls[0])%len(policyCalls)]
			size := binary.LittleEndian.Uint16(calls[1:])
			sensors.refuse = size&1 != 0
			size = min(size>>1, uint16(len(calls)-3))
			req := call.req()
			broken := proto.Unmarshal(calls[3:3+size], req) != nil
			calls = calls[3+size:]
			if broken {
				continue
			}
			before := loaded()
			err := conn.Invoke(t.Context(), call.method, req, call.res())
			if code := status.Code(err); code == codes.Internal || code == codes.Unavailable || code == codes.Unimplemented {
				t.Fatalf("%s: %v", call.method, err)
			}
			if after := loaded(); err != nil && !slices.Equal(before, after) {
				t.Errorf("%s failed, and changed\n%v to\n%v: %v", call.method, before, after, err)
			}
			if len(loaded()) != len(sensors.loaded) {
				t.Errorf("after %s: %d policies, %d of them in the kernel: %v", call.method, len(loaded()), len(sensors.loaded), loaded())
			}
		}
	})
}
