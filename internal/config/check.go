// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// check looks at the values together, folds those that stand for others, and returns everything that forbids a start.
func (c *Config) check(rows []row, opts Options) []error {
	ck := &checker{c: c}
	defaults := &Config{}
	for i := range rows {
		r := &rows[i]
		// Errors of defaults were told by assign.
		_ = r.set(r.field(defaults), raw{text: r.def})
		if !c.IsSet(r.key) || format(r.field(c)) == format(r.field(defaults)) {
			continue
		}
		switch r.status {
		case later:
			ck.fail(r.key, "not yet supported, %s; remove it, or set it to its default (%q)", r.why, r.def)
		case accepted:
			c.Warnings = append(c.Warnings, fmt.Sprintf("%s: %s has no effect: %s", c.Source(r.key), r.key, r.why))
		}
	}
	ck.numbers()
	ck.pairs()
	ck.paths()
	ck.addresses()
	ck.policyDir(opts)
	c.fold()
	return ck.errs
}

type checker struct {
	c    *Config
	errs []error
}

// fail notes an error about key, with the place where its value was set.
func (ck *checker) fail(key, format string, args ...any) {
	ck.errs = append(ck.errs, fmt.Errorf("%s: %s", ck.place(key), fmt.Sprintf(format, args...)))
}

func (ck *checker) place(key string) string {
	s := ck.c.Source(key)
	if strings.HasPrefix(s, "flag ") {
		return s
	}
	return s + ": " + key
}

func (ck *checker) numbers() {
	c := ck.c
	atLeast := func(key string, v, least int) {
		if v < least {
			ck.fail(key, "%d is too small; the least is %d", v, least)
		}
	}
	atLeast("process-cache-size", c.ProcessCacheSize, 1)
	atLeast("event-queue-size", int(min(c.EventQueueSize, 1)), 1)
	atLeast("export-file-max-size-mb", c.ExportFileMaxSizeMB, 0)
	atLeast("export-file-max-backups", c.ExportFileMaxBackups, 0)
	atLeast("export-rate-limit", c.ExportRateLimit, -1)
	atLeast("metrics-max-series", c.MetricsMaxSeries, 1)
	atLeast("health-server-interval", c.HealthServerInterval, 1)
	const leastBudget = 32 << 20 // heap of an idle agent, ring, maps and the tables of policies, as tetra status shows them
	switch b := c.MemoryBudget; {
	case b > 0 && b < leastBudget:
		ck.fail("memory-budget", "%s is too small; the least is %s, and 0 is no limit", b, Size(leastBudget))
	case b > 0 && c.RBSizeTotal > b/2:
		ck.fail("rb-size-total", "%s is more than half of memory-budget (%s)", c.RBSizeTotal, b)
	}
	if c.ExportFileMaxSizeMB > 1<<30 {
		ck.fail("export-file-max-size-mb", "%d MiB is more than a file can hold", c.ExportFileMaxSizeMB)
	}
	if c.Verbose < 0 || c.Verbose > 2 {
		ck.fail("verbose", "%d is not 0, 1 or 2", c.Verbose)
	}
	if c.ProcessCacheGCInterval <= 0 {
		ck.fail("process-cache-gc-interval", "%s is not above 0", c.ProcessCacheGCInterval)
	}
	if c.ExportFileMaxAge < 0 {
		ck.fail("export-file-max-age", "%s is negative; 0 means however old", c.ExportFileMaxAge)
	}
	if c.ExportFileRotationInterval < 0 {
		ck.fail("export-file-rotation-interval", "%s is negative; 0 means never", c.ExportFileRotationInterval)
	}
	if c.K8sControlplaneRetry == 0 {
		ck.fail("k8s-controlplane-retry", "0 is invalid; negative means for ever")
	}
}

// pairs holds the rules between keys.
func (ck *checker) pairs() {
	c := ck.c
	notBoth := func(a, b string, both bool) {
		if both {
			ck.fail(a, "cannot be combined with %s (%s); remove one", b, c.Source(b))
		}
	}
	notBoth("rb-size", "rb-size-total", c.RBSize > 0 && c.RBSizeTotal > 0)
	notBoth("execve-map-entries", "execve-map-size", c.ExecveMapEntries != 0 && c.ExecveMapSize != 0)
	notBoth("parents-map-entries", "parents-map-size", c.ParentsMapEntries != 0 && c.ParentsMapSize != 0)
	notBoth("force-small-progs", "force-large-progs", c.ForceSmallProgs && c.ForceLargeProgs)

	if (c.ServerTLSCertFile == "") != (c.ServerTLSKeyFile == "") {
		key, other := "server-tls-cert-file", "server-tls-key-file"
		if c.ServerTLSCertFile == "" {
			key, other = other, key
		}
		ck.fail(key, "needs %s as well", other)
	}
	if c.ServerTLSRequireCert && (c.ServerTLSCertFile == "" || len(c.ServerTLSClientCAFiles) == 0) {
		ck.fail("server-tls-require-client-cert",
			"needs server-tls-cert-file, server-tls-key-file and server-tls-client-ca-files")
	}
	if len(c.ServerTLSClientCAFiles) > 0 && !c.ServerTLSRequireCert {
		ck.fail("server-tls-client-ca-files", "needs server-tls-require-client-cert")
	}
	if c.ServerTLSCertFile != "" && (c.ServerAddress == "" || strings.HasPrefix(c.ServerAddress, unixScheme)) {
		ck.fail("server-tls-cert-file", "needs a TCP address in server-address")
	}
	tcp := c.ServerAddress != "" && !strings.HasPrefix(c.ServerAddress, unixScheme)
	switch {
	case tcp && c.ServerTLSCertFile == "" && !c.ServerInsecure:
		ck.fail("server-address", "TCP needs server-tls-cert-file and server-tls-key-file; use unix:///path, or, if everybody who "+
			"reaches the port may read all events, server-insecure")
	case c.ServerInsecure && (!tcp || c.ServerTLSCertFile != ""):
		c.Warnings = append(c.Warnings, ck.place("server-insecure")+": has no effect: there is no TCP without TLS")
	}
	if len(c.ServerTLSAdminNames) > 0 && !c.ServerTLSRequireCert {
		ck.fail("server-tls-admin-names", "needs server-tls-require-client-cert")
	}
	if c.ServerReadOnlyGroup != "" && c.ServerReadOnlySocket == "" {
		ck.fail("server-read-only-group", "needs server-read-only-socket")
	}
	if c.ServerReadOnlySocket != "" && !filepath.IsAbs(c.ServerReadOnlySocket) {
		ck.fail("server-read-only-socket", "%q is not an absolute path", c.ServerReadOnlySocket)
	}

	if len(c.EnableAncestors) > 0 && !contains(c.EnableAncestors, "base") {
		c.Warnings = append(c.Warnings, ck.place("enable-ancestors")+
			": has no effect without \"base\"; add it to the list")
	}
	if len(c.FilterEnvironmentVariables) > 0 && !c.EnableProcessEnv {
		c.Warnings = append(c.Warnings, ck.place("filter-environment-variables")+
			": has no effect without enable-process-environment-variables")
	}
	if c.ExportRateLimit == 0 && c.ExportFilename != "" {
		c.Warnings = append(c.Warnings, ck.place("export-rate-limit")+": 0 means that nothing is exported; -1 is no limit")
	}
}

func (ck *checker) paths() {
	c := ck.c
	for _, p := range []struct{ key, path string }{
		{"procfs", c.ProcFS}, {"run-dir", c.RunDir}, {"tracing-policy-dir", c.TracingPolicyDir},
	} {
		if !filepath.IsAbs(p.path) {
			ck.fail(p.key, "%q is not an absolute path", p.path)
		}
	}
	if c.BPFDir == "" || c.BPFDir == "." || c.BPFDir == ".." || strings.ContainsAny(c.BPFDir, "/.\x00") {
		ck.fail("bpf-dir", "%q is not the name of a directory of a BPF file system; write one name without a slash and without a dot", c.BPFDir)
	}
}

func (ck *checker) addresses() {
	c := ck.c
	if a := c.ServerAddress; a != "" {
		switch {
		case strings.HasPrefix(a, unixScheme):
			if p := strings.TrimPrefix(a, unixScheme); !filepath.IsAbs(p) {
				ck.fail("server-address", "%q does not name an absolute path; write unix:///path", a)
			}
		case strings.HasPrefix(a, "unix:"), strings.HasPrefix(a, "/"):
			ck.fail("server-address", "%q is neither unix:///path nor host:port", a)
		default:
			ck.hostPort("server-address", a, true)
		}
	}
	for _, s := range []struct{ key, addr string }{
		{"health-server-address", c.HealthServerAddress}, {"metrics-server", c.MetricsServer},
		{"pprof-address", c.PprofAddress}, {"gops-address", c.GopsAddress},
	} {
		if s.addr != "" {
			ck.hostPort(s.key, s.addr, false)
		}
	}
}

// hostPort checks a TCP address. bareHost says that the port may be left out.
func (ck *checker) hostPort(key, addr string, bareHost bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		if bareHost && !strings.Contains(addr, ":") || bareHost && net.ParseIP(strings.Trim(addr, "[]")) != nil {
			host, port = addr, defaultGRPCPort
		} else {
			ck.fail(key, "%q is not host:port", addr)
			return
		}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		ck.fail(key, "%q: the port %q is not a number up to 65535", addr, port)
	}
	if strings.ContainsAny(host, "/ \t\n") {
		ck.fail(key, "%q: %q is not the name of a host", addr, host)
	}
}

// policyDir wants the directory of policies to be one; only the usual one may be missing.
func (ck *checker) policyDir(opts Options) {
	dir := ck.c.TracingPolicyDir
	isDefault := filepath.Clean(dir) == defaultPolicyDir
	if isDefault {
		dir = filepath.Join(opts.Root, dir)
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist) && isDefault:
	case err != nil:
		ck.fail("tracing-policy-dir", "%v", err)
	case !info.IsDir():
		ck.fail("tracing-policy-dir", "%s is not a directory", dir)
	}
}

// fold replaces values that stand for others.
func (c *Config) fold() {
	if c.LogLevel == "warning" {
		c.LogLevel = "warn"
	}
	if c.Debug && c.LogLevel != "trace" {
		c.LogLevel = "debug"
	}
	if !c.IsSet("server-address") {
		c.ServerAddress = unixScheme + filepath.Join(c.RunDir, "tetragon.sock")
	}
	const may, must = 0o664, 0o600
	if perm := c.ExportFilePerm&may | must; perm != c.ExportFilePerm {
		if c.ExportFilePerm != 0 {
			c.Warnings = append(c.Warnings, fmt.Sprintf("%s: export-file-perm %o becomes %o: only the bits of %o count, "+
				"and the owner can always read and write", c.Source("export-file-perm"), c.ExportFilePerm, perm, may))
		}
		c.ExportFilePerm = perm
	}
}
