// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event/encode"
)

// geteventsFlags are the flags of the command.
type geteventsFlags struct {
	output      string
	color       string
	timestamps  bool
	stackTraces bool
	imaHash     bool
	ttyEncode   string

	namespaces     []string
	namespaceRegex []string
	processes      []string
	pods           []string
	containers     []string
	host           bool
	eventTypes     []string
	policyNames    []string
	cel            []string
	include        []string
	exclude        []string

	reconnect     bool
	reconnectWait time.Duration
}

func (a *app) geteventsCommand() *cobra.Command {
	f := &geteventsFlags{}
	cmd := &cobra.Command{
		Use:   "getevents",
		Short: "Print events as they happen",
		Long: `Prints the events of the agent as they happen, one on each line. All filters must match; of the values of one filter
any may. When standard input is a file or a pipe, events are read from there, as the agent exports them.`,
		Example: `  tetra getevents -o compact --process '^/tmp/'
  tetra getevents -e PROCESS_EXEC --host
  zcat tetragon.log.gz | tetra getevents -o compact --timestamps`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.getevents(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.output, "output", "o", "json", "json or compact")
	fl.StringVar(&f.color, "color", "auto", "colours of compact output: auto, always or never")
	fl.BoolVar(&f.timestamps, "timestamps", false, "compact: the event's time in front")
	fl.BoolVar(&f.stackTraces, "stack-traces", true, "compact: stacks below the line")
	fl.BoolVar(&f.imaHash, "ima-hash", true, "compact: hash of the file below the line of an LSM hook")
	fl.StringVarP(&f.ttyEncode, "tty-encode", "t", "", "write only what is written to this terminal, as it is")
	fl.StringSliceVarP(&f.namespaces, "namespace", "n", nil, "namespace of the pod")
	fl.StringSliceVar(&f.namespaceRegex, "namespace-regex", nil, "regular expression for the namespace of the pod")
	fl.StringSliceVar(&f.processes, "process", nil, "regular expression for the binary")
	fl.StringSliceVar(&f.pods, "pod", nil, "regular expression for the name of the pod")
	fl.StringSliceVar(&f.containers, "containers", nil, "regular expression for the name of the container")
	fl.BoolVar(&f.host, "host", false, "processes outside of pods")
	fl.StringArrayVarP(&f.eventTypes, "event-types", "e", nil, "type of event, such as PROCESS_EXEC; repeat for more")
	fl.StringSliceVar(&f.policyNames, "policy-names", nil, "name of the policy")
	fl.StringSliceVar(&f.cel, "cel-expression", nil, "expression in CEL; with a comma in it, in double quotes")
	fl.StringSliceVarP(&f.include, "include-fields", "f", nil, "fields to print, such as process.binary")
	fl.StringSliceVarP(&f.exclude, "exclude-fields", "F", nil, "fields not to print")
	fl.BoolVar(&f.reconnect, "reconnect", false, "connect again when the connection ends")
	fl.DurationVar(&f.reconnectWait, "reconnect-wait", 2*time.Second, "pause before that")
	_ = fl.MarkHidden("containers") // only fails for a flag that is not there
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name { // older spellings, kept for scripts
		case "namespaces":
			name = "namespace"
		case "processes":
			name = "process"
		case "pods":
			name = "pod"
		}
		return pflag.NormalizedName(name)
	})
	return cmd
}

// request turns the flags into what is sent to the agent: one filter, and one field filter for each direction.
func (f *geteventsFlags) request() (*tetragon.GetEventsRequest, error) {
	types, err := eventTypes(f.eventTypes)
	if err != nil {
		return nil, err
	}
	flt := &tetragon.Filter{
		BinaryRegex: f.processes, Namespace: f.namespaces, NamespaceRegex: f.namespaceRegex, PodRegex: f.pods,
		ContainerNameRegex: f.containers, EventSet: types, PolicyNames: f.policyNames, CelExpression: f.cel,
	}
	if f.host {
		flt.Namespace = append(flt.Namespace, "")
	}
	req := &tetragon.GetEventsRequest{}
	if len(f.processes)+len(flt.Namespace)+len(f.namespaceRegex)+len(f.pods)+len(f.containers)+len(types)+
		len(f.policyNames)+len(f.cel) > 0 {
		req.AllowList = []*tetragon.Filter{flt}
	}
	if len(f.include) > 0 {
		req.FieldFilters = append(req.FieldFilters, &tetragon.FieldFilter{
			Fields: &fieldmaskpb.FieldMask{Paths: f.include}, Action: tetragon.FieldFilterAction_INCLUDE})
	}
	if len(f.exclude) > 0 {
		req.FieldFilters = append(req.FieldFilters, &tetragon.FieldFilter{
			Fields: &fieldmaskpb.FieldMask{Paths: f.exclude}, Action: tetragon.FieldFilterAction_EXCLUDE})
	}
	return req, nil
}

func eventTypes(names []string) ([]tetragon.EventType, error) {
	var out []tetragon.EventType
	for _, name := range names {
		v, ok := tetragon.EventType_value[strings.ToUpper(name)]
		if !ok || v == 0 {
			var known []string
			for k, v := range tetragon.EventType_value {
				if v != 0 {
					known = append(known, k)
				}
			}
			sort.Strings(known)
			return nil, hint(fmt.Errorf("--event-types: unknown event type %q; allowed are %s", name,
				strings.Join(known, ", ")), "repeat the flag for more than one type")
		}
		out = append(out, tetragon.EventType(v))
	}
	return out, nil
}

// getevents prints events from the agent or from standard input until their end.
func (a *app) getevents(ctx context.Context, f *geteventsFlags) error {
	req, err := f.request()
	if err != nil {
		return err
	}
	write, err := a.eventWriter(f)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(a.opts.Out, 64<<10)
	if in, ok := a.eventsOnStdin(); ok {
		src, err := a.newLineSource(in, req)
		if err != nil {
			return err
		}
		if err := pump(ctx, src.next, write, out); err != nil {
			return err
		}
		src.close()
		return nil
	}
	for {
		err := a.stream(ctx, req, write, out)
		var broken *writeError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &broken):
			return err
		case !f.reconnect:
			return err
		}
		if err == nil {
			err = io.EOF
		}
		fmt.Fprintf(a.opts.Err, "getevents: err:%s retrying in %s\n", printable(err.Error()), f.reconnectWait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.reconnectWait):
		}
	}
}

// What the agent tells besides events: warnings about the request in the header, and in the trailer how many events this
// client was too slow for.
const (
	warningKey = "tetragon-warning"
	droppedKey = "tetragon-dropped"
)

// stream prints the events of one connection.
func (a *app) stream(ctx context.Context, req *tetragon.GetEventsRequest, write eventWriter, out *bufio.Writer) error {
	return a.call(ctx, func(ctx context.Context, c tetragon.FineGuidanceSensorsClient) error {
		ctx, cancel := context.WithCancel(ctx) // ends the stream when the output is gone
		defer cancel()
		s, err := c.GetEvents(ctx, req)
		if err != nil {
			return err
		}
		if head, err := s.Header(); err == nil {
			for _, w := range head.Get(warningKey) {
				a.warn(w)
			}
		}
		seen := false
		next := func() (*tetragon.GetEventsResponse, error) {
			ev, err := s.Recv()
			seen = seen || err == nil
			return ev, err
		}
		err = pump(ctx, next, write, out)
		if n := s.Trailer().Get(droppedKey); len(n) == 1 && n[0] != "0" {
			a.warn(n[0] + " events were dropped because they were not read fast enough")
		}
		switch code := status.Code(err); {
		case code == codes.Canceled:
			return nil // the agent stops, or we do
		case code == codes.Unavailable && seen:
			// Subscribing again would hide the gap; that is for --reconnect to ask for.
			return fmt.Errorf("stream ended: %s", status.Convert(err).Message())
		}
		return err
	})
}

// eventWriter adds an event to b as it is to be printed.
type eventWriter func(b []byte, ev *tetragon.GetEventsResponse) ([]byte, error)

func (a *app) eventWriter(f *geteventsFlags) (eventWriter, error) {
	if err := checkColor(f.color); err != nil {
		return nil, err
	}
	switch {
	case f.output != "json" && f.output != "compact":
		return nil, fmt.Errorf("--output: %q is not json or compact", f.output)
	case f.ttyEncode != "":
		return ttyWriter(f.ttyEncode), nil
	case f.output == "json":
		return jsonWriter, nil
	}
	return encode.NewCompact(encode.CompactOptions{
		Color: a.coloured(a.opts.Out, f.color), Timestamps: f.timestamps, StackTraces: f.stackTraces, ImaHash: f.imaHash,
	}).Append, nil
}

// ttyWriter passes on what was written to one terminal, which is the purpose of the flag: nothing is escaped.
func ttyWriter(path string) eventWriter {
	return func(b []byte, ev *tetragon.GetEventsResponse) ([]byte, error) {
		args := ev.GetProcessKprobe().GetArgs()
		if len(args) < 2 || args[0].GetFileArg().GetPath() != path {
			return b, nil
		}
		return append(b, args[1].GetBytesArg()...), nil
	}
}

// writeError says that an event could not be encoded or written, which no new connection mends.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// pump moves events from next to out until next fails; io.EOF is a good end. Output is flushed whenever no further
// event is at hand, so that a quiet stream shows each event at once and a busy one costs few writes.
func pump(ctx context.Context, next func() (*tetragon.GetEventsResponse, error), write eventWriter, out *bufio.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan *tetragon.GetEventsResponse, 256)
	end := make(chan error, 1)
	go func() {
		defer close(events)
		for {
			ev, err := next()
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				end <- err
				return
			}
			select {
			case events <- ev:
			case <-ctx.Done():
				end <- context.Cause(ctx)
				return
			}
		}
	}()
	var line []byte
	for {
		var ev *tetragon.GetEventsResponse
		var ok bool
		select {
		case ev, ok = <-events:
		default:
			if err := out.Flush(); err != nil {
				return &writeError{err}
			}
			select {
			case ev, ok = <-events:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if !ok {
			if err := out.Flush(); err != nil {
				return &writeError{err}
			}
			return <-end
		}
		var err error
		if line, err = write(line[:0], ev); err != nil {
			return &writeError{errors.Join(err, out.Flush())}
		}
		if _, err := out.Write(line); err != nil {
			return &writeError{err}
		}
	}
}
