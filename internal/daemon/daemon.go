// SPDX-License-Identifier: Apache-2.0

// Package daemon composes the agent: it builds the event lane and what serves it, runs them, and stops them in order.
//
// cmd/tetragon calls it with a checked configuration.
//
// Not here: any step of the lane itself. Nothing below this package sees the whole configuration.
//
// What is started is stopped in reverse, also when a later start fails. Run is called once in a process.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"tetragon/internal/config"
	"tetragon/internal/event"
	"tetragon/internal/event/encode"
	"tetragon/internal/event/enrich"
	"tetragon/internal/event/export"
	"tetragon/internal/event/filter"
	"tetragon/internal/event/read"
	"tetragon/internal/kernel"
	"tetragon/internal/metrics"
	"tetragon/internal/policy/registry"
	"tetragon/internal/process"
	"tetragon/internal/request"
	"tetragon/internal/sensor"
	"tetragon/internal/server"

	tetragon "tetragon/api/v1/tetragon"
	"tetragon/policies"
)

// Options of the agent.
type Options struct {
	Config  *config.Config
	Version string
	Stdout  io.Writer
	Stderr  io.Writer
	Hangup  <-chan os.Signal               // each value makes the export open its file anew, and the configuration be read again
	Reload  func() (*config.Config, error) // reads the configuration; nil: it is read once
}

// stopTimeout bounds each step of a stop that waits for somebody else.
const stopTimeout = 5 * time.Second

// stops undoes what has been started, latest first.
type stops []func()

func (s *stops) add(f func()) { *s = append(*s, f) }

func (s *stops) run() {
	for i := len(*s) - 1; i >= 0; i-- {
		(*s)[i]()
	}
	*s = nil
}

// Run runs the agent until ctx ends, then stops it and prints the balance of events.
func Run(ctx context.Context, o Options) error {
	// The start makes much garbage once, and collecting it costs a tenth of the start: what it leaves is given back later.
	collect := debug.SetGCPercent(gcAtStart)
	defer debug.SetGCPercent(collect)
	cfg := o.Config
	var undo stops
	defer undo.run()

	level := new(slog.LevelVar)
	level.Set(cfg.Level())
	log, closeLog, err := newLogger(cfg, level, o.Stdout, o.Stderr)
	if err != nil {
		return err
	}
	undo.add(closeLog)
	for _, w := range cfg.Warnings {
		log.Warn(w)
	}
	if cfg.GuardOff {
		return guardOff(cfg, o.Stdout)
	}
	log.Info("starting", "version", o.Version)

	unlock, err := writePid(filepath.Join(cfg.RunDir, "tetragon.pid"))
	if err != nil {
		return err
	}
	undo.add(unlock)

	keeper := &factsKeeper{o: kernel.Options{Procfs: cfg.ProcFS, BTF: cfg.BTF}}
	facts, err := keeper.get()
	if err != nil {
		return err
	}
	// The facts themselves are not kept: they are the largest thing in memory.
	lacks, release, cgroups := facts.Missing, facts.Release, facts.Cgroups.Mode
	filters, err := newFilters(cfg, log)
	if err != nil {
		return err
	}

	readyMade, err := policies.Select(cfg.ReadyMadePolicies)
	if err != nil {
		return fmt.Errorf("ready-made-policies (%s): %w", cfg.Source("ready-made-policies"), err)
	}

	node, err := config.NodeName(os.Getenv, os.Hostname)
	if err != nil {
		return fmt.Errorf("find the name of this node: %w; set NODE_NAME", err)
	}
	pins, err := sensor.OpenPins(sensor.PinOptions{Dir: cfg.BPFDir, Version: o.Version, Log: log})
	if err != nil {
		return err
	}
	leave := false // what is pinned stays
	undo.add(func() {
		if err := pins.Close(leave); err != nil {
			log.Warn("end the pins", "err", err)
		}
	})
	tellPrior(log, pins.Prior())
	if n := pins.Note(); n != "" {
		lacks = append(lacks, n)
	}

	guard, err := startGuard(cfg, facts, pins, log)
	if err != nil {
		return err
	}
	undo.add(func() { guard.end(leave) })

	sizes := plannedSizes(cfg, facts.CPUs)
	base, err := sensor.Load(sensor.Options{
		Pins:  pins,
		Facts: facts, RingBytes: sizes.ring,
		// Namespaces tell who has pid 1's idea of users, too.
		Ns: cfg.EnableProcessNs || cfg.UsernameMetadata == "unix", RealPath: cfg.EnableProcessCred, Env: cfg.EnableProcessEnv,
		Rate: sensor.Rate{Records: cfg.CgroupRate.Records, Window: cfg.CgroupRate.Window}, Verbose: cfg.Verbose > 0,
	})
	if err != nil {
		return err
	}
	undo.add(func() {
		end := base.Close
		if leave {
			end = base.Leave
		}
		if err := end(); err != nil {
			log.Warn("close the sensor", "err", err)
		}
	})

	manager := sensor.NewManager(sensor.ManagerOptions{Base: base, Facts: keeper.get, Log: log, Verbose: cfg.Verbose > 0})
	undo.add(func() {
		end := manager.Close
		if leave {
			end = manager.Leave
		}
		if err := end(); err != nil {
			log.Warn("close the hooks of policies", "err", err)
		}
	})

	// The event lane, from the ring to the sinks.
	lane, calls := &metrics.Lane{}, &metrics.RPCs{}
	ledger := metrics.NewLedger()
	table := process.New(process.Options{Dead: sizes.dead})
	encoder := encode.New(encode.Options{
		NodeName: node, ClusterName: cfg.ClusterName, Cred: cfg.EnableProcessCred, Ns: cfg.EnableProcessNs,
		Username: cfg.UsernameMetadata == "unix", KeepFragments: true, StackAddresses: cfg.ExposeStackAddresses,
	})
	filters.offers.Message = encoder.Message
	l := newLane(laneOptions{
		base: base, hooks: manager, table: table, ledger: ledger, counters: lane, log: log, limited: cfg.CgroupRate.Records > 0,
		countBinaries: cfg.MetricsServer != "", latency: cfg.EnableMsgHandlingLatency && cfg.MetricsServer != "", pins: pins,
	})
	eo := enrich.Options{
		Table: table, Ledger: ledger, RealPath: cfg.EnableProcessCred, Env: cfg.EnableProcessEnv, EnvNames: cfg.FilterEnvironmentVariables,
		Ancestors: hasAncestors(cfg, "base"), HostNs: encoder.SetHostNs, Programs: manager.Program, Told: sensor.NewTwins(manager).Told, Ended: manager.MergedEnded, Proc: cfg.ProcFS,
		KprobeAncestors: hasAncestors(cfg, "kprobe"), TracepointAncestors: hasAncestors(cfg, "tracepoint"), LoaderAncestors: hasAncestors(cfg, "loader"),
		LSMAncestors:    hasAncestors(cfg, "lsm"),
		UprobeAncestors: hasAncestors(cfg, "uprobe"), UsdtAncestors: hasAncestors(cfg, "usdt"),
	}
	asker := request.New(request.Options{Hosts: cfg.ActionHosts, DNSServer: cfg.ActionDNSServer, Ledger: ledger, Log: log})
	undo.add(asker.Close)
	eo.Ask = asker
	if cfg.UsernameMetadata == "unix" {
		eo.Passwd = filepath.Join(cfg.ProcFS, "1/root/etc/passwd")
		if _, err := os.Stat(eo.Passwd); err != nil {
			eo.Passwd = "/etc/passwd" // a host that hides pid 1's root even from root
		}
	}
	secrets := new(secrets)
	secrets.redactor.Store(filters.redactor)
	eo.RedactArgs, eo.RedactEnv = secrets.arguments, secrets.environment
	l.enricher = enrich.New(eo)
	l.mappings = newMappings(ledger, log, cfg.ProcFS)
	pols, err := policyLane(cfg, manager, keeper, l.mappings.want, log)
	if err != nil {
		return err
	}
	if cfg.OneShot {
		if err := oneShot(ctx, cfg, base, pins, readyMade, pols, o.Stderr); err != nil {
			return err
		}
		leave = true
		log.Info("policies are loaded and stay", "map_bytes", base.MapBytes())
		return nil
	}
	l.sinks = export.NewSet(export.Options{Encoder: encoder, Ledger: ledger, Lane: lane, Log: log, StreamBytes: sizes.streams})
	closeSinks := func() {
		c, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := l.sinks.Close(c); err != nil {
			log.Warn("close the sinks", "err", err)
		}
	}
	file, others, err := addExports(cfg, sizes, filters, l.sinks, log)
	if err != nil {
		return err
	}
	if cfg.ExportStdout != "" {
		w := export.WriterOptions{W: o.Stdout, QueueBytes: sizes.outQueue, Filter: filters.export(), Fields: filters.prune()}
		if cfg.ExportStdout == "compact" {
			w.Render = encode.NewCompact(encode.CompactOptions{Color: isTerminal(o.Stdout)}).Render
		}
		if err := l.sinks.AddWriter(w); err != nil {
			return fmt.Errorf("open standard output for events: %w", err)
		}
	}
	if l.reader, err = read.New(read.Options{Ring: base.Ring(), Sleep: base.Sleeps}); err != nil {
		return err
	}
	undo.add(func() { _ = l.reader.Close() })

	memory := &budget{
		total: uint64(cfg.MemoryBudget), base: base, manager: manager, policies: pols, facts: keeper, log: log, planned: sizes.dead,
	}
	memory.dead.Store(int64(sizes.dead))
	l.keepDead = &memory.dead
	now := new(atomic.Pointer[config.Config])
	now.Store(cfg)
	// What others talk to. It listens before the first event, so that a client can wait for it.
	so := server.Options{
		Version: o.Version, Events: l.sinks, Filter: filters.offers, Queue: sizes.streamed, Ledger: ledger,
		Notes: func() []string { return guard.notes(append(notes(lacks, base), memory.String())) }, Log: log, Level: level, Info: func() server.Info { return info(now.Load()) },
		Policies: pols, DeprecatedPolicyRPC: cfg.EnableDeprecatedPolicyRPC, Calls: calls,
		Processes: func(ctx context.Context, w server.ProcessesWanted) ([]server.Process, error) {
			return l.processes(ctx, encoder, w)
		},
	}
	if file != nil {
		so.EventLog = file
	}
	api, address, err := serveAPI(cfg, so, log)
	if err != nil {
		return err
	}
	undo.add(api)
	stopHTTP, err := serveHTTP(cfg, metrics.Options{
		Lane: lane, Ledger: ledger, EventMetrics: cfg.EnableEventMetrics, Labels: cfg.MetricsLabelFilter, MaxSeries: cfg.MetricsMaxSeries,
		NodeName: node, FlagWords: event.FlagWords(), Build: metricsBuild(o.Version), RPCs: calls,
		Policies: func() []metrics.Policy { return policyMetrics(pols.List("")) },
		Queues:   func() []metrics.Queue { return queueMetrics(l.sinks) },
		Memory:   memory.parts,
	}, log)
	if err != nil {
		return err
	}
	undo.add(stopHTTP)
	stopDebug, err := serveDebug(cfg, log)
	if err != nil {
		return err
	}
	undo.add(stopDebug)

	from := bootNow()
	if err := base.Attach(); err != nil {
		return err
	}
	if err := l.openPast(pins.Prior(), from, bootNow()); err != nil {
		log.Warn("read what an earlier agent left", "err", err)
	}
	for _, n := range notes(lacks, base) {
		log.Warn("this kernel cannot do everything", "lacks", n)
	}

	// The lane runs while policies are loaded, which can take seconds: what happens meanwhile is told, and not lost.
	laneCtx, stopLane := context.WithCancel(ctx)
	defer stopLane()
	ended := make(chan error, 1)
	go func() {
		ended <- l.run(laneCtx)
		stopLane()
	}()
	rl := &reloader{cfg: now, load: o.Reload, log: log, level: level, file: file, others: others, sinks: l.sinks, secrets: secrets, message: encoder.Message}
	go rl.run(laneCtx, o.Hangup)
	go memory.run(laneCtx)
	go guard.run(laneCtx)
	var removeInfo func()
	if err = loadPolicies(laneCtx, cfg, readyMade, pols, o.Stderr); err == nil {
		keeper.drop() // now, not while the first events come
		err = pins.Commit()
	}
	if err == nil && laneCtx.Err() == nil {
		l.leave.Store(cfg.KeepSensorsOnExit)
		close(l.took)
		select {
		case <-l.over:
			undo.add(removePrior(log, pins.Prior()))
		case <-laneCtx.Done():
		}
	}
	if err == nil {
		removeInfo, err = writeInfo(cfg, address)
	}
	if err == nil {
		undo.add(removeInfo)
		log.Info("listening for events", "kernel", release, "cgroups", cgroups, "ring_bytes", base.Ring().MaxEntries(),
			"map_bytes", base.MapBytes(), "export", cfg.ExportFilename, "api", address)
		debug.SetGCPercent(collect)
		defer time.AfterFunc(afterStart, giveBack).Stop() // what the start needed; not while events wait
		if nerr := notify(os.Getenv("NOTIFY_SOCKET"), "READY=1"); nerr != nil {
			log.Warn("tell that the agent is ready", "err", nerr)
		}
	} else {
		stopLane()
	}
	err = errors.Join(err, <-ended)

	leave = l.leave.Load()
	// The sinks empty their queues while the API still serves, then the account is complete.
	closeSinks()
	undo.run()
	fmt.Fprintln(o.Stderr, "balance of events:")
	if perr := ledger.Print(o.Stderr); perr != nil && err == nil {
		err = perr
	}
	return err
}

// oneShot loads what there is at the start and leaves it to the next agent. A policy that cannot be loaded is an error, as
// nobody would be there to ask.
func oneShot(ctx context.Context, cfg *config.Config, base *sensor.Base, pins *sensor.Pins, readyMade []string, pols *registry.Registry, tell io.Writer) error {
	if n := pins.Note(); n != "" {
		return fmt.Errorf("one-shot (%s): %s", cfg.Source("one-shot"), n)
	}
	if err := base.Attach(); err != nil {
		return err
	}
	if err := loadPolicies(ctx, cfg, readyMade, pols, tell); err != nil {
		return err
	}
	for _, s := range pols.List("") {
		if s.State == registry.StateLoadError {
			return fmt.Errorf("load policy %s: %s", s.Key, s.Error)
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("load policies: %w", err)
	}
	if err := errors.Join(pins.Beat(&sensor.Counts{}), pins.Commit()); err != nil {
		return err
	}
	return pins.Prior().Remove()
}

// tellPrior says what earlier agents left.
func tellPrior(log *slog.Logger, p *sensor.Prior) {
	if p == nil {
		return
	}
	log.Info("an earlier agent's programs are there: they go on until ours have taken over", "generation", p.String(), "stale", p.Stale())
}

// removePrior ends what an earlier agent left, which takes a while if there are many hooks. It returns what waits for that.
func removePrior(log *slog.Logger, p *sensor.Prior) (wait func()) {
	done := make(chan struct{})
	if p == nil {
		return func() {}
	}
	go func() {
		defer close(done)
		if err := p.Remove(); err != nil {
			log.Warn("remove what an earlier agent left", "err", err)
			return
		}
		log.Info("took over from an earlier agent", "generation", p.String())
	}()
	return func() { <-done }
}

// notes says what this kernel lacks.
func notes(lacks []string, b *sensor.Base) []string {
	return append(append([]string(nil), lacks...), b.Missing()...)
}

// ringBytes is the size of the one ring for sizes that were thought for one a CPU.
func ringBytes(cfg *config.Config, cpus int) int {
	switch {
	case cfg.RBSizeTotal > 0:
		return int(min(cfg.RBSizeTotal, 1<<30))
	case cfg.RBSize > 0:
		return int(min(uint64(cfg.RBSize)*uint64(cpus), 1<<30))
	}
	return sensor.DefaultRingBytes
}

// hasAncestors says whether events of a kind tell ancestors. Without those of execs nothing is known of them.
func hasAncestors(cfg *config.Config, kind string) bool {
	return slices.Contains(cfg.EnableAncestors, "base") && slices.Contains(cfg.EnableAncestors, kind)
}

// filters is what the configuration says of filtering, checked.
type filters struct {
	allow, deny []*tetragon.Filter
	offers      filter.Options
	fields      *filter.Fields
	redactor    *filter.Redactor
}

// newFilters reads what the configuration says. What is valid but does not do what one may think is logged.
func newFilters(cfg *config.Config, log *slog.Logger) (*filters, error) {
	f := &filters{offers: filter.Options{
		Cred: cfg.EnableProcessCred, PidSet: true, Complain: func(err error) { log.Warn("use a filter", "err", err) },
	}}
	for kind, types := range map[string][]tetragon.EventType{
		"base":       {tetragon.EventType_PROCESS_EXEC, tetragon.EventType_PROCESS_EXIT},
		"kprobe":     {tetragon.EventType_PROCESS_KPROBE},
		"tracepoint": {tetragon.EventType_PROCESS_TRACEPOINT},
		"loader":     {tetragon.EventType_PROCESS_LOADER},
	} {
		if hasAncestors(cfg, kind) {
			f.offers.Ancestors = append(f.offers.Ancestors, types...)
		}
	}
	var err error
	if f.allow, err = filter.ParseList(cfg.ExportAllowlist); err != nil {
		return nil, fmt.Errorf("read export-allowlist from %s: %w", cfg.Source("export-allowlist"), err)
	}
	if f.deny, err = filter.ParseList(cfg.ExportDenylist); err != nil {
		return nil, fmt.Errorf("read export-denylist from %s: %w", cfg.Source("export-denylist"), err)
	}
	if f.redactor, err = filter.ParseRedaction(cfg.RedactionFilters); err != nil {
		return nil, fmt.Errorf("read redaction-filters from %s: %w", cfg.Source("redaction-filters"), err)
	}
	fields, err := filter.ParseFieldFilters(cfg.FieldFilters)
	if err == nil {
		f.fields, err = filter.NewFields(fields)
	}
	if err != nil {
		return nil, fmt.Errorf("read field-filters from %s: %w", cfg.Source("field-filters"), err)
	}
	for key, warnings := range map[string][]string{"field-filters": f.fields.Warnings(), "redaction-filters": f.redactor.Warnings()} {
		for _, w := range warnings {
			log.Warn(fmt.Sprintf("%s from %s: %s", key, cfg.Source(key), w))
		}
	}
	o := f.offers
	o.PidSet = cfg.EnablePidSetFilter
	if _, err = filter.New(f.allow, f.deny, o); err != nil {
		return nil, fmt.Errorf("use the filters of the export: %w", err)
	}
	return f, nil
}

// prune returns what leaves fields out of exported events, or nothing if they are whole.
func (f *filters) prune() export.Pruner {
	if f.fields == nil {
		return nil
	}
	return f.fields
}

// export returns a filter of its own for one sink, or nothing if there is nothing to filter.
func (f *filters) export() export.Matcher {
	if len(f.allow)+len(f.deny) == 0 {
		return nil
	}
	m, err := filter.New(f.allow, f.deny, f.offers) // with pid_set: newFilters has refused it where it is not enabled
	if err != nil {
		panic("bug: filters that were accepted are refused: " + err.Error())
	}
	return m
}

// serveAPI starts the gRPC services. It returns how to stop them, and what tetra dials.
func serveAPI(cfg *config.Config, so server.Options, log *slog.Logger) (stop func(), address string, err error) {
	var undo stops
	defer func() {
		if err != nil {
			undo.run()
		}
	}()
	addrs, err := addresses(cfg, log)
	if err != nil {
		return nil, "", err
	}
	if len(addrs) > 0 {
		ls, err := server.Listen(addrs, log)
		if err != nil {
			return nil, "", err
		}
		s := server.New(so)
		for i, l := range ls {
			if l.Addr().Network() == "unix" && !addrs[i].ReadOnly {
				address = server.Target(l)
			}
			go s.Serve(l)
		}
		undo.add(s.Stop)
	}
	if cfg.HealthServerAddress != "" {
		l, err := net.Listen("tcp", cfg.HealthServerAddress)
		if err != nil {
			return nil, "", fmt.Errorf("listen for health checks (health-server-address): %w", err)
		}
		h := server.NewHealth(l)
		undo.add(h.Stop)
	}
	return undo.run, address, nil
}

// addresses are where the gRPC services listen, and what each kind of client may do there.
func addresses(cfg *config.Config, log *slog.Logger) ([]server.Address, error) {
	var addrs []server.Address
	for _, l := range cfg.Listeners() {
		a := server.Address{Network: l.Network, Address: l.Address}
		switch l.Network {
		case "unix":
			a.Group = cfg.ServerSocketGroup
		case "tcp":
			a.Insecure, a.Admins = cfg.ServerInsecure, cfg.ServerTLSAdminNames
			if cfg.ServerTLSCertFile != "" {
				var err error
				a.TLS, err = server.NewTLS(server.TLSOptions{
					CertFile: cfg.ServerTLSCertFile, KeyFile: cfg.ServerTLSKeyFile, ClientCAFiles: cfg.ServerTLSClientCAFiles, Log: log,
				})
				if err != nil {
					return nil, err
				}
			}
		}
		addrs = append(addrs, a)
	}
	if cfg.ServerReadOnlySocket != "" {
		addrs = append(addrs, server.Address{
			Network: "unix", Address: cfg.ServerReadOnlySocket, ReadOnly: true, Group: cfg.ServerReadOnlyGroup,
		})
	}
	return addrs, nil
}

// info is what GetInfo tells.
func info(cfg *config.Config) server.Info {
	i := server.Info{Name: "tetragon", Build: buildInfo()}
	for _, s := range cfg.Settings() {
		i.Conf = append(i.Conf, server.Setting{Key: s.Key, Value: s.Value})
	}
	return i
}

// buildInfo reads what the linker noted.
func buildInfo() server.Build {
	var b server.Build
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.GoVersion = bi.GoVersion
	for _, s := range bi.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value
		}
	}
	return b
}

// metricsBuild is the build in the words of metrics.
func metricsBuild(version string) metrics.Build {
	b := buildInfo()
	return metrics.Build{Version: version, GoVersion: b.GoVersion, Commit: b.Commit, Time: b.Time, Modified: b.Modified}
}

// serveHTTP starts the metrics and profiling servers that are asked for.
func serveHTTP(cfg *config.Config, mo metrics.Options, log *slog.Logger) (stop func(), err error) {
	var undo stops
	start := func(key, addr string, h http.Handler) error {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listen (%s): %w", key, err)
		}
		s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = s.Serve(l) }() // ends with ErrServerClosed
		undo.add(func() { _ = s.Close() })
		log.Info("serving", "what", key, "address", l.Addr().String())
		return nil
	}
	if cfg.MetricsServer != "" {
		m, err := metrics.New(mo)
		if err != nil {
			return nil, fmt.Errorf("make the metrics: %w", err)
		}
		mux := http.NewServeMux()
		mux.Handle("/metrics", m.Handler())
		if err := start("metrics-server", cfg.MetricsServer, mux); err != nil {
			return nil, err
		}
	}
	if cfg.PprofAddress != "" {
		mux := http.NewServeMux()
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		if err := start("pprof-address", cfg.PprofAddress, mux); err != nil {
			undo.run()
			return nil, err
		}
	}
	return undo.run, nil
}
