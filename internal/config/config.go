// SPDX-License-Identifier: Apache-2.0

package config

import (
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Config holds the value of every key. The comment of a field says what the agent needs to know beyond the key's help
// text in keys.go; fields of keys that are accepted without effect, or not yet supported, are here as well, so that
// the effective configuration can be shown whole.
type Config struct {
	// General.

	ConfigDir string // one file a key; read last among the files
	RunDir    string // pid file, info file, default socket
	Debug     bool   // already folded into LogLevel
	LogLevel  string // trace, debug, info, warn, error, panic or fatal
	LogFormat string // text, text-ts, json or json-ts
	LogFile   string // in addition to standard output; truncated at start

	// Kernel side.

	BPFLib             string
	BTF                string // empty: search the usual places
	Kernel             string
	Verbose            int // verifier log: 0 none, 1 short, 2 whole
	ForceSmallProgs    bool
	ForceLargeProgs    bool
	ProcFS             string // absolute
	NetnsDir           string
	BPFDir             string // one path component below the bpffs root
	ReleasePinnedBPF   bool
	KeepSensorsOnExit  bool
	OneShot            bool
	Guard              string
	GuardOff           bool
	DisableKprobeMulti bool

	// Buffers and caches.

	MemoryBudget           Size // 0: no limit
	UsePerfRingBuffer      bool
	RBSize                 Size // per CPU; 0: the built-in default
	RBSizeTotal            Size // over all CPUs; 0: see RBSize
	RBQueueSize            Size
	EventQueueSize         uint // events, for each subscriber; at least 1
	ProcessCacheSize       int  // processes; at least 1
	ProcessCacheGCInterval time.Duration
	DisableProcessCache    bool
	DataCacheSize          int
	DeletedPodCacheSize    int
	EventCacheRetries      int
	EventCacheRetryDelay   int
	ExecveMapEntries       int
	ExecveMapSize          Size
	ParentsMapEnabled      bool
	ParentsMapEntries      int
	ParentsMapSize         Size
	RetprobesCacheSize     int
	SleepablePreloadSize   int

	// Servers.

	ServerAddress             string // see Listeners
	ServerTLSCertFile         string
	ServerTLSKeyFile          string
	ServerTLSClientCAFiles    []string
	ServerTLSRequireCert      bool
	ServerTLSAdminNames       []string // names in certificates whose clients may change policies; empty: all of them
	ServerInsecure            bool     // TCP may do without TLS
	ServerSocketGroup         string   // empty: the socket is its owner's alone
	ServerReadOnlySocket      string   // absolute path of a socket whose clients may only read; empty: none
	ServerReadOnlyGroup       string
	EnableDeprecatedPolicyRPC bool
	PersistGRPCPolicies       bool
	PersistGRPCPoliciesDir    string
	HealthServerAddress       string // empty: no health server
	HealthServerInterval      int
	MetricsServer             string // empty: no metrics server
	EnableEventMetrics        bool
	MetricsLabelFilter        []string
	MetricsMaxSeries          int
	EnableMsgHandlingLatency  bool
	GopsAddress               string
	PprofAddress              string // empty: no profiling server
	CPUProfile                string
	MemProfile                string
	GenerateDocs              bool

	// Export.

	ExportFilename              string // empty: no file
	ExportStdout                string // empty, json or compact; logs then go to standard error
	ExportFileMaxSizeMB         int    // as written; see ExportMaxBytes
	ExportFileRotationInterval  time.Duration
	ExportFileMaxBackups        int           // 0: keep all
	ExportFileMaxAge            time.Duration // 0: keep them however old
	ExportFileCompress          bool          // gzip rotated files
	Exports                     string        // concatenated JSON objects, syntax unchecked here
	ExportFilePerm              fs.FileMode
	ExportRateLimit             int    // events a minute; -1: no limit; 0: no export
	ExportAllowlist             string // concatenated JSON objects, syntax unchecked here
	ExportDenylist              string // the same
	FieldFilters                string // concatenated JSON objects, syntax unchecked here
	RedactionFilters            string // concatenated JSON objects, syntax unchecked here
	EnableExportAggregation     bool
	ExportAggregationWindowSize time.Duration
	ExportAggregationBufferSize uint
	EnablePidSetFilter          bool

	// What events say.

	ClusterName                string
	EnableProcessCred          bool
	EnableProcessNs            bool
	EnableProcessEnv           bool
	FilterEnvironmentVariables []string // names to keep; empty: all
	EnableAncestors            []string // event kinds; without "base" nothing happens
	UsernameMetadata           string   // disabled or unix
	ExposeStackAddresses       bool
	CgroupRate                 Rate

	// Policies.

	TracingPolicy               string
	TracingPolicyDir            string
	ReadyMadePolicies           []string // names, or "all"
	ActionHosts                 []string // who may be asked by GetUrl and DnsLookup
	ActionDNSServer             string
	AllowMissingHooks           bool
	EnableTracingPolicyCRD      bool
	EnablePolicyFilter          bool
	EnablePolicyFilterCgroupMap bool
	EnablePolicyFilterDebug     bool

	// Kubernetes and containers.

	EnableK8sAPI         bool
	K8sKubeconfigPath    string
	K8sControlplaneRetry int
	EnablePodInfo        bool
	EnablePodAnnotations bool
	EnableCRI            bool
	CRIEndpoint          string
	EnableCgidmap        bool
	EnableCgidmapDebug   bool
	EnableCgtrackerid    bool

	// Warnings are what the user should read although the agent can start, in the order of the sources. The daemon
	// logs them once its logger stands.
	Warnings []string

	sources map[string]string // key -> where its value comes from; no entry: the default
}

// SourceDefault is what Source says of a key that nobody set.
const SourceDefault = "default"

// Source says where the value of key comes from: "flag --key", "environment TETRAGON_KEY", a file (YAML with its line),
// or SourceDefault.
func (c *Config) Source(key string) string {
	if s, ok := c.sources[key]; ok {
		return s
	}
	return SourceDefault
}

// IsSet says whether anyone set key, be it to its default.
func (c *Config) IsSet(key string) bool {
	_, ok := c.sources[key]
	return ok
}

// Setting is one key of the effective configuration.
type Setting struct {
	Key    string
	Value  any    // string, bool, int, uint, time.Duration, Size, []string or fs.FileMode
	Text   string // as it would be written in a drop-in file
	Source string // see Config.Source
}

// Settings returns the effective configuration, in the order of the help text.
func (c *Config) Settings() []Setting {
	rows := table()
	out := make([]Setting, 0, len(rows))
	for i := range rows {
		f := rows[i].field(c)
		out = append(out, Setting{
			Key: rows[i].key, Value: valueOf(f), Text: format(f), Source: c.Source(rows[i].key),
		})
	}
	return out
}

// Changes compares two configurations. live are the keys whose new value the running agent can take over, restart those
// that it looks at only when it starts.
func Changes(old, now *Config) (live, restart []string) {
	rows := table()
	for i := range rows {
		r := &rows[i]
		switch {
		case format(r.field(old)) == format(r.field(now)):
		case r.live:
			live = append(live, r.key)
		default:
			restart = append(restart, r.key)
		}
	}
	return live, restart
}

// With returns a copy of c in which the named keys have the values, and the sources, that they have in next.
func (c *Config) With(next *Config, keys []string) *Config {
	out := *c
	out.sources = maps.Clone(c.sources)
	rows := table()
	for i := range rows {
		r := &rows[i]
		if !slices.Contains(keys, r.key) {
			continue
		}
		reflect.ValueOf(r.field(&out)).Elem().Set(reflect.ValueOf(r.field(next)).Elem())
		delete(out.sources, r.key)
		if next.IsSet(r.key) {
			out.sources[r.key] = next.Source(r.key)
		}
	}
	return &out
}

// Level returns LogLevel as a level of log/slog: trace lies four below debug, panic and fatal four above error.
func (c *Config) Level() slog.Level {
	switch c.LogLevel {
	case "trace":
		return slog.LevelDebug - 4
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	case "panic", "fatal":
		return slog.LevelError + 4
	}
	return slog.LevelInfo
}

// ExportMaxBytes returns the size above which the export file is rotated. The key's 0 stands for 100 MiB.
func (c *Config) ExportMaxBytes() int64 {
	mb := int64(c.ExportFileMaxSizeMB)
	if mb == 0 {
		mb = 100
	}
	return mb << 20
}

// Listener is an address to serve on, in the words of package net.
type Listener struct{ Network, Address string }

// Listeners returns the addresses that server-address stands for: none, a unix socket, or TCP and a unix socket in the
// run directory.
func (c *Config) Listeners() []Listener {
	switch {
	case c.ServerAddress == "":
		return nil
	case strings.HasPrefix(c.ServerAddress, unixScheme):
		return []Listener{{"unix", strings.TrimPrefix(c.ServerAddress, unixScheme)}}
	}
	addr := c.ServerAddress
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), defaultGRPCPort)
	}
	return []Listener{{"tcp", addr}, {"unix", filepath.Join(c.RunDir, "tetragon.sock")}}
}

const (
	unixScheme      = "unix://"
	defaultGRPCPort = "54321"
)

// NodeName returns the name under which this machine appears in events: the first that is not empty of HUBBLE_NODE_NAME,
// NODE_NAME and the host's name.
func NodeName(getenv func(string) string, hostname func() (string, error)) (string, error) {
	for _, v := range []string{"HUBBLE_NODE_NAME", "NODE_NAME"} {
		if s := getenv(v); s != "" {
			return s, nil
		}
	}
	return hostname()
}
