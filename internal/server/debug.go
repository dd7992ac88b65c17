// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tetragon/api/v1/tetragon"
)

// ProcessesWanted chooses processes of the table.
type ProcessesWanted struct {
	ReferredTo bool // only those that something refers to
	Ended      bool // only those of which the kernel half knows nothing any more
}

// Process is an entry of the process table.
type Process struct {
	Alive   bool
	Refs    uint32
	Encoded []byte // a Process message in wire format
}

// levels are the levels of the wire contract, by those of log/slog.
var levels = []struct {
	name  tetragon.LogLevel
	level slog.Level
}{
	{tetragon.LogLevel_LOG_LEVEL_TRACE, slog.LevelDebug - 4},
	{tetragon.LogLevel_LOG_LEVEL_DEBUG, slog.LevelDebug},
	{tetragon.LogLevel_LOG_LEVEL_INFO, slog.LevelInfo},
	{tetragon.LogLevel_LOG_LEVEL_WARN, slog.LevelWarn},
	{tetragon.LogLevel_LOG_LEVEL_ERROR, slog.LevelError},
	{tetragon.LogLevel_LOG_LEVEL_FATAL, slog.LevelError + 4},
	{tetragon.LogLevel_LOG_LEVEL_PANIC, slog.LevelError + 4},
}

// GetDebug implements the RPC.
func (s sensors) GetDebug(ctx context.Context, req *tetragon.GetDebugRequest) (*tetragon.GetDebugResponse, error) {
	o := &s.server.opts
	switch req.GetFlag() {
	case tetragon.ConfigFlag_CONFIG_FLAG_LOG_LEVEL:
		if o.Level == nil {
			return nil, status.Error(codes.Unimplemented, "this agent has no log level")
		}
		return &tetragon.GetDebugResponse{Arg: &tetragon.GetDebugResponse_Level{Level: levelName(o.Level.Level())}}, nil
	case tetragon.ConfigFlag_CONFIG_FLAG_DUMP_PROCESS_CACHE:
		if o.Processes == nil {
			return nil, status.Error(codes.Unimplemented, "this agent has no process table")
		}
		list, err := o.Processes(ctx, ProcessesWanted{
			ReferredTo: req.GetDump().GetSkipZeroRefcnt(), Ended: req.GetDump().GetExcludeExecveMapProcesses(),
		})
		if err != nil {
			if ctx.Err() != nil {
				return nil, status.FromContextError(ctx.Err()).Err()
			}
			return nil, status.Error(codes.Unavailable, err.Error())
		}
		return dump(list)
	}
	return nil, unknownFlag(req.GetFlag())
}

func unknownFlag(f tetragon.ConfigFlag) error {
	return status.Errorf(codes.InvalidArgument, "flag: %v is not known; see the ConfigFlag type", f)
}

func dump(list []Process) (*tetragon.GetDebugResponse, error) {
	all := &tetragon.DumpProcessCacheResArgs{}
	for i := range list {
		p := &tetragon.ProcessInternal{Process: new(tetragon.Process), Color: color(&list[i]), Refcnt: wrapperspb.UInt32(list[i].Refs)}
		if err := proto.Unmarshal(list[i].Encoded, p.Process); err != nil {
			return nil, fmt.Errorf("read the process table: %w", err)
		}
		all.Processes = append(all.Processes, p)
	}
	slices.SortStableFunc(all.Processes, func(a, b *tetragon.ProcessInternal) int {
		return int(int64(a.GetProcess().GetPid().GetValue()) - int64(b.GetProcess().GetPid().GetValue()))
	})
	return &tetragon.GetDebugResponse{
		Flag: tetragon.ConfigFlag_CONFIG_FLAG_DUMP_PROCESS_CACHE, Arg: &tetragon.GetDebugResponse_Processes{Processes: all},
	}, nil
}

// color is where an entry is in its life, in the words of the wire contract.
func color(p *Process) string {
	switch {
	case p.Alive:
		return "inUse"
	case p.Refs > 0:
		return "deletePending"
	}
	return "deleteReady"
}

// levelName is the least important level that is still logged.
func levelName(l slog.Level) tetragon.LogLevel {
	for _, x := range levels {
		if l <= x.level {
			return x.name
		}
	}
	return tetragon.LogLevel_LOG_LEVEL_PANIC
}

// SetDebug implements the RPC.
func (s sensors) SetDebug(_ context.Context, req *tetragon.SetDebugRequest) (*tetragon.SetDebugResponse, error) {
	o := &s.server.opts
	if req.GetFlag() != tetragon.ConfigFlag_CONFIG_FLAG_LOG_LEVEL {
		return nil, unknownFlag(req.GetFlag())
	}
	if o.Level == nil {
		return nil, status.Error(codes.Unimplemented, "this agent has no log level")
	}
	set, ok := req.GetArg().(*tetragon.SetDebugRequest_Level)
	if !ok {
		return nil, status.Error(codes.InvalidArgument, "level: not given")
	}
	for _, x := range levels {
		if x.name == set.Level {
			o.Level.Set(x.level)
			if o.Log != nil {
				o.Log.Info("the log level was changed", "level", x.level.String())
			}
			return &tetragon.SetDebugResponse{Arg: &tetragon.SetDebugResponse_Level{Level: x.name}}, nil
		}
	}
	return nil, status.Errorf(codes.InvalidArgument, "level: %v is not known; see the LogLevel type", set.Level)
}
