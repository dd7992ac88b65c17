// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Options are what Main needs to know of the world. Zero values stand for the real one.
type Options struct {
	Args    []string // without the program's name
	Version string   // of this program

	In  io.Reader // nil: standard input
	Out io.Writer // nil: standard output
	Err io.Writer // nil: standard error

	Getenv func(string) string // nil: os.Getenv
	RunDir string              // where the agent leaves its socket and its info file; empty: the usual place

	RetryPause time.Duration // before the first of --retries, doubled each time; 0: one second
}

// Main runs one command and returns the exit code: 0 done, 1 failed.
func Main(ctx context.Context, opts Options) int {
	if opts.In == nil {
		opts.In = os.Stdin
	}
	if opts.Out == nil {
		opts.Out = os.Stdout
	}
	if opts.Err == nil {
		opts.Err = os.Stderr
	}
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	if opts.RunDir == "" {
		opts.RunDir = "/var/run/tetragon"
	}
	if opts.RetryPause == 0 {
		opts.RetryPause = time.Second
	}
	// Without this, a reader that goes away (tetra getevents | head -1) would kill us by SIGPIPE before we could end well.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	a := &app{opts: opts}
	err := a.root().ExecuteContext(ctx)
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE):
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return 0
	}
	fmt.Fprintf(opts.Err, "Error: %s\n", printable(err.Error()))
	var h *hintError
	if errors.As(err, &h) {
		fmt.Fprintf(opts.Err, "Hint: %s\n", h.hint)
	}
	return 1
}

// app is one run: its options and global flags.
type app struct {
	opts Options

	debug         bool
	serverAddress string
	timeout       time.Duration
	retries       int
	maxRecvSize   int
	tls           tlsFlags
}

func (a *app) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tetra",
		Short: "Talk to the Tetragon agent",
		Long: "Talks to a running Tetragon agent: shows its events, its health and its version, and works on its policies. " +
			"Checks and explains policies without one.",
		SilenceUsage:  true,
		SilenceErrors: true,

		SuggestionsMinimumDistance: 2,
		Args:                       knownCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.retries < 0 {
				return fmt.Errorf("--retries: %d is negative", a.retries)
			}
			if a.maxRecvSize <= 0 {
				return fmt.Errorf("--max-recv-size: %d is not above 0", a.maxRecvSize)
			}
			return a.tls.check()
		},
	}
	cmd.SetArgs(a.opts.Args)
	if a.opts.Args == nil {
		cmd.SetArgs([]string{}) // nil would make cobra read os.Args
	}
	cmd.SetIn(a.opts.In)
	cmd.SetOut(a.opts.Out)
	cmd.SetErr(a.opts.Err)
	cmd.SetFlagErrorFunc(flagError)
	f := cmd.PersistentFlags()
	f.BoolVarP(&a.debug, "debug", "d", false, "tell more, on standard error")
	f.StringVar(&a.serverAddress, "server-address", "",
		"gRPC target: unix:///path or host:port (default: what the agent on this machine says)")
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "time limit for a call; streams have none")
	f.IntVar(&a.retries, "retries", 1, "attempts after a failed connection, with growing pauses")
	f.IntVar(&a.maxRecvSize, "max-recv-size", 10<<20, "largest message, and largest line from standard input, in bytes")
	a.tls.register(f)
	cmd.AddCommand(a.geteventsCommand(), a.statusCommand(), a.versionCommand(), a.tracingPolicyCommand(), a.policyCommand(),
		a.infoCommand(), a.loglevelCommand(), a.eventlogCommand(), a.dumpCommand(), a.debugCommand(), a.metricsCommand(), a.manCommand(),
		a.bugtoolCommand(), a.doctorCommand(), a.probeCommand(), a.topCommand(), a.explainCommand())
	cmd.AddCommand(absentCommands()...)
	return cmd
}

// debugf writes a line for --debug.
func (a *app) debugf(format string, args ...any) {
	if a.debug {
		fmt.Fprintf(a.opts.Err, "Debug: %s\n", printable(fmt.Sprintf(format, args...)))
	}
}

// warn tells what is worth knowing although the command goes on.
func (a *app) warn(text string) { fmt.Fprintf(a.opts.Err, "Warning: %s\n", printable(text)) }

// hintError is an error with advice.
type hintError struct {
	err  error
	hint string
}

func (h *hintError) Error() string { return h.err.Error() }
func (h *hintError) Unwrap() error { return h.err }

func hint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// knownCommand refuses words that are no commands.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q", args[0])
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		return hint(err, "did you mean %q?", cmd.Name()+" "+s[0])
	}
	return hint(err, "%q lists the commands", cmd.Name()+" help")
}

// flagError adds the nearest flag to an error about an unknown one.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	// cobra can suggest commands only; so the flags dress up as commands.
	known := &cobra.Command{SuggestionsMinimumDistance: 2}
	add := func(f *pflag.Flag) {
		if !f.Hidden {
			known.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	}
	cmd.Flags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	if s := known.SuggestionsFor(unknown.GetSpecifiedName()); len(s) > 0 {
		return hint(err, "did you mean --%s?", s[0])
	}
	return hint(err, "%q lists the flags", cmd.CommandPath()+" --help")
}

// printable escapes what a terminal could take for an order.
func printable(s string) string {
	bad := func(r rune) bool { return !unicode.IsPrint(r) }
	if !strings.ContainsFunc(s, bad) {
		return s
	}
	var sb strings.Builder
	for _, r := range s {
		if bad(r) {
			sb.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			sb.WriteRune(r)
		}
	}
	return sb.String()
}
