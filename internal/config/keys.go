// SPDX-License-Identifier: Apache-2.0

package config

// status says what this version does with a key.
type status uint8

const (
	supported status = iota
	accepted         // may be set to anything; has no effect here, for the reason in row.why
	later            // refused when set to anything but its default
)

// row is one key: everything that sources, checks and help texts need to know of it.
type row struct {
	key    string
	short  string // one-letter flag
	def    string // default, as a drop-in file would hold it
	field  func(*Config) any
	status status
	why    string   // of accepted and later: ends the sentence "... because", or stands in the help text
	oneOf  []string // the only values, or the only list elements
	spaces bool     // a list that white space separates, unless it comes from a flag
	hidden bool     // left out of the help text
	live   bool     // a change takes effect when the configuration is read again
	group  string   // heading of the help text, on the first row of each group
	help   string
}

// defaultPolicyDir is the one policy directory that may be missing.
const defaultPolicyDir = "/etc/tetragon/tetragon.tp.d"

// Reasons shared by several rows.
const (
	whyEmbedded = "the BPF objects are embedded in the binary, one for all kernels"
	whyProbed   = "features are probed, not concluded from a version"
	whyExact    = "the process table mirrors the living processes exactly and needs no retries"
	whyStorage  = "processes live in task storage, which grows with them"
	whyNoFilter = "policies hold for all processes"
	whyTakeOver = "what an earlier run left goes on until this one has taken over"
	whyNoQueue  = "there is no queue between the reader and the handler"
	whyNoPods   = "Kubernetes is not supported yet"
	whyNoCRI    = "container runtimes are not asked yet"
	whyNoAggr   = "there is no type of event that is aggregated, so each is passed on, as upstream does"
)

// table returns all keys in the order of the help text. It is the only place where a key is described.
func table() []row {
	var rows []row
	rows = append(rows, generalRows()...)
	rows = append(rows, exportRows()...)
	rows = append(rows, eventRows()...)
	rows = append(rows, serverRows()...)
	rows = append(rows, kernelRows()...)
	rows = append(rows, cacheRows()...)
	rows = append(rows, policyRows()...)
	rows = append(rows, podRows()...)
	return rows
}

func generalRows() []row {
	return []row{
		{group: "General", key: "config-dir", field: func(c *Config) any { return &c.ConfigDir },
			help: "directory with one file for each key; read last among the files"},
		{key: "run-dir", def: "/var/run/tetragon/", field: func(c *Config) any { return &c.RunDir },
			help: "directory of the pid file, the info file and the default socket"},
		{key: "debug", live: true, short: "d", def: "false", field: func(c *Config) any { return &c.Debug },
			help: "same as log-level debug"},
		{key: "log-level", live: true, def: "info", field: func(c *Config) any { return &c.LogLevel },
			oneOf: []string{"trace", "debug", "info", "warn", "warning", "error", "panic", "fatal"},
			help:  "least important messages to log"},
		{key: "log-format", def: "text", field: func(c *Config) any { return &c.LogFormat },
			oneOf: []string{"text", "text-ts", "json", "json-ts"},
			help:  "form of log lines; -ts adds the time"},
		{key: "log-file", field: func(c *Config) any { return &c.LogFile },
			help: "log to this file as well; truncated at start"},
		{key: "cpuprofile", field: func(c *Config) any { return &c.CPUProfile }, hidden: true,
			help: "write a CPU profile to this file, from the start until the agent is stopped"},
		{key: "memprofile", field: func(c *Config) any { return &c.MemProfile }, hidden: true,
			help: "write a heap profile to this file when the agent is stopped"},
		{key: "generate-docs", def: "false", field: func(c *Config) any { return &c.GenerateDocs },
			help: "print the description of the command as YAML and exit"},
	}
}

func exportRows() []row {
	return []row{
		{group: "Export", key: "export-filename", field: func(c *Config) any { return &c.ExportFilename },
			help: "file for events as JSON lines; empty: none"},
		{key: "export-stdout", field: func(c *Config) any { return &c.ExportStdout },
			oneOf: []string{"", "json", "compact"},
			help:  "write events to standard output as well, and the log to standard error"},
		{key: "export-file-max-size-mb", live: true, def: "10", field: func(c *Config) any { return &c.ExportFileMaxSizeMB },
			help: "rotate the file above this size in MiB; 0 means 100"},
		{key: "export-file-rotation-interval", live: true, def: "0s",
			field: func(c *Config) any { return &c.ExportFileRotationInterval },
			help:  "rotate the file on this period as well; 0: never"},
		{key: "export-file-max-backups", live: true, def: "5", field: func(c *Config) any { return &c.ExportFileMaxBackups },
			help: "rotated files to keep; 0 keeps all"},
		{key: "export-file-max-age", live: true, def: "0s", field: func(c *Config) any { return &c.ExportFileMaxAge },
			help: "remove rotated files that are older; 0: however old they are"},
		{key: "export-file-compress", live: true, def: "false", field: func(c *Config) any { return &c.ExportFileCompress },
			help: "compress rotated files with gzip"},
		{key: "export-file-perm", def: "600", field: func(c *Config) any { return &c.ExportFilePerm },
			help: "octal mode of new files; only the bits of 664 count, and the owner can always read and write"},
		{key: "exports", field: func(c *Config) any { return &c.Exports },
			help: "further export files, each with its own filters, as JSON objects: name, filename, allowlist, denylist, " +
				"field_filters, rate_limit, max_size_mb, rotation_interval, max_backups, max_age, compress, perm; " +
				"what an object does not say is as in the keys export-file-*"},
		{key: "export-rate-limit", live: true, def: "-1", field: func(c *Config) any { return &c.ExportRateLimit },
			help: "events for each minute; -1: no limit, 0: no export"},
		{key: "export-allowlist", live: true, field: func(c *Config) any { return &c.ExportAllowlist },
			help: "export only events that one of these filters (JSON objects) matches"},
		{key: "export-denylist", live: true, field: func(c *Config) any { return &c.ExportDenylist },
			help: "export no events that one of these filters (JSON objects) matches"},
		{key: "field-filters", live: true, field: func(c *Config) any { return &c.FieldFilters },
			help: "fields to keep in, or leave out of, exported events (JSON objects)"},
		{key: "enable-export-aggregation", def: "false",
			field:  func(c *Config) any { return &c.EnableExportAggregation },
			status: accepted, why: whyNoAggr, help: "aggregate exported events"},
		{key: "export-aggregation-window-size", def: "15s",
			field:  func(c *Config) any { return &c.ExportAggregationWindowSize },
			status: accepted, why: whyNoAggr, help: "window of the aggregation"},
		{key: "export-aggregation-buffer-size", def: "10000",
			field:  func(c *Config) any { return &c.ExportAggregationBufferSize },
			status: accepted, why: whyNoAggr, help: "buffer of the aggregation, in events"},
		{key: "enable-pid-set-filter", def: "false", field: func(c *Config) any { return &c.EnablePidSetFilter },
			help: "allow pid_set in export filters"},
	}
}

func eventRows() []row {
	return []row{
		{group: "What events say", key: "enable-process-cred", def: "false",
			field: func(c *Config) any { return &c.EnableProcessCred },
			help:  "add capabilities, credentials and properties of the binary; allows the capabilities filter"},
		{key: "enable-process-ns", def: "false", field: func(c *Config) any { return &c.EnableProcessNs },
			help: "add namespaces"},
		{key: "enable-process-environment-variables", def: "false",
			field: func(c *Config) any { return &c.EnableProcessEnv }, help: "add the environment"},
		{key: "filter-environment-variables", spaces: true,
			field: func(c *Config) any { return &c.FilterEnvironmentVariables },
			help:  "names of the environment variables to keep; empty: all"},
		{key: "enable-ancestors", field: func(c *Config) any { return &c.EnableAncestors },
			oneOf: []string{"base", "kprobe", "tracepoint", "loader", "uprobe", "lsm", "usdt"},
			help:  "add ancestors to these kinds of events; the others only together with base"},
		{key: "username-metadata", def: "disabled", field: func(c *Config) any { return &c.UsernameMetadata },
			oneOf: []string{"disabled", "unix"}, help: "add login names of host processes"},
		{key: "redaction-filters", live: true, field: func(c *Config) any { return &c.RedactionFilters },
			help: "mask what these filters (JSON objects) match in arguments and environment"},
		{key: "cluster-name", field: func(c *Config) any { return &c.ClusterName },
			help: "name of the cluster in every event"},
		{key: "expose-stack-addresses", def: "false", field: func(c *Config) any { return &c.ExposeStackAddresses },
			help: "real addresses in stack traces"},
		{key: "cgroup-rate", field: func(c *Config) any { return &c.CgroupRate },
			help: "hold back forks and execs of a cgroup that makes more on one CPU, as events,interval: 1000,1s; empty: no limit"},
	}
}

func serverRows() []row {
	return []row{
		{group: "Servers", key: "server-address", def: "unix:///var/run/tetragon/tetragon.sock",
			field: func(c *Config) any { return &c.ServerAddress },
			help: "gRPC: unix:///path, or host:port for TCP and the socket in run-dir; empty: none; " +
				"unless set: the socket in run-dir"},
		{key: "server-tls-cert-file", field: func(c *Config) any { return &c.ServerTLSCertFile },
			help: "PEM certificate for TCP; read again when it changes"},
		{key: "server-tls-key-file", field: func(c *Config) any { return &c.ServerTLSKeyFile },
			help: "PEM key"},
		{key: "server-tls-client-ca-files", spaces: true,
			field: func(c *Config) any { return &c.ServerTLSClientCAFiles },
			help:  "PEM bundles of authorities for client certificates"},
		{key: "server-tls-require-client-cert", def: "false",
			field: func(c *Config) any { return &c.ServerTLSRequireCert },
			help:  "serve only clients with a certificate; others on TCP may only read"},
		{key: "server-tls-admin-names", field: func(c *Config) any { return &c.ServerTLSAdminNames },
			help: "names in client certificates that may change policies and settings; empty: every certificate may"},
		{key: "server-insecure", def: "false", field: func(c *Config) any { return &c.ServerInsecure },
			help: "allow TCP without TLS, for reading: everybody who reaches the port sees all events"},
		{key: "server-socket-group", field: func(c *Config) any { return &c.ServerSocketGroup },
			help: "group that may use the socket as well, and so change policies; empty: its owner alone"},
		{key: "server-read-only-socket", field: func(c *Config) any { return &c.ServerReadOnlySocket },
			help: "path of a second socket, whose clients may read events but change nothing"},
		{key: "server-read-only-group", field: func(c *Config) any { return &c.ServerReadOnlyGroup },
			help: "group that may use the second socket"},
		{key: "enable-deprecated-tracingpolicy-grpc", def: "false",
			field: func(c *Config) any { return &c.EnableDeprecatedPolicyRPC },
			help:  "accept EnableTracingPolicy and DisableTracingPolicy"},
		{key: "persist-grpc-policies", def: "false", field: func(c *Config) any { return &c.PersistGRPCPolicies },
			help: "keep policies that came by gRPC; they come back with the next agent, or it does not start"},
		{key: "persist-grpc-policies-dir", def: "/var/run/tetragon/grpc-policies",
			field: func(c *Config) any { return &c.PersistGRPCPoliciesDir },
			help:  "where to keep them"},
		{key: "health-server-address", field: func(c *Config) any { return &c.HealthServerAddress },
			help: "grpc.health.v1 on this TCP address, such as :6789; empty: none"},
		{key: "health-server-interval", def: "10", field: func(c *Config) any { return &c.HealthServerInterval },
			status: accepted, why: "a change of health is told at once", help: "seconds between refreshes"},
		{key: "metrics-server", field: func(c *Config) any { return &c.MetricsServer },
			help: "metrics over HTTP on this address, such as :2112; empty: none"},
		{key: "enable-event-metrics", def: "true", field: func(c *Config) any { return &c.EnableEventMetrics },
			help: "also metrics about events, by binary"},
		{key: "metrics-label-filter", def: "namespace,workload,pod,binary",
			field: func(c *Config) any { return &c.MetricsLabelFilter },
			oneOf: []string{"namespace", "workload", "pod", "binary", "node_name"},
			help:  "labels that get values in metrics about events"},
		{key: "metrics-max-series", def: "4096", field: func(c *Config) any { return &c.MetricsMaxSeries },
			help: "series that each metric about events may have; what comes beyond is counted for the binary \"(other)\""},
		{key: "enable-msg-handling-latency", def: "false",
			field: func(c *Config) any { return &c.EnableMsgHandlingLatency },
			help:  "measure how long each record takes, as the metric tetragon_handling_latency"},
		{key: "pprof-address", field: func(c *Config) any { return &c.PprofAddress },
			help: "Go profiling over HTTP on this address; empty: none"},
		{key: "gops-address", field: func(c *Config) any { return &c.GopsAddress },
			help: "answer the program gops on this TCP address; empty: no. Who reaches it sees what this program does, not the events"},
	}
}

func kernelRows() []row {
	return []row{
		{group: "Kernel", key: "btf", field: func(c *Config) any { return &c.BTF },
			help: "type information of the kernel; empty: search the usual places"},
		{key: "bpf-lib", def: "/var/lib/tetragon/", field: func(c *Config) any { return &c.BPFLib },
			status: accepted, why: whyEmbedded, help: "directory of BPF objects"},
		{key: "bpf-dir", def: "tetragon", field: func(c *Config) any { return &c.BPFDir },
			help: "directory below the root of the BPF file system, for what outlives the agent"},
		{key: "procfs", def: "/proc/", field: func(c *Config) any { return &c.ProcFS },
			help: "procfs of the host"},
		{key: "verbose", def: "0", field: func(c *Config) any { return &c.Verbose },
			help: "show the verifier's log of a refused program: 0 in short, else whole"},
		{key: "rb-size", def: "0", field: func(c *Config) any { return &c.RBSize },
			help: "kernel buffer for each CPU; 0: built-in default"},
		{key: "rb-size-total", def: "0", field: func(c *Config) any { return &c.RBSizeTotal },
			help: "kernel buffer over all CPUs; not together with rb-size"},
		{key: "kernel", field: func(c *Config) any { return &c.Kernel },
			status: accepted, why: whyProbed, help: "version of the kernel"},
		{key: "force-small-progs", def: "false", field: func(c *Config) any { return &c.ForceSmallProgs },
			status: accepted, why: whyEmbedded, help: "use programs for old kernels"},
		{key: "force-large-progs", def: "false", field: func(c *Config) any { return &c.ForceLargeProgs },
			status: accepted, why: whyEmbedded, help: "use programs for new kernels"},
		{key: "netns-dir", def: "/var/run/docker/netns/", field: func(c *Config) any { return &c.NetnsDir },
			status: accepted, why: "network namespaces are not looked up by name",
			help: "directory of network namespaces"},
		{key: "release-pinned-bpf", def: "true", field: func(c *Config) any { return &c.ReleasePinnedBPF },
			status: accepted, why: whyTakeOver, help: "remove what an earlier run pinned"},
		{key: "keep-sensors-on-exit", def: "false", field: func(c *Config) any { return &c.KeepSensorsOnExit },
			help: "leave all programs in the kernel when the agent is stopped; the next agent takes over"},
		{key: "one-shot", def: "false", field: func(c *Config) any { return &c.OneShot },
			help: "load the policies of files and end; they work on until the next agent takes over, for early boot"},
		{key: "guard", def: "off", field: func(c *Config) any { return &c.Guard }, oneOf: []string{"off", "monitor", "enforce"},
			help: "keep others from ending the agent, and from changing what it has in the kernel; monitor: only tell"},
		{key: "guard-off", def: "false", field: func(c *Config) any { return &c.GuardOff },
			help: "switch off the guard of the agent that uses this bpf-dir, or did, and end"},
		{key: "disable-kprobe-multi", def: "false", field: func(c *Config) any { return &c.DisableKprobeMulti },
			help: "attach a program to each function of a list instead of one to all of them (kprobe.multi)"},
		{key: "use-perf-ring-buffer", def: "false", field: func(c *Config) any { return &c.UsePerfRingBuffer },
			status: accepted, why: "events always come through the BPF ring buffer", help: "use perf buffers"},
	}
}

func cacheRows() []row {
	return []row{
		{group: "Queues and tables", key: "memory-budget", def: "0", field: func(c *Config) any { return &c.MemoryBudget },
			help: "memory of the agent, in user space and in the kernel together; sizes that are not given follow from it; 0: no limit"},
		{key: "event-queue-size", def: "10000",
			field: func(c *Config) any { return &c.EventQueueSize },
			help:  "events that may wait for each subscriber; not given: as many as there is memory for, which are more"},
		{key: "process-cache-size", def: "65536", field: func(c *Config) any { return &c.ProcessCacheSize },
			help: "processes to remember, living and ended"},
		{key: "process-cache-gc-interval", def: "30s",
			field:  func(c *Config) any { return &c.ProcessCacheGCInterval },
			status: accepted, why: whyExact, help: "period of the process cache's collector"},
		{key: "disable-process-cache", def: "false", field: func(c *Config) any { return &c.DisableProcessCache },
			status: later, why: "the process table cannot be left out", help: "remember no processes"},
		{key: "rb-queue-size", def: "65535", field: func(c *Config) any { return &c.RBQueueSize },
			status: accepted, why: whyNoQueue, help: "queue between reader and handler"},
		{key: "data-cache-size", def: "1024", field: func(c *Config) any { return &c.DataCacheSize },
			status: accepted, why: "long data travels with its event", help: "entries for long data"},
		{key: "deleted-pod-cache-size", def: "1024", field: func(c *Config) any { return &c.DeletedPodCacheSize },
			status: accepted, why: whyNoPods, help: "deleted pods to remember"},
		{key: "event-cache-retries", def: "15", field: func(c *Config) any { return &c.EventCacheRetries },
			status: accepted, why: whyExact, help: "retries for incomplete events"},
		{key: "event-cache-retry-delay", def: "2", field: func(c *Config) any { return &c.EventCacheRetryDelay },
			status: accepted, why: whyExact, help: "seconds between them"},
		{key: "execve-map-entries", def: "0", field: func(c *Config) any { return &c.ExecveMapEntries },
			status: accepted, why: whyStorage, help: "processes that the kernel side remembers"},
		{key: "execve-map-size", field: func(c *Config) any { return &c.ExecveMapSize },
			status: accepted, why: whyStorage, help: "the same by memory"},
		{key: "parents-map-enabled", def: "false", field: func(c *Config) any { return &c.ParentsMapEnabled },
			status: accepted, why: "the parents of a process are always known", help: "track parent binaries for matchParentBinaries"},
		{key: "parents-map-entries", def: "0", field: func(c *Config) any { return &c.ParentsMapEntries },
			status: accepted, why: whyStorage, help: "parents that the kernel side remembers"},
		{key: "parents-map-size", field: func(c *Config) any { return &c.ParentsMapSize },
			status: accepted, why: whyStorage, help: "the same by memory"},
		{key: "retprobes-cache-size", def: "4096", field: func(c *Config) any { return &c.RetprobesCacheSize },
			status: accepted, why: "entry and return of a call are seen together", help: "entry and return pairs under way"},
		{key: "sleepable-preload-size", def: "32768", field: func(c *Config) any { return &c.SleepablePreloadSize },
			status: accepted, why: "no hook needs the map", help: "entries of the preload map"},
	}
}

func policyRows() []row {
	return []row{
		{group: "Policies", key: "tracing-policy", field: func(c *Config) any { return &c.TracingPolicy },
			help: "file of a policy to load at start; if it cannot be loaded the agent does not start"},
		{key: "tracing-policy-dir", def: defaultPolicyDir, field: func(c *Config) any { return &c.TracingPolicyDir },
			help: "directory of policies to load at start; those that cannot be loaded are listed with their mistakes"},
		{key: "ready-made-policies", field: func(c *Config) any { return &c.ReadyMadePolicies },
			help: "policies to load at start of those that come with the agent: all, or names such as bpf,egress"},
		{key: "action-hosts", field: func(c *Config) any { return &c.ActionHosts },
			help: "hosts that policies may have the agent ask (GetUrl, DnsLookup): example.com, .example.com for all below it, example.com:8080, * for any; none if empty"},
		{key: "action-dns-server", field: func(c *Config) any { return &c.ActionDNSServer },
			help: "address and port of the server that DnsLookup asks; the system's if empty"},
		{key: "allow-missing-hooks", def: "false", field: func(c *Config) any { return &c.AllowMissingHooks },
			help: "load a policy without those of its hooks that this kernel cannot have, instead of refusing it"},
		{key: "enable-tracing-policy-crd", def: "true",
			field:  func(c *Config) any { return &c.EnableTracingPolicyCRD },
			status: accepted, why: whyNoPods, help: "watch the policies of the cluster"},
		{key: "enable-policy-filter", def: "false", field: func(c *Config) any { return &c.EnablePolicyFilter },
			status: later, why: whyNoFilter, help: "policies for pods"},
		{key: "enable-policy-filter-cgroup-map", def: "false",
			field:  func(c *Config) any { return &c.EnablePolicyFilterCgroupMap },
			status: later, why: whyNoFilter, help: "map from cgroups to policies"},
		{key: "enable-policy-filter-debug", def: "false",
			field:  func(c *Config) any { return &c.EnablePolicyFilterDebug },
			status: later, why: whyNoFilter, help: "log the policy filter"},
	}
}

func podRows() []row {
	return []row{
		{group: "Kubernetes and containers", key: "enable-k8s-api", def: "false",
			field:  func(c *Config) any { return &c.EnableK8sAPI },
			status: later, why: whyNoPods, help: "join processes with pods"},
		{key: "k8s-kubeconfig-path", field: func(c *Config) any { return &c.K8sKubeconfigPath },
			status: later, why: whyNoPods, help: "kubeconfig"},
		{key: "k8s-controlplane-retry", def: "1", field: func(c *Config) any { return &c.K8sControlplaneRetry },
			status: accepted, why: whyNoPods, help: "attempts to connect; negative: for ever"},
		{key: "enable-pod-info", def: "false", field: func(c *Config) any { return &c.EnablePodInfo },
			status: later, why: whyNoPods, help: "use the PodInfo resource"},
		{key: "enable-pod-annotations", def: "false", field: func(c *Config) any { return &c.EnablePodAnnotations },
			status: later, why: whyNoPods, help: "add annotations of pods"},
		{key: "enable-cri", def: "false", field: func(c *Config) any { return &c.EnableCRI },
			status: later, why: whyNoCRI, help: "ask the container runtime"},
		{key: "cri-endpoint", field: func(c *Config) any { return &c.CRIEndpoint },
			status: later, why: whyNoCRI, help: "its address"},
		{key: "enable-cgidmap", def: "false", field: func(c *Config) any { return &c.EnableCgidmap },
			status: later, why: whyNoCRI, help: "find containers by cgroup id"},
		{key: "enable-cgidmap-debug", def: "false", field: func(c *Config) any { return &c.EnableCgidmapDebug },
			status: later, why: whyNoCRI, help: "log it"},
		{key: "enable-cgtrackerid", def: "true", field: func(c *Config) any { return &c.EnableCgtrackerid },
			status: accepted, why: whyNoCRI, help: "track nested cgroups"},
	}
}
