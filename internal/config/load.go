// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"
)

// ErrDone is returned when the command line asked only for a text, which has been written: the program ends with 0.
var ErrDone = errors.New("nothing left to do")

// Options are what Load needs to know of the world. The zero value is the real one.
type Options struct {
	Root    string    // put before the built-in paths (/etc/tetragon, /usr/lib/tetragon, ...); for tests
	WorkDir string    // where ./tetragon.yaml is looked for; empty: the working directory
	Environ []string  // empty: the process's own
	Stdout  io.Writer // for --help and --print-config; nil: standard output
}

// Load reads the configuration from all its sources, the stronger over the weaker: flags, environment, config-dir,
// /etc/tetragon/tetragon.conf.d, /etc/tetragon/tetragon.yaml, ./tetragon.yaml, /usr/local/lib/tetragon/tetragon.conf.d,
// /usr/lib/tetragon/tetragon.conf.d, built-in defaults. args is the command line without the program's name.
//
// The error joins everything that is wrong. It is ErrDone after --help, --print-config and --generate-docs.
func Load(args []string, opts Options) (*Config, error) {
	if opts.Environ == nil {
		opts.Environ = os.Environ()
	}
	if opts.Stdout == nil {
		opts.Stdout = os.Stdout
	}
	rows := table()
	cl, errs := parseFlags(args, rows)
	if cl.help {
		if err := writeHelp(opts.Stdout, rows); err != nil {
			return nil, fmt.Errorf("write help: %w", err)
		}
		return nil, ErrDone
	}
	l := &loader{opts: opts, rows: rows, byKey: map[string]*row{}, found: map[string][]raw{}, errs: errs}
	for i := range rows {
		l.byKey[rows[i].key] = &rows[i]
	}
	l.readAll(cl)
	c := l.assign()
	if len(l.errs) == 0 {
		// What follows looks at values together; with a value missing it would complain about the default.
		l.errs = c.check(rows, opts)
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	if c.GenerateDocs {
		if err := writeDescription(opts.Stdout, rows); err != nil {
			return nil, fmt.Errorf("write the description of the command: %w", err)
		}
		return nil, ErrDone
	}
	if cl.print {
		if err := writeConfig(opts.Stdout, c); err != nil {
			return nil, fmt.Errorf("write configuration: %w", err)
		}
		return nil, ErrDone
	}
	return c, nil
}

// loader gathers what the sources say.
type loader struct {
	opts     Options
	rows     []row
	byKey    map[string]*row
	found    map[string][]raw // by key, weakest source first
	warnings []string
	errs     []error
}

const (
	dropInDir   = "tetragon.conf.d"
	yamlFile    = "tetragon.yaml"
	maxFileSize = 1 << 20 // a configuration bigger than that is something else
)

// readAll reads every source, weakest first.
func (l *loader) readAll(cl cmdline) {
	etc := filepath.Join(l.opts.Root, "/etc/tetragon", dropInDir)
	l.readDir(filepath.Join(l.opts.Root, "/usr/lib/tetragon", dropInDir), false)
	l.readDir(filepath.Join(l.opts.Root, "/usr/local/lib/tetragon", dropInDir), false)
	l.readYAML(filepath.Join(l.opts.WorkDir, yamlFile))
	l.readYAML(filepath.Join(l.opts.Root, "/etc/tetragon", yamlFile))
	l.readDir(etc, false)

	// config-dir can come from any of these or from a stronger source, but is itself weaker than the environment.
	var strong []raw
	strongKeys := []string{}
	add := func(key string, r raw) { strong = append(strong, r); strongKeys = append(strongKeys, key) }
	l.readEnv(add)
	for i := range l.rows {
		if r := cl.values[l.rows[i].key]; r != nil {
			add(l.rows[i].key, *r)
		}
	}
	dir := ""
	if f := l.found["config-dir"]; len(f) > 0 {
		dir = f[len(f)-1].text
	}
	for i, r := range strong {
		if strongKeys[i] == "config-dir" {
			dir = r.text
		}
	}
	// The chart names the built-in directory; reading it twice would only repeat its mistakes.
	if dir != "" && filepath.Clean(dir) != filepath.Clean(etc) {
		before := len(l.found["config-dir"])
		l.readDir(dir, true)
		if f := l.found["config-dir"]; len(f) > before {
			l.warnings = append(l.warnings, fmt.Sprintf("%s: has no effect, this directory is already the config-dir",
				f[len(f)-1].where))
			l.found["config-dir"] = f[:before]
		}
	}
	for i, r := range strong {
		l.found[strongKeys[i]] = append(l.found[strongKeys[i]], r)
	}
}

// readDir reads a directory with one file for each key. must says that it has to be there.
func (l *loader) readDir(dir string, must bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if must || !errors.Is(err, os.ErrNotExist) {
			l.errs = append(l.errs, fmt.Errorf("read configuration directory: %w", err))
		}
		return
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // follows links: a mounted ConfigMap consists of them
		switch {
		case err == nil && info.IsDir():
			continue
		case strings.HasPrefix(e.Name(), "."):
			l.warnings = append(l.warnings, path+": ignored, hidden files are no keys")
			continue
		case err != nil:
			l.errs = append(l.errs, fmt.Errorf("read configuration: %w", err))
			continue
		case !info.Mode().IsRegular():
			// A pipe would block the start, a device might never end.
			l.errs = append(l.errs, fmt.Errorf("%s: not a regular file; make it one, or remove it", path))
			continue
		}
		key := strings.ToLower(e.Name())
		if l.byKey[key] == nil {
			l.errs = append(l.errs, fmt.Errorf("%s: unknown key %q%s", path, e.Name(), l.suggest(key)))
			continue
		}
		text, err := readFile(path)
		if err != nil {
			l.errs = append(l.errs, err)
			continue
		}
		l.found[key] = append(l.found[key], raw{text: strings.TrimSpace(text), source: path, where: path})
	}
}

// readYAML reads a flat YAML map, if there is such a file.
func (l *loader) readYAML(path string) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	var text string
	if err == nil {
		text, err = readFile(path)
	}
	if err != nil {
		l.errs = append(l.errs, fmt.Errorf("read configuration: %w", err))
		return
	}
	dec := yaml.NewDecoder(strings.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) { // an empty file says nothing
			l.errs = append(l.errs, fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: ")))
		}
		return
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		l.errs = append(l.errs, fmt.Errorf("%s: holds more than one document; keep one", path))
		return
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		if len(doc.Content) == 1 && doc.Content[0].Tag == "!!null" {
			return
		}
		l.errs = append(l.errs, fmt.Errorf("%s: not a map; write one \"key: value\" on each line", path))
		return
	}
	l.readMap(path, doc.Content[0])
}

func (l *loader) readMap(path string, m *yaml.Node) {
	lines := map[string]int{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		k, v := m.Content[i], m.Content[i+1]
		source := fmt.Sprintf("%s:%d", path, k.Line)
		key := strings.ToLower(k.Value)
		if k.Kind != yaml.ScalarNode || l.byKey[key] == nil {
			l.errs = append(l.errs, fmt.Errorf("%s: unknown key %q%s", source, k.Value, l.suggest(key)))
			continue
		}
		if first, twice := lines[key]; twice {
			l.errs = append(l.errs, fmt.Errorf("%s: %s: already set on line %d; keep one", source, key, first))
			continue
		}
		lines[key] = k.Line
		r, err := rawYAML(v)
		if err != nil {
			l.errs = append(l.errs, fmt.Errorf("%s: %s: %w", source, key, err))
			continue
		}
		r.source, r.where = source, source+": "+key
		l.found[key] = append(l.found[key], r)
	}
}

// rawYAML takes the text of a scalar or of a list of scalars as it was written: 0600 stays 0600.
func rawYAML(v *yaml.Node) (raw, error) {
	v = resolve(v)
	switch v.Kind {
	case yaml.ScalarNode:
		if v.Tag == "!!null" && v.Style == 0 {
			return raw{}, errors.New(`has no value; write one, "" to clear it, or remove the line`)
		}
		return raw{text: strings.TrimSpace(v.Value)}, nil
	case yaml.SequenceNode:
		r := raw{isList: true}
		for _, e := range v.Content {
			// No recursion: a list may hold an alias of itself.
			if e = resolve(e); e.Kind != yaml.ScalarNode {
				return raw{}, errors.New("takes a value or a list of values, nothing deeper")
			}
			r.list = append(r.list, e.Value)
		}
		return r, nil
	}
	return raw{}, errors.New("takes a value or a list of values, not a map; " +
		"JSON objects are written as text, behind \"|\" on lines of their own")
}

func resolve(v *yaml.Node) *yaml.Node {
	if v.Kind == yaml.AliasNode {
		return v.Alias // never an alias itself
	}
	return v
}

// readEnv reads TETRAGON_* variables. Unknown ones only warn: the name space is shared with whoever starts the agent.
func (l *loader) readEnv(add func(string, raw)) {
	const prefix = "TETRAGON_"
	env := append([]string(nil), l.opts.Environ...)
	sort.Strings(env)
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		key := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", "-")
		if value == "" {
			// Existing installations rely on it, but whoever wants to clear a key must learn why that has no effect.
			if l.byKey[key] != nil {
				l.warnings = append(l.warnings, fmt.Sprintf("environment %s: ignored, it is empty; an empty file %q in a drop-in directory clears the key",
					name, key))
			}
			continue
		}
		if name != strings.ToUpper(name) || l.byKey[key] == nil {
			if !serviceLink(name) {
				l.warnings = append(l.warnings, fmt.Sprintf("environment %s: ignored, there is no key %q%s",
					name, key, l.suggest(key)))
			}
			continue
		}
		add(key, raw{text: strings.TrimSpace(value), source: "environment " + name, where: "environment " + name})
	}
}

// serviceLink says whether Kubernetes made this variable, for a service with a name like ours.
func serviceLink(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_TCP") || strings.Contains(name, "_UDP")
}

// assign makes a Config of the defaults and what was found. Every value is read, also one that a stronger source
// overrides, because a mistake that shows up only when the stronger source goes away is worse.
func (l *loader) assign() *Config {
	c := &Config{sources: map[string]string{}, Warnings: l.warnings}
	for i := range l.rows {
		r := &l.rows[i]
		f := r.field(c)
		if err := r.set(f, raw{text: r.def}); err != nil {
			l.errs = append(l.errs, fmt.Errorf("bug: default of %s: %w", r.key, err))
		}
		for _, v := range l.found[r.key] {
			if err := r.set(f, v); err != nil {
				l.errs = append(l.errs, fmt.Errorf("%s: %w", v.where, err))
			}
			c.sources[r.key] = v.source
		}
	}
	return c
}

func (l *loader) suggest(key string) string {
	if key == "" {
		return ""
	}
	return didYouMean("", key, names(l.rows)[:len(l.rows)])
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxFileSize {
		return "", fmt.Errorf("%s: bigger than 1 MiB, which no configuration is", path)
	}
	return string(b), nil
}
