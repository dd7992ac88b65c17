// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tetragon/api/v1/tetragon"
)

func (a *app) loglevelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "loglevel", Aliases: []string{"log"}, Short: "Tell or change what the agent logs",
		Args: knownCommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "get", Short: "Tell the least important level that is logged", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.unary(cmd.Context(), func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
				res, err := c.GetDebug(ctx, &tetragon.GetDebugRequest{})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Current log level: %s\n", res.GetLevel())
				return err
			})
		},
	}, &cobra.Command{
		Use: "set LEVEL", Short: "Change it, until the agent is restarted or reads its configuration again",
		Args: exactArg("a level, such as debug"), ValidArgs: levelNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			level, err := parseLevel(args[0])
			if err != nil {
				return err
			}
			return a.unary(cmd.Context(), func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
				res, err := c.SetDebug(ctx, &tetragon.SetDebugRequest{Arg: &tetragon.SetDebugRequest_Level{Level: level}})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Log level set to: %s\n", res.GetLevel())
				return err
			})
		},
	})
	return cmd
}

var levelNames = []string{"trace", "debug", "info", "warn", "error", "fatal", "panic"}

func parseLevel(name string) (tetragon.LogLevel, error) {
	if name == "warning" {
		name = "warn"
	}
	if !slices.Contains(levelNames, name) {
		return 0, fmt.Errorf("set the log level: %q is none of %s", name, strings.Join(levelNames, ", "))
	}
	return tetragon.LogLevel(tetragon.LogLevel_value["LOG_LEVEL_"+strings.ToUpper(name)]), nil
}

// exactArg wants one argument, and says what it is.
func exactArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return hint(fmt.Errorf("%s: %d arguments instead of one", cmd.CommandPath(), len(args)), "give %s", what)
	}
}

func (a *app) infoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "info", Short: "Print what the agent was built from and how it is configured, as JSON", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.unary(cmd.Context(), func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
				res, err := c.GetInfo(ctx, &tetragon.GetInfoRequest{})
				if err != nil {
					return err
				}
				text, err := infoJSON(res, false)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", text)
				return err
			})
		},
	}
}

// secretKeys are configuration whose values may hold secrets: patterns that were written for them, and what finds them.
var secretKeys = []string{"redaction-filters", "export-allowlist", "export-denylist"}

// infoJSON is the agent's description of itself. Without secrets, values that may hold some are replaced.
func infoJSON(m *tetragon.GetInfoResponse, withoutSecrets bool) ([]byte, error) {
	info := struct {
		Name, Version string
		Probes        map[string]bool
		Conf          map[string]any
		Build         struct{ GoVersion, Commit, Time, Modified string }
	}{Name: m.GetName(), Version: m.GetVersion(), Probes: map[string]bool{}, Conf: map[string]any{}}
	for _, p := range m.GetProbes() {
		info.Probes[p.GetName()] = p.GetEnabled().GetValue()
	}
	for _, c := range m.GetConf() {
		v, err := c.GetValue().UnmarshalNew()
		if err != nil {
			return nil, fmt.Errorf("read the value of %s: %w", c.GetKey(), err)
		}
		var value any
		switch v := v.(type) {
		case *wrapperspb.StringValue:
			value = v.GetValue()
		case *wrapperspb.BoolValue:
			value = v.GetValue()
		case *wrapperspb.Int64Value:
			value = v.GetValue()
		case *structpb.ListValue:
			value = v.AsSlice()
		}
		if withoutSecrets && slices.Contains(secretKeys, c.GetKey()) && value != "" {
			value = "(left out)"
		}
		info.Conf[c.GetKey()] = value
	}
	b := m.GetBuild()
	info.Build.GoVersion, info.Build.Commit, info.Build.Time, info.Build.Modified = b.GetGoVersion(), b.GetCommit(), b.GetTime(), b.GetModified()
	return json.Marshal(info)
}

func (a *app) eventlogCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "eventlog", Short: "Tell or change how the agent's export file is rotated",
		Args: knownCommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	get := &cobra.Command{
		Use: "get", Short: "Tell how the file is rotated", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.eventlog(cmd, func(ctx context.Context, c tetragon.EventLogServiceClient) error {
				res, err := c.GetEventLogParams(ctx, &tetragon.GetEventLogParamsRequest{})
				if err != nil {
					return err
				}
				// The library strews blanks that differ from build to build.
				text := strings.Join(strings.Fields(prototext.MarshalOptions{}.Format(res)), " ")
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Current logging parameters: %s\n", text)
				return err
			})
		},
	}
	var size, backups int32
	var interval time.Duration
	set := &cobra.Command{
		Use: "set", Short: "Change what is given, until the agent is restarted", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req := &tetragon.SetEventLogParamsRequest{}
			if cmd.Flags().Changed("max-size") {
				req.MaxSize = &size
			}
			if cmd.Flags().Changed("max-backups") {
				req.MaxBackups = &backups
			}
			if cmd.Flags().Changed("rotation-interval") {
				text := interval.String()
				req.RotationInterval = &text
			}
			if req.MaxSize == nil && req.MaxBackups == nil && req.RotationInterval == nil {
				return hint(fmt.Errorf("%s: nothing to change", cmd.CommandPath()), "give --max-size, --max-backups or --rotation-interval")
			}
			return a.eventlog(cmd, func(ctx context.Context, c tetragon.EventLogServiceClient) error {
				_, err := c.SetEventLogParams(ctx, req)
				return err
			})
		},
	}
	set.Flags().Int32Var(&size, "max-size", 0, "size in MiB above which the file is rotated")
	set.Flags().Int32Var(&backups, "max-backups", 0, "rotated files to keep; 0 keeps all")
	set.Flags().DurationVar(&interval, "rotation-interval", 0, "period on which the file is rotated as well; 0: never")
	cmd.AddCommand(get, set)
	return cmd
}

func (a *app) eventlog(cmd *cobra.Command, do func(context.Context, tetragon.EventLogServiceClient) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	return a.callConn(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		return do(ctx, tetragon.NewEventLogServiceClient(conn))
	})
}

// dumpCommand is "dump", which upstream has below "debug".
func (a *app) dumpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dump", Short: "Print what the agent knows: processes, policies",
		Args: knownCommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	args := &tetragon.DumpProcessCacheReqArgs{}
	processes := &cobra.Command{
		Use: "processes", Aliases: []string{"processcache", "processCache"}, Short: "Print the process table, one process as JSON on each line",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.unary(cmd.Context(), func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
				list, err := dumpProcesses(ctx, c, args)
				if err != nil {
					return err
				}
				for _, p := range list {
					line, err := messageLine(p)
					if err != nil {
						return err
					}
					if _, err := cmd.OutOrStdout().Write(line); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f := processes.Flags()
	f.BoolVar(&args.SkipZeroRefcnt, "skip-zero-refcnt", false, "leave out processes that nothing refers to any more")
	f.BoolVar(&args.ExcludeExecveMapProcesses, "exclude-execve-map-processes", false, "leave out processes that live")
	policies := &cobra.Command{
		Use: "policies", Short: "Print all policies with their hooks and counters, as JSON", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.unary(cmd.Context(), func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
				res, err := c.ListTracingPolicies(ctx, &tetragon.ListTracingPoliciesRequest{})
				if err != nil {
					return err
				}
				line, err := messageLine(res)
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(line)
				return err
			})
		},
	}
	cmd.AddCommand(processes, policies)
	return cmd
}

func dumpProcesses(ctx context.Context, c tetragon.FineGuidanceSensorsClient, args *tetragon.DumpProcessCacheReqArgs) ([]*tetragon.ProcessInternal, error) {
	res, err := c.GetDebug(ctx, &tetragon.GetDebugRequest{
		Flag: tetragon.ConfigFlag_CONFIG_FLAG_DUMP_PROCESS_CACHE, Arg: &tetragon.GetDebugRequest_Dump{Dump: args},
	})
	return res.GetProcesses().GetProcesses(), err
}

// debugCommand holds what upstream has below it, for scripts that were written for that.
func (a *app) debugCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "debug", Hidden: true, Short: "What upstream has below this name",
		Args: knownCommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.dumpCommand(), a.debugMaps(), a.debugProgs(), a.debugEnableStats())
	return cmd
}
