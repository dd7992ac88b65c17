// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that counter extends
	"google.golang.org/grpc/mem"

	"tetragon/api/v1/tetragon"
)

// What TestLoad does; unset: it does not run.
const (
	envLoad     = "SCENARIO_LOAD"      // events a second
	envLoadTime = "SCENARIO_LOAD_TIME" // for so many seconds
)

// flood is a policy that posts each call of lseek whose third argument is 4711.
const flood = `apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: flood}
spec:
  kprobes:
  - call: sys_lseek
    args: [{index: 0, type: int}, {index: 1, type: int64}, {index: 2, type: uint32}]
    selectors:
    - matchArgs: [{index: 2, operator: Equal, values: ["4711"]}]
`

// TestLoad holds the agent to what it is to carry: so many events a second, to a file and to two clients, and none lost.
// It tells what that costs, and what the agent costs without them.
func TestLoad(t *testing.T) {
	rate, _ := strconv.Atoi(os.Getenv(envLoad))
	seconds, _ := strconv.Atoi(os.Getenv(envLoadTime))
	if rate <= 0 || seconds <= 0 {
		t.Skipf("%s and %s are not set; run make load", envLoad, envLoadTime)
	}
	a, dir := startFlooded(t, "--export-file-max-size-mb=200", "--export-file-max-backups=2")
	defer removePins(dir)
	defer func() { _ = a.kill() }()

	idle := perSecond(t, a, time.Duration(seconds)*time.Second)
	fmt.Printf("idle: %.3f %% of a CPU (what the machine does beside is in it)\n", float64(idle)/1e7)

	var clients [2]*client
	for i := range clients {
		clients[i] = newClient(t, dir)
		defer clients[i].close()
	}
	before, begin := cpuTime(t, a), time.Now()
	runFlood(t, rate*seconds, rate)
	took := time.Since(begin)
	settle(t, a)
	cost := float64(cpuTime(t, a)-before) / float64(rate*seconds)
	fmt.Printf("%d events in %.1f s: %.0f a second; the agent: %.0f ns an event, %.0f %% of a CPU\n",
		rate*seconds, took.Seconds(), float64(rate*seconds)/took.Seconds(), cost, cost*float64(rate*seconds)/float64(took.Nanoseconds())*100)
	stopCounting(t, a)
	for i, c := range clients {
		<-c.ended
		fmt.Printf("client %d took %d events\n", i, c.n.Load())
		if c.n.Load() < int64(rate*seconds) {
			t.Errorf("client %d took %d of %d events", i, c.n.Load(), rate*seconds)
		}
	}
	fmt.Print(balanceText(a.balance))
	if err := checkBalance(a.balance, nil); err != nil {
		t.Error(err)
	}
}

// TestSoak runs rounds of processes and of a policy's events, with clients that come and go, and holds the heap to be as
// large after the last round as after the warm ones. The long form is SCENARIO_SOAK=200.
func TestSoak(t *testing.T) {
	if os.Getenv(envAgent) == "" || os.Getenv(envScripts) == "" {
		t.Skipf("%s is not set; run make hosttest", envAgent)
	}
	rounds := 12
	if n, err := strconv.Atoi(os.Getenv("SCENARIO_SOAK")); err == nil && n > rounds {
		rounds = n
	}
	// A process table that is full after some rounds, and calls that come no faster than a busy machine takes them.
	const calls, rate, processes, slack = 20_000, 20_000, 200, 1 << 20
	a, dir := startFlooded(t, "--pprof-address="+pprofAddress, "--process-cache-size=512")
	defer removePins(dir)
	defer func() { _ = a.kill() }()
	var heaps []int64
	for range rounds {
		c, slow := newClient(t, dir), newClient(t, dir)
		slow.stop() // takes nothing more, and goes away in the middle
		runFlood(t, calls, rate)
		slow.close()
		lives(t, processes)
		settle(t, a)
		c.close()
		heaps = append(heaps, heap(t))
	}
	fmt.Printf("heap after each round: %d\n", heaps)
	warm, last := heaps[rounds/3], heaps[rounds-1]
	for _, h := range heaps[rounds-3:] {
		last = min(last, h)
	}
	for _, h := range heaps[rounds/3 : rounds*2/3] {
		warm = max(warm, h)
	}
	if last > warm+slack {
		t.Errorf("the heap grows: %d bytes in the middle, %d at the end", warm, last)
	}
	stopCounting(t, a)
	// A client that stands still loses what it does not take.
	if err := checkBalance(a.balance, []string{"grpc/queue_full"}); err != nil {
		t.Error(err)
	}
}

// startFlooded starts an agent with the policy flood.
func startFlooded(t *testing.T, flags ...string) (*agent, string) {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "policies"), 0o755),
		os.WriteFile(filepath.Join(dir, "policies", "flood.yaml"), []byte(flood), 0o644)); err != nil {
		t.Fatal(err)
	}
	a, err := startAgent(agentOptions{dir: dir, log: filepath.Join(dir, "agent.log"), flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	return a, dir
}

// runFlood makes n calls that the policy posts, at a rate.
func runFlood(t *testing.T, n, rate int) {
	t.Helper()
	out, err := exec.Command(os.Getenv(envVictim), "syscall", "-n", strconv.Itoa(n), "-rate", strconv.Itoa(rate), "lseek", "-1", "1", "4711").CombinedOutput()
	if err != nil {
		t.Fatalf("make calls: %v: %s", err, out)
	}
}

// perSecond gives the time that the agent runs in a second of doing nothing.
func perSecond(t *testing.T, a *agent, d time.Duration) int64 {
	t.Helper()
	before, begin := cpuTime(t, a), time.Now()
	time.Sleep(d)
	return int64(float64(cpuTime(t, a)-before) / time.Since(begin).Seconds())
}

// stopCounting ends the agent and reads its account, not its export, which may be long.
func stopCounting(t *testing.T, a *agent) {
	t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-a.exited
	text, err := os.ReadFile(a.log)
	if err = errors.Join(err, a.err); err != nil {
		t.Fatal(err)
	}
	a.balance = parseBalance(string(text))
}

// client reads a stream as fast as it can and only counts: what clients do with events is not the agent's.
type client struct {
	n       atomic.Int64
	stopped atomic.Bool
	cancel  context.CancelFunc
	conn    *grpc.ClientConn
	ended   chan struct{}
}

// counter is a codec that leaves what arrives as it is.
type counter struct{ encoding.CodecV2 }

func (c counter) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ok := v.(*struct{}); ok {
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

func newClient(t *testing.T, dir string) *client {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(dir, socketName), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(4<<20), // as tetra does
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(counter{encoding.GetCodecV2("proto")})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{cancel: cancel, conn: conn, ended: make(chan struct{})}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, tetragon.FineGuidanceSensors_GetEvents_FullMethodName)
	if err == nil {
		err = errors.Join(stream.SendMsg(&tetragon.GetEventsRequest{}), stream.CloseSend())
	}
	if err == nil {
		_, err = stream.Header() // from now on it misses nothing
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		for !c.stopped.Load() {
			if err := stream.RecvMsg(new(struct{})); err != nil {
				return
			}
			c.n.Add(1)
		}
		<-ctx.Done()
	}()
	return c
}

func (c *client) stop() { c.stopped.Store(true) }

func (c *client) close() {
	c.cancel()
	_ = c.conn.Close()
	<-c.ended
}

// pprofAddress is where an agent under test tells of its heap.
const pprofAddress = "127.0.0.1:16061"

var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// heap gives the bytes of the agent's heap that are in use, after a collection.
func heap(t *testing.T) int64 {
	t.Helper()
	res, err := http.Get("http://" + pprofAddress + "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := heapAlloc.FindSubmatch(text)
	if m == nil {
		t.Fatalf("no heap size in %s", tail(string(text)))
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
