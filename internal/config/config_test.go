// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

// host is a made-up machine: a root directory and a working directory.
type host struct {
	t    *testing.T
	root string
	cwd  string
	env  []string
	out  bytes.Buffer
}

func newHost(t *testing.T) *host {
	t.Helper()
	return &host{t: t, root: t.TempDir(), cwd: t.TempDir(), env: []string{"PATH=/bin"}}
}

// write makes a file below the root, or below the working directory when the path begins with "./".
func (h *host) write(path, text string) string {
	h.t.Helper()
	full := filepath.Join(h.root, path)
	if strings.HasPrefix(path, "./") {
		full = filepath.Join(h.cwd, path)
	}
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return full
}

func (h *host) load(args ...string) (*Config, error) {
	return Load(args, Options{Root: h.root, WorkDir: h.cwd, Environ: h.env, Stdout: &h.out})
}

func (h *host) mustLoad(args ...string) *Config {
	h.t.Helper()
	c, err := h.load(args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// clean takes the temporary directories out of a message.
func (h *host) clean(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, h.cwd, "."), h.root, "")
}

func TestTable_everyFieldOnce(t *testing.T) {
	var c Config
	bound := map[any]string{}
	keys := map[string]bool{}
	for _, r := range table() {
		f := r.field(&c)
		if other, ok := bound[f]; ok {
			t.Errorf("%s and %s fill the same field", r.key, other)
		}
		if keys[r.key] {
			t.Errorf("%s is there twice", r.key)
		}
		bound[f], keys[r.key] = r.key, true
		if r.status != supported && r.why == "" {
			t.Errorf("%s: no reason given", r.key)
		}
		if r.help == "" {
			t.Errorf("%s: no help", r.key)
		}
	}
	v := reflect.ValueOf(&c).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Name == "Warnings" {
			continue
		}
		if _, ok := bound[v.Field(i).Addr().Interface()]; !ok {
			t.Errorf("field %s has no key", f.Name)
		}
	}
}

// The keys and defaults of the wire contract. Deviations are marked.
func TestTable_contract(t *testing.T) {
	want := `action-dns-server
action-hosts
allow-missing-hooks false
bpf-dir tetragon
bpf-lib /var/lib/tetragon/
btf
cgroup-rate
cluster-name
config-dir
cpuprofile
cri-endpoint
data-cache-size 1024
debug false
deleted-pod-cache-size 1024
disable-kprobe-multi false
disable-process-cache false
enable-ancestors
enable-cgidmap false
enable-cgidmap-debug false
enable-cgtrackerid true
enable-cri false
enable-deprecated-tracingpolicy-grpc false
enable-event-metrics true
enable-export-aggregation false
enable-k8s-api false
enable-msg-handling-latency false
enable-pid-set-filter false
enable-pod-annotations false
enable-pod-info false
enable-policy-filter false
enable-policy-filter-cgroup-map false
enable-policy-filter-debug false
enable-process-cred false
enable-process-environment-variables false
enable-process-ns false
enable-tracing-policy-crd true
event-cache-retries 15
event-cache-retry-delay 2
event-queue-size 10000
execve-map-entries 0
execve-map-size
export-aggregation-buffer-size 10000
export-aggregation-window-size 15s
export-allowlist
export-denylist
export-file-compress false
export-file-max-age 0s
export-file-max-backups 5
export-file-max-size-mb 10
export-file-perm 600
export-file-rotation-interval 0s
export-filename
export-rate-limit -1
export-stdout
exports
expose-stack-addresses false
field-filters
filter-environment-variables
force-large-progs false
force-small-progs false
generate-docs false
gops-address
guard off
guard-off false
health-server-address
health-server-interval 10
k8s-controlplane-retry 1
k8s-kubeconfig-path
keep-sensors-on-exit false
kernel
log-file
log-format text
log-level info
memory-budget 0
memprofile
metrics-label-filter namespace,workload,pod,binary
metrics-max-series 4096
metrics-server
netns-dir /var/run/docker/netns/
one-shot false
parents-map-enabled false
parents-map-entries 0
parents-map-size
persist-grpc-policies false
persist-grpc-policies-dir /var/run/tetragon/grpc-policies
pprof-address
process-cache-gc-interval 30s
process-cache-size 65536
procfs /proc/
rb-queue-size 65535
rb-size 0
rb-size-total 0
ready-made-policies
redaction-filters
release-pinned-bpf true
retprobes-cache-size 4096
run-dir /var/run/tetragon/
server-address unix:///var/run/tetragon/tetragon.sock
server-insecure false
server-read-only-group
server-read-only-socket
server-socket-group
server-tls-admin-names
server-tls-cert-file
server-tls-client-ca-files
server-tls-key-file
server-tls-require-client-cert false
sleepable-preload-size 32768
tracing-policy
tracing-policy-dir /etc/tetragon/tetragon.tp.d
use-perf-ring-buffer false
username-metadata disabled
verbose 0
`
	var got []string
	for _, r := range table() {
		got = append(got, strings.TrimSpace(r.key+" "+r.def))
	}
	sortStrings(got)
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(want), "\n"), got); diff != "" {
		t.Error(diff)
	}
}

func sortStrings(s []string) {
	for i := range s {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
}

func TestLoad_defaults(t *testing.T) {
	c := newHost(t).mustLoad()
	if len(c.Warnings) != 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
	for _, r := range table() {
		if c.IsSet(r.key) || c.Source(r.key) != SourceDefault {
			t.Errorf("%s: set by %s", r.key, c.Source(r.key))
		}
	}
	want := []Listener{{"unix", "/var/run/tetragon/tetragon.sock"}}
	if diff := cmp.Diff(want, c.Listeners()); diff != "" {
		t.Error(diff)
	}
	if c.ExportFilePerm != 0o600 || c.ExportMaxBytes() != 10<<20 || c.Level() != slog.LevelInfo {
		t.Errorf("perm %o, size %d, level %s", c.ExportFilePerm, c.ExportMaxBytes(), c.Level())
	}
}

// Each case adds one source that is stronger than those before it.
func TestLoad_precedence(t *testing.T) {
	h := newHost(t)
	confDir := filepath.Join(h.root, "srv/conf")
	steps := []struct {
		name string
		do   func() (args []string)
		want string
		src  string
	}{
		{"usr lib", func() []string { h.write("/usr/lib/tetragon/tetragon.conf.d/cluster-name", " a\n"); return nil },
			"a", "/usr/lib/tetragon/tetragon.conf.d/cluster-name"},
		{"usr local lib", func() []string {
			h.write("/usr/local/lib/tetragon/tetragon.conf.d/Cluster-Name", "b")
			return nil
		}, "b", "/usr/local/lib/tetragon/tetragon.conf.d/Cluster-Name"},
		{"working directory", func() []string { h.write("./tetragon.yaml", "# x\ncluster-name: c\n"); return nil },
			"c", "./tetragon.yaml:2"},
		{"etc yaml", func() []string { h.write("/etc/tetragon/tetragon.yaml", "CLUSTER-name: d"); return nil },
			"d", "/etc/tetragon/tetragon.yaml:1"},
		{"etc drop-in", func() []string { h.write("/etc/tetragon/tetragon.conf.d/cluster-name", "e"); return nil },
			"e", "/etc/tetragon/tetragon.conf.d/cluster-name"},
		{"config-dir from yaml", func() []string {
			h.write("/etc/tetragon/tetragon.yaml", "cluster-name: d\nconfig-dir: "+confDir)
			h.write("/srv/conf/cluster-name", "f")
			return nil
		}, "f", "/srv/conf/cluster-name"},
		{"environment", func() []string { h.env = append(h.env, "TETRAGON_CLUSTER_NAME=g"); return nil },
			"g", "environment TETRAGON_CLUSTER_NAME"},
		{"flag", func() []string { return []string{"--cluster-name", "h"} }, "h", "flag --cluster-name"},
		{"last flag", func() []string { return []string{"--cluster-name", "h", "--cluster-name=i"} },
			"i", "flag --cluster-name"},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			c, err := h.load(s.do()...)
			if err != nil {
				t.Fatal(err)
			}
			if c.ClusterName != s.want || h.clean(c.Source("cluster-name")) != s.src {
				t.Errorf("got %q from %s, want %q from %s", c.ClusterName, h.clean(c.Source("cluster-name")), s.want, s.src)
			}
		})
	}
}

func TestLoad_configDirFromEnvAndFlag(t *testing.T) {
	h := newHost(t)
	h.write("/one/cluster-name", "one")
	h.write("/two/cluster-name", "two")
	h.env = append(h.env, "TETRAGON_CONFIG_DIR="+filepath.Join(h.root, "one"))
	if c := h.mustLoad(); c.ClusterName != "one" {
		t.Errorf("environment: %q", c.ClusterName)
	}
	if c := h.mustLoad("--config-dir=" + filepath.Join(h.root, "two")); c.ClusterName != "two" {
		t.Errorf("flag: %q", c.ClusterName)
	}
}

func TestLoad_emptyEnvironmentIsNoValue(t *testing.T) {
	h := newHost(t)
	h.env = append(h.env, "TETRAGON_PROCESS_CACHE_SIZE=")
	if c := h.mustLoad(); c.ProcessCacheSize != 65536 {
		t.Errorf("got %d", c.ProcessCacheSize)
	}
}

func TestLoad_dropInOfTheUsersDocument(t *testing.T) {
	h := newHost(t)
	h.write("/etc/tetragon/tetragon.conf.d/enable-process-cred", "true\n")
	if c := h.mustLoad(); !c.EnableProcessCred || len(c.Warnings) != 0 {
		t.Errorf("cred %v, warnings %q", c.EnableProcessCred, c.Warnings)
	}
}

func TestLoad_packagedDropIns(t *testing.T) {
	h := newHost(t)
	for key, value := range map[string]string{
		"bpf-lib": "/usr/local/lib/tetragon/bpf/", "export-filename": "/var/log/tetragon/tetragon.log",
		"export-file-compress": "true", "server-address": "unix:///var/run/tetragon/tetragon.sock", "log-level": "info",
		"log-format": "text", "verbose": "0", "gops-address": "", "metrics-server": "",
	} {
		h.write("/usr/local/lib/tetragon/tetragon.conf.d/"+key, value+"\n")
	}
	c := h.mustLoad()
	if c.ExportFilename != "/var/log/tetragon/tetragon.log" || !c.ExportFileCompress {
		t.Errorf("%q %v", c.ExportFilename, c.ExportFileCompress)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "bpf-lib has no effect: the BPF objects are embedded") {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

// A mounted ConfigMap: ..data links to a hidden directory of the day, each key links to ..data/key.
func TestLoad_configMap(t *testing.T) {
	h := newHost(t)
	dir := "/etc/tetragon/tetragon.conf.d/"
	h.write(dir+"..2026_05_04/enable-process-ns", "true")
	h.write(dir+"..2026_05_04/export-denylist", "{\"health_check\":true}\n{\"namespace\":[\"\",\"cilium\"]}\n")
	h.write(dir+"..2026_05_04/procfs", "/procRoot")
	full := filepath.Join(h.root, dir)
	for link, to := range map[string]string{
		"..data": "..2026_05_04", "enable-process-ns": "..data/enable-process-ns",
		"export-denylist": "..data/export-denylist", "procfs": "..data/procfs",
	} {
		if err := os.Symlink(to, filepath.Join(full, link)); err != nil {
			t.Fatal(err)
		}
	}
	// As the chart starts the agent.
	c := h.mustLoad("--config-dir=" + full + "/")
	if !c.EnableProcessNs || c.ProcFS != "/procRoot" ||
		c.ExportDenylist != "{\"health_check\":true}\n{\"namespace\":[\"\",\"cilium\"]}" || len(c.Warnings) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestLoad_hiddenFileWarns(t *testing.T) {
	h := newHost(t)
	h.write("/etc/tetragon/tetragon.conf.d/.debug.swp", "x")
	if c := h.mustLoad(); len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], ".debug.swp: ignored") {
		t.Errorf("%q", c.Warnings)
	}
}

func TestLoad_emptyFileClears(t *testing.T) {
	h := newHost(t)
	dir := "/etc/tetragon/tetragon.conf.d/"
	for _, key := range []string{"server-address", "export-file-max-size-mb", "rb-size", "release-pinned-bpf", "btf"} {
		h.write(dir+key, "\n")
	}
	c := h.mustLoad()
	if c.ServerAddress != "" || c.Listeners() != nil || c.ExportFileMaxSizeMB != 0 || c.ReleasePinnedBPF {
		t.Errorf("%+v", c)
	}
	if c.ExportMaxBytes() != 100<<20 {
		t.Errorf("0 MiB stands for %d bytes", c.ExportMaxBytes())
	}
}

func TestLoad_types(t *testing.T) {
	cases := []struct {
		name string
		args []string
		yaml string
		get  func(*Config) any
		want any
	}{
		{"bool", []string{"--enable-process-ns"}, "", func(c *Config) any { return c.EnableProcessNs }, true},
		{"bool value", []string{"--enable-process-ns=false"}, "", func(c *Config) any { return c.EnableProcessNs }, false},
		{"short", []string{"-d"}, "", func(c *Config) any { return c.LogLevel }, "debug"},
		{"trace stays", []string{"-d", "--log-level=trace"}, "", func(c *Config) any { return c.Level() },
			slog.LevelDebug - 4},
		{"warning", []string{"--log-level=WARNING"}, "", func(c *Config) any { return c.Level() }, slog.LevelWarn},
		{"int", []string{"--export-rate-limit", "-1"}, "", func(c *Config) any { return c.ExportRateLimit }, -1},
		{"uint", nil, "event-queue-size: 7", func(c *Config) any { return c.EventQueueSize }, uint(7)},
		{"duration", nil, "export-file-rotation-interval: 1h30m",
			func(c *Config) any { return c.ExportFileRotationInterval }, 90 * time.Minute},
		{"size", nil, "rb-size: 64K", func(c *Config) any { return c.RBSize }, Size(64 << 10)},
		{"rate", []string{"--cgroup-rate=1000, 1s"}, "", func(c *Config) any { return c.CgroupRate }, Rate{1000, time.Second}},
		{"no rate", nil, "cgroup-rate: ''", func(c *Config) any { return c.CgroupRate }, Rate{}},
		{"size G", []string{"--rb-size-total=2G"}, "", func(c *Config) any { return c.RBSizeTotal }, Size(2 << 30)},
		{"octal", nil, "export-file-perm: 0640", func(c *Config) any { return c.ExportFilePerm }, fs.FileMode(0o640)},
		{"octal cut", nil, "export-file-perm: '777'", func(c *Config) any { return c.ExportFilePerm }, fs.FileMode(0o664)},
		{"list flags", []string{"--filter-environment-variables=A,B", "--filter-environment-variables", "C"}, "",
			func(c *Config) any { return c.FilterEnvironmentVariables }, []string{"A", "B", "C"}},
		{"list text", nil, "filter-environment-variables: A  B", func(c *Config) any { return c.FilterEnvironmentVariables },
			[]string{"A", "B"}},
		{"list yaml", nil, "filter-environment-variables: [A, B]",
			func(c *Config) any { return c.FilterEnvironmentVariables }, []string{"A", "B"}},
		{"ancestors", nil, "enable-ancestors: base,lsm", func(c *Config) any { return c.EnableAncestors },
			[]string{"base", "lsm"}},
		{"multi-line", nil, "redaction-filters: |\n  {\"redact\":[\"a\"]}\n  {}\n",
			func(c *Config) any { return c.RedactionFilters }, "{\"redact\":[\"a\"]}\n{}"},
		{"flag over list", []string{"--enable-ancestors="}, "enable-ancestors: base",
			func(c *Config) any { return len(c.EnableAncestors) }, 0},
		{"empty text clears", nil, "username-metadata: unix\nserver-address: \"\"", func(c *Config) any { return c.ServerAddress }, ""},
		{"run-dir moves the socket", []string{"--run-dir=/tmp/r"}, "", func(c *Config) any { return c.ServerAddress },
			"unix:///tmp/r/tetragon.sock"},
		{"tcp", []string{"--server-address=localhost", "--server-insecure"}, "", func(c *Config) any { return c.Listeners() },
			[]Listener{{"tcp", "localhost:54321"}, {"unix", "/var/run/tetragon/tetragon.sock"}}},
		{"tcp v6", []string{"--server-address=[::1]:1", "--server-insecure"}, "", func(c *Config) any { return c.Listeners()[0] },
			Listener{"tcp", "[::1]:1"}},
		{"empty yaml", nil, "# nothing\n", func(c *Config) any { return c.Verbose }, 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			if tc.yaml != "" {
				h.write("/etc/tetragon/tetragon.yaml", tc.yaml)
			}
			if diff := cmp.Diff(tc.want, tc.get(h.mustLoad(tc.args...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoad_bad(t *testing.T) {
	cases := []struct {
		name string
		args []string
		yaml string
		drop map[string]string
		env  []string
		want []string // one part of each line of the error, in order
	}{
		{name: "unknown flag", args: []string{"--exprt-filename=x"},
			want: []string{"flag --exprt-filename: unknown; did you mean --export-filename?"}},
		{name: "unknown flags, all told", args: []string{"--foo", "-x", "-debug", "bar", "--verbose"},
			want: []string{"flag --foo: unknown", "flag -x: unknown; there are only -d and -h",
				"flag -debug: unknown; did you mean --debug?", `argument "bar": unexpected`,
				"flag --verbose: needs a value: a whole number"}},
		{name: "values of flags",
			args: []string{"--cgroup-rate=0,1s", "--debug=maybe", "--verbose=x", "--rb-size=64Q", "--export-file-perm=9",
				"--process-cache-gc-interval=5", "--event-queue-size=-1", "--export-filename=", "--verbose="},
			want: []string{`flag --debug: "maybe" is not true or false`, `flag --export-file-perm: "9" is not a file mode`,
				`flag --cgroup-rate: "0,1s" is not a number of events`, `flag --verbose: needs a value`, `flag --rb-size: "64Q" is not a size`,
				`flag --event-queue-size: "-1" is not a whole number from 0 up`,
				`flag --process-cache-gc-interval: "5" is not a duration such as 30s`}},
		{name: "yaml", yaml: "debug: 1\nlog-level: loud\nexport-filenam: x\ndebug: true\nrb-size: {a: 1}\nverbose: [1, 2]\n",
			want: []string{`/etc/tetragon/tetragon.yaml:3: unknown key "export-filenam"; did you mean export-filename?`,
				"/etc/tetragon/tetragon.yaml:4: debug: already set on line 1",
				"/etc/tetragon/tetragon.yaml:5: rb-size: takes a value or a list of values, not a map",
				`/etc/tetragon/tetragon.yaml:2: log-level: "loud" is not one of trace, debug`,
				"/etc/tetragon/tetragon.yaml:6: verbose: takes one value, not a list"}},
		{name: "broken yaml", yaml: "a: b: c\n", want: []string{"/etc/tetragon/tetragon.yaml: mapping values are not allowed"}},
		{name: "yaml list", yaml: "- a\n", want: []string{"/etc/tetragon/tetragon.yaml: not a map"}},
		{name: "two documents", yaml: "debug: true\n---\ndebug: false\n",
			want: []string{"/etc/tetragon/tetragon.yaml: holds more than one document"}},
		{name: "drop-ins", drop: map[string]string{"exprt-filename": "x", "rb-size": "big"},
			want: []string{`tetragon.conf.d/exprt-filename: unknown key "exprt-filename"; did you mean export-filename?`,
				`tetragon.conf.d/rb-size: "big" is not a size`}},
		{name: "overridden mistake", args: []string{"--verbose=1"}, drop: map[string]string{"verbose": "much"},
			want: []string{`tetragon.conf.d/verbose: "much" is not a whole number`}},
		{name: "environment", env: []string{"TETRAGON_ENABLE_PROCESS_NS=perhaps"},
			want: []string{`environment TETRAGON_ENABLE_PROCESS_NS: "perhaps" is not true or false`}},
		{name: "commas in a file", yaml: "filter-environment-variables: A,B",
			want: []string{"names are separated by white space here, not by commas"}},
		{name: "ancestors", args: []string{"--enable-ancestors=base,exec"},
			want: []string{`flag --enable-ancestors: "exec" is not one of base, kprobe`}},
		{name: "export-stdout", args: []string{"--export-stdout=yaml"},
			want: []string{`flag --export-stdout: "yaml" is not one of "" (empty), json, compact`}},
		{name: "not yet supported", args: []string{"--enable-k8s-api", "--enable-policy-filter"},
			want: []string{"flag --enable-policy-filter: not yet supported, policies hold for all processes; remove it",
				`flag --enable-k8s-api: not yet supported, Kubernetes is not supported yet; remove it, or set it to its default ("false")`}},
		{name: "start-up checks",
			args: []string{"--tracing-policy-dir=rel", "--rb-size=1M", "--rb-size-total=1M", "--execve-map-entries=1",
				"--execve-map-size=1K", "--parents-map-entries=1", "--parents-map-size=1K", "--force-small-progs",
				"--force-large-progs", "--bpf-dir=a/b", "--procfs=proc", "--server-address=unix://x", "--metrics-server=2112",
				"--health-server-address=:70000", "--pprof-address=a b:1"},
			want: []string{"flag --rb-size: cannot be combined with rb-size-total (flag --rb-size-total)",
				"flag --execve-map-entries: cannot", "flag --parents-map-entries: cannot", "flag --force-small-progs: cannot",
				`flag --procfs: "proc" is not an absolute path`, `flag --tracing-policy-dir: "rel" is not an absolute path`,
				`flag --bpf-dir: "a/b" is not the name of a directory`, `flag --server-address: "unix://x" does not name`,
				`flag --health-server-address: ":70000": the port "70000"`, `flag --metrics-server: "2112" is not host:port`,
				`flag --pprof-address: "a b:1": "a b" is not the name of a host`,
				"flag --tracing-policy-dir: stat rel"}},
		{name: "numbers", args: []string{"--process-cache-size=0", "--event-queue-size=0", "--verbose=3",
			"--process-cache-gc-interval=0", "--export-rate-limit=-2", "--export-file-rotation-interval=-1s"},
			want: []string{"process-cache-size: 0 is too small", "event-queue-size: 0 is too small",
				"export-rate-limit: -2 is too small; the least is -1", "verbose: 3 is not 0, 1 or 2",
				"process-cache-gc-interval: 0s is not above 0", "rotation-interval: -1s is negative"}},
		{name: "tls", args: []string{"--server-tls-key-file=k", "--server-tls-client-ca-files=a"},
			want: []string{"server-tls-key-file: needs server-tls-cert-file", "client-ca-files: needs server-tls-require-client-cert"}},
		{name: "TCP without TLS", args: []string{"--server-address=localhost:1"}, want: []string{"server-address: TCP needs server-tls-cert-file"}},
		{name: "roles", args: []string{"--server-tls-admin-names=a", "--server-read-only-group=b"},
			want: []string{"server-tls-admin-names: needs server-tls-require-client-cert", "server-read-only-group: needs server-read-only-socket"}},
		{name: "read-only socket", args: []string{"--server-read-only-socket=r.sock"}, want: []string{`"r.sock" is not an absolute path`}},
		{name: "config-dir", args: []string{"--config-dir=/nowhere/at/all"},
			want: []string{"read configuration directory: open /nowhere/at/all: no such file"}},
		{name: "empty enumeration", drop: map[string]string{"username-metadata": ""},
			want: []string{`username-metadata: "" is not one of disabled, unix`}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			if tc.yaml != "" {
				h.write("/etc/tetragon/tetragon.yaml", tc.yaml)
			}
			for key, value := range tc.drop {
				h.write("/etc/tetragon/tetragon.conf.d/"+key, value)
			}
			h.env = append(h.env, tc.env...)
			_, err := h.load(tc.args...)
			if err == nil {
				t.Fatal("accepted")
			}
			lines := strings.Split(h.clean(err.Error()), "\n")
			if len(lines) != len(tc.want) {
				t.Fatalf("%d errors, want %d:\n%s", len(lines), len(tc.want), err)
			}
			for i, want := range tc.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("error %d:\n got %s\nwant %s", i, lines[i], want)
				}
			}
		})
	}
}

func TestLoad_unreadableDropIns(t *testing.T) {
	h := newHost(t)
	dir := filepath.Dir(h.write("/etc/tetragon/tetragon.conf.d/debug", "true"))
	if err := os.Symlink("nowhere", filepath.Join(dir, "btf")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "verbose"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.write("/etc/tetragon/tetragon.conf.d/log-file", strings.Repeat("x", maxFileSize+1))
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := h.load()
	for _, want := range []string{"conf.d/btf: no such file", "conf.d/verbose: not a regular file", "conf.d/log-file: bigger"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in: %v", want, err)
		}
	}
	if errors.Is(err, ErrDone) {
		t.Error("done")
	}
}

func TestLoad_policyDir(t *testing.T) {
	t.Run("a file", func(t *testing.T) {
		h := newHost(t)
		h.write("/etc/tetragon/tetragon.tp.d", "x")
		_, err := h.load()
		want := "default: tracing-policy-dir: /etc/tetragon/tetragon.tp.d is not a directory"
		if err == nil || h.clean(err.Error()) != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
	t.Run("missing usual one", func(t *testing.T) { newHost(t).mustLoad() })
	t.Run("empty is fine", func(t *testing.T) {
		h := newHost(t)
		if err := os.MkdirAll(filepath.Join(h.root, defaultPolicyDir, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		h.mustLoad()
	})
	t.Run("missing custom one", func(t *testing.T) {
		if _, err := newHost(t).load("--tracing-policy-dir=/nowhere/at/all"); err == nil {
			t.Error("accepted")
		}
	})
}

func TestLoad_warnings(t *testing.T) {
	h := newHost(t)
	h.env = append(h.env, "TETRAGON_SERVICE_HOST=10.0.0.1", "TETRAGON_PORT_2112_TCP=tcp://x", "TETRAGON_EXPRT_FILENAME=x")
	c := h.mustLoad("--execve-map-entries=5", "--enable-ancestors=kprobe", "--filter-environment-variables=A")
	want := []string{
		`environment TETRAGON_EXPRT_FILENAME: ignored, there is no key "exprt-filename"; did you mean export-filename?`,
		"flag --execve-map-entries: execve-map-entries has no effect: processes live in task storage, which grows with them",
		`flag --enable-ancestors: has no effect without "base"; add it to the list`,
		"flag --filter-environment-variables: has no effect without enable-process-environment-variables",
	}
	if diff := cmp.Diff(want, c.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestLoad_help(t *testing.T) {
	h := newHost(t)
	if _, err := h.load("--help"); !errors.Is(err, ErrDone) {
		t.Fatal(err)
	}
	for _, r := range table() {
		if got := strings.Contains(h.out.String(), "--"+r.key+" "); got == r.hidden {
			t.Errorf("%s: in the help text: %v", r.key, got)
		}
	}
}

// What --generate-docs prints names every key that is shown, once.
func TestLoad_generateDocs(t *testing.T) {
	h := newHost(t)
	if _, err := h.load("--generate-docs"); !errors.Is(err, ErrDone) {
		t.Fatal(err)
	}
	var d description
	if err := yaml.Unmarshal([]byte(h.out.String()), &d); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range table() {
		if r.hidden {
			continue
		}
		if n >= len(d.Options) || d.Options[n].Name != r.key || d.Options[n].Default != r.def || d.Options[n].Usage == "" {
			t.Fatalf("option %d is not %s", n, r.key)
		}
		n++
	}
	if d.Name != "tetragon" || n != len(d.Options) {
		t.Errorf("%q, %d options, want %d", d.Name, len(d.Options), n)
	}
}

// What --print-config prints is a configuration file that means the same.
func TestLoad_printConfig(t *testing.T) {
	h := newHost(t)
	h.write("/etc/tetragon/tetragon.conf.d/export-denylist", "{\"namespace\":[\"\"]}\n{}")
	args := []string{"--enable-ancestors=base,lsm", "--rb-size=64K", "--cluster-name=a \"b\"\x1b", "--export-file-perm=640"}
	first := h.mustLoad(args...)
	if _, err := h.load(append(args, "--print-config")...); !errors.Is(err, ErrDone) {
		t.Fatal(err)
	}
	text := h.out.String()
	for _, want := range []string{"rb-size: 64K  # flag --rb-size\n", "verbose: 0  # default\n",
		"enable-ancestors: [\"base\", \"lsm\"]  # flag --enable-ancestors\n", "btf: \"\"  # default\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %q in\n%s", want, text)
		}
	}
	again := newHost(t)
	again.write("/etc/tetragon/tetragon.yaml", text)
	second := again.mustLoad()
	first.sources, second.sources = nil, nil
	if diff := cmp.Diff(first, second, cmp.AllowUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1": 1, "4K": 4096, "3M": 3 << 20, "1G": 1 << 30, "1025": 1025} {
		got, err := ParseSize(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: %d (%s), %v", text, got, got, err)
		}
	}
	for _, text := range []string{"", "K", "1k", "-1", "1.5M", "1KB", "99999999999G", "9223372036854775808"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: accepted as %d", text, got)
		}
	}
}

func TestNodeName(t *testing.T) {
	env := map[string]string{"NODE_NAME": "n"}
	get := func(k string) string { return env[k] }
	hostname := func() (string, error) { return "h", nil }
	for _, want := range []string{"n", "hubble", "h"} {
		if got, err := NodeName(get, hostname); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		if want == "n" {
			env["HUBBLE_NODE_NAME"] = "hubble"
		} else {
			clear(env)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("--rb-size=4K\x00-d", "debug: true\nfilter-environment-variables: [a]\n", "x")
	f.Add("--help\x00--", "debug: &b [*b]\n", "")
	f.Add("--print-config", "? {a: b}\n: c\n<<: {debug: true}", "\xff")
	f.Fuzz(func(t *testing.T, args, yamlText, drop string) {
		h := newHost(t)
		h.write("/etc/tetragon/tetragon.yaml", yamlText)
		h.write("/etc/tetragon/tetragon.conf.d/export-filename", drop)
		c, err := h.load(strings.Split(args, "\x00")...)
		if (c == nil) == (err == nil) {
			t.Errorf("config %v, error %v", c, err)
		}
	})
}

// TestChanges: a new configuration is taken over key by key, and only where the agent can.
func TestChanges(t *testing.T) {
	h := newHost(t)
	h.write("/etc/tetragon/tetragon.yaml", "log-level: info\nrun-dir: /run/a\nexport-allowlist: '{}'\n")
	old := h.mustLoad()
	h.write("/etc/tetragon/tetragon.yaml", "run-dir: /run/b\n\nlog-level: debug\nexport-file-compress: true\n")
	next := h.mustLoad()
	live, restart := Changes(old, next)
	if d := cmp.Diff([]string{"log-level", "export-file-compress", "export-allowlist"}, live); d != "" {
		t.Errorf("live (-want +got):\n%s", d)
	}
	// The default address is below run-dir.
	if d := cmp.Diff([]string{"run-dir", "server-address"}, restart); d != "" {
		t.Errorf("restart (-want +got):\n%s", d)
	}
	got := old.With(next, live)
	if got.LogLevel != "debug" || !got.ExportFileCompress || got.ExportAllowlist != "" || got.RunDir != "/run/a" {
		t.Errorf("taken over: %+v", got)
	}
	if s := got.Source("log-level"); !strings.HasSuffix(s, "tetragon.yaml:3") {
		t.Errorf("source of log-level is %s, want line 3", s)
	}
	if got.IsSet("export-allowlist") || !got.IsSet("run-dir") || old.LogLevel != "info" || !old.IsSet("export-allowlist") {
		t.Error("sources were mixed up")
	}
}

// TestLoad_emptyValues: whoever leaves a value out is told, as far as that is not a way to clear a key.
func TestLoad_emptyValues(t *testing.T) {
	h := newHost(t)
	h.write("/etc/tetragon/tetragon.yaml", "metrics-server: \"\"\nlog-file:\nverbose: ~\n")
	_, err := h.load()
	want := "/etc/tetragon/tetragon.yaml:2: log-file: has no value; write one, \"\" to clear it, or remove the line\n" +
		"/etc/tetragon/tetragon.yaml:3: verbose: has no value; write one, \"\" to clear it, or remove the line"
	if err == nil || h.clean(err.Error()) != want {
		t.Errorf("got %v, want %s", err, want)
	}
	h.write("/etc/tetragon/tetragon.yaml", "metrics-server: \"\"\n")
	h.env = []string{"TETRAGON_METRICS_SERVER="}
	c := h.mustLoad()
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "TETRAGON_METRICS_SERVER: ignored, it is empty") {
		t.Errorf("warnings: %q", c.Warnings)
	}
}
