// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event/export"
	"tetragon/internal/event/filter"
	"tetragon/internal/metrics"
)

// Events is where streams come from.
type Events interface {
	Subscribe(export.SubscribeOptions) (*export.Subscription, error)
}

// Balances is the account of the event lane.
type Balances interface{ Read() []metrics.Balance }

// EventLog is the JSON export whose rotation can be changed.
type EventLog interface {
	Params() export.FileParams
	SetParams(export.FileParams) error
}

// Options of a Server.
type Options struct {
	Version string
	Events  Events
	Filter  filter.Options  // what filters of clients may ask for; pid_set always may
	Queue   int             // events that wait for each stream; 0: as many as there is memory for
	Ledger  Balances        // nil: not told
	Notes   func() []string // what this kernel lacks; nil: nothing
	Info    func() Info     // nil: name and version only
	Log     *slog.Logger

	EventLog EventLog // nil: no JSON export

	Level     *slog.LevelVar                                            // of the log; nil: cannot be asked
	Processes func(context.Context, ProcessesWanted) ([]Process, error) // the process table; nil: cannot be asked

	Policies            Policies // nil: this agent runs none
	DeprecatedPolicyRPC bool     // answer EnableTracingPolicy and DisableTracingPolicy

	Calls *metrics.RPCs // counts calls; nil: nobody does

	MaxStreams int // event streams at a time; 0: 256
}

// Server is the gRPC services of the agent.
type Server struct {
	opts    Options
	grpc    *grpc.Server
	health  *health.Server
	stop    context.CancelFunc
	stopped context.Context
	streams atomic.Int64
	serving sync.WaitGroup
}

// New returns a server that does not serve yet.
func New(o Options) *Server {
	if o.MaxStreams <= 0 {
		o.MaxStreams = 256
	}
	s := &Server{opts: o, health: health.NewServer()}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(grpc.ForceServerCodecV2(newCodec()), grpc.Creds(newHandshakes()),
		grpc.ChainUnaryInterceptor(s.countUnary, s.refuse), grpc.ChainStreamInterceptor(s.countStream, guardStream))
	tetragon.RegisterFineGuidanceSensorsServer(s.grpc, sensors{server: s})
	tetragon.RegisterEventLogServiceServer(s.grpc, eventLog{log: o.EventLog})
	s.health.SetServingStatus(liveness, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s
}

// Serve answers on a listener, which it owns from here on, until Stop. It does not wait.
func (s *Server) Serve(l net.Listener) {
	s.serving.Go(func() {
		if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.opts.Log.Error("serve gRPC", "address", Target(l), "err", err)
		}
	})
}

// stopWait is how long calls may take to end by themselves.
const stopWait = 500 * time.Millisecond

// Stop ends all streams, closes the listeners and removes their sockets.
func (s *Server) Stop() {
	s.health.Shutdown()
	s.stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-time.After(stopWait):
		s.grpc.Stop()
		<-done
	}
	s.serving.Wait()
}

// sensors is the service FineGuidanceSensors. What it lacks is in refusals.
type sensors struct {
	tetragon.UnimplementedFineGuidanceSensorsServer
	server *Server
}

// GetEvents implements the RPC.
func (s sensors) GetEvents(req *tetragon.GetEventsRequest, stream grpc.ServerStreamingServer[tetragon.GetEventsResponse]) error {
	return s.server.events(req, stream)
}

func (s *Server) events(req *tetragon.GetEventsRequest, stream grpc.ServerStream) error {
	if err := checkAggregation(req.GetAggregationOptions()); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	o := s.opts.Filter
	o.PidSet = true
	match, err := filter.New(req.GetAllowList(), req.GetDenyList(), o)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	fields, err := filter.NewFields(req.GetFieldFilters())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if n := s.streams.Add(1); n > int64(s.opts.MaxStreams) {
		s.streams.Add(-1)
		return status.Errorf(codes.ResourceExhausted, "%d clients are reading events already", s.opts.MaxStreams)
	}
	defer s.streams.Add(-1)
	so := export.SubscribeOptions{Queue: s.opts.Queue, Filter: match}
	if fields != nil {
		so.Fields = fields
	}
	sub, err := s.opts.Events.Subscribe(so)
	if err != nil {
		return unavailable()
	}
	defer sub.Close()
	// What the client misses because it is slow is told at its end, with all that it could have had.
	defer func() { stream.SetTrailer(account(sub.Balance())) }()
	// The client may want to know from when on it misses nothing.
	if err := stream.SendHeader(metadata.MD{WarningKey: fields.Warnings()}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.stopped, cancel)()
	for {
		ev, err := sub.Next(ctx)
		switch {
		case err == nil:
			err = stream.SendMsg(encoded(ev))
		case errors.Is(err, export.ErrClosed), s.stopped.Err() != nil:
			err = unavailable()
		default:
			err = status.FromContextError(err).Err()
		}
		if err != nil {
			return err
		}
	}
}

// Keys of what a stream tells besides its events.
const (
	WarningKey = "tetragon-warning" // header: what in the request does not do what one may think, a sentence each
	SeenKey    = "tetragon-seen"    // trailer: how many events there were
	DroppedKey = "tetragon-dropped" // trailer: how many of them the client missed because it was slow
)

func account(b metrics.Balance) metadata.MD {
	var dropped uint64
	for _, d := range b.Dropped {
		if d.Reason == export.QueueFull {
			dropped += d.Count
		}
	}
	return metadata.Pairs(SeenKey, strconv.FormatUint(b.Seen, 10), DroppedKey, strconv.FormatUint(dropped, 10))
}

// checkAggregation refuses what makes no sense. There is no type of event that is aggregated, so nothing else is done.
func checkAggregation(o *tetragon.AggregationOptions) error {
	if w := o.GetWindowSize(); w != nil && (w.CheckValid() != nil || w.AsDuration() < 0) {
		return fmt.Errorf("aggregation_options: window_size: %v is not a time that can pass", w)
	}
	return nil
}

func unavailable() error { return status.Error(codes.Unavailable, "the agent is stopping") }

// GetHealth implements the RPC.
func (s sensors) GetHealth(context.Context, *tetragon.GetHealthStatusRequest) (*tetragon.GetHealthStatusResponse, error) {
	res := &tetragon.GetHealthStatusResponse{HealthStatus: []*tetragon.HealthStatus{{
		Event:   tetragon.HealthStatusType_HEALTH_STATUS_TYPE_STATUS,
		Status:  tetragon.HealthStatusResult_HEALTH_STATUS_RUNNING,
		Details: "running",
	}}}
	o := &s.server.opts
	if o.Ledger != nil {
		for _, b := range o.Ledger.Read() {
			m := &tetragon.StageBalance{Stage: b.Stage, Seen: b.Seen, Delivered: b.Delivered, Pending: b.Pending}
			for _, d := range b.Dropped {
				m.Dropped = append(m.Dropped, &tetragon.StageDrop{Reason: d.Reason, Count: d.Count})
			}
			res.Balance = append(res.Balance, m)
		}
	}
	if o.Notes != nil {
		res.Notes = o.Notes()
	}
	return res, nil
}

// GetVersion implements the RPC.
func (s sensors) GetVersion(context.Context, *tetragon.GetVersionRequest) (*tetragon.GetVersionResponse, error) {
	return &tetragon.GetVersionResponse{Version: s.server.opts.Version}, nil
}

// GetInfo implements the RPC.
func (s sensors) GetInfo(context.Context, *tetragon.GetInfoRequest) (*tetragon.GetInfoResponse, error) {
	var info Info
	if s.server.opts.Info != nil {
		info = s.server.opts.Info()
	}
	return info.proto(s.server.opts.Version)
}

// refuse answers what this agent does not do, with a sentence that says so.
func (s *Server) refuse(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := mayCall(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	if text := s.policyRefusal(info.FullMethod); text != "" {
		return nil, status.Error(codes.Unimplemented, text)
	}
	if text, ok := refusal(info.FullMethod); ok {
		return nil, status.Error(codes.Unimplemented, text)
	}
	return handler(ctx, req)
}

// Refusal says why no agent answers a call, by its full name; empty: agents do.
func Refusal(method string) string {
	text, _ := refusal(method)
	return text
}

func refusal(method string) (string, bool) {
	switch method {
	case tetragon.FineGuidanceSensors_ListSensors_FullMethodName:
		return "ListSensors is deprecated", true
	case tetragon.FineGuidanceSensors_EnableSensor_FullMethodName:
		return "EnableSensor is deprecated", true
	case tetragon.FineGuidanceSensors_DisableSensor_FullMethodName:
		return "DisableSensor is deprecated", true
	case tetragon.FineGuidanceSensors_RemoveSensor_FullMethodName:
		return "RemoveSensor is deprecated", true
	case tetragon.FineGuidanceSensors_RuntimeHook_FullMethodName:
		return "RuntimeHook: this agent does not follow container runtimes yet", true
	}
	return "", false
}

// eventLog is the service EventLogService.
type eventLog struct {
	tetragon.UnimplementedEventLogServiceServer
	log EventLog
}

// errNoLog is what existing clients know.
func errNoLog() error { return status.Error(codes.Unknown, "no log params setters available") }

// GetEventLogParams implements the RPC.
func (e eventLog) GetEventLogParams(context.Context, *tetragon.GetEventLogParamsRequest) (*tetragon.GetEventLogParamsResponse, error) {
	if e.log == nil {
		return nil, errNoLog()
	}
	p := e.log.Params()
	return &tetragon.GetEventLogParamsResponse{
		MaxSize:          int32(min(p.MaxSizeMB, math.MaxInt32)),
		RotationInterval: p.RotationInterval.String(),
		MaxBackups:       int32(min(p.MaxBackups, math.MaxInt32)),
	}, nil
}

// SetEventLogParams implements the RPC. Either all that is given changes, or nothing.
func (e eventLog) SetEventLogParams(_ context.Context, req *tetragon.SetEventLogParamsRequest) (*tetragon.SetEventLogParamsResponse, error) {
	if e.log == nil {
		return nil, errNoLog()
	}
	p := e.log.Params()
	if req.MaxSize != nil {
		p.MaxSizeMB = int(req.GetMaxSize())
	}
	if req.MaxBackups != nil {
		p.MaxBackups = int(req.GetMaxBackups())
	}
	if req.RotationInterval != nil {
		d, err := time.ParseDuration(req.GetRotationInterval())
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, fmt.Sprintf("rotation_interval: %v", err))
		}
		p.RotationInterval = d
	}
	if err := e.log.SetParams(p); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return &tetragon.SetEventLogParamsResponse{}, nil
}
