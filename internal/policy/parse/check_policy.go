// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"tetragon/internal/nearest"
	"tetragon/internal/policy"
)

// What policies are to the API server.
const (
	group   = "cilium.io"
	version = "v1alpha1"

	APIVersion = group + "/" + version // of all documents
)

// kinds are the kinds of policies, by their names.
func kinds() map[string]policy.Kind {
	out := make(map[string]policy.Kind)
	for _, r := range resources {
		out[r.Kind] = r.kind
	}
	return out
}

// policy reads a document, and checks what the schema cannot say.
func (p *parser) policy(root *yaml.Node) *policy.Policy {
	var d document
	n, ok := p.follow(root, under(policy.Place{}, root, ""))
	if !ok {
		return &d.spec
	}
	object(p, n, &d, documentFields)
	if n.Kind != yaml.MappingNode {
		return &d.spec
	}
	pol := &d.spec
	pol.Place = d.kind.Place
	pol.Name, pol.Namespace, pol.Labels, pol.Notes = d.meta.name.Value, d.meta.namespace.Value, d.meta.labels, d.meta.notes
	p.checkHead(&d)
	p.checkSections(pol)
	p.checkOptions(pol)
	p.checkLists(pol)
	p.checkMacros(pol)
	p.checkEnforcers(pol)
	p.checkWorkloads(pol)
	p.checkHooks(pol)
	return pol
}

// subdomain is DNS-1123's, as names of objects must be; domainLabel is one part of it, as names of namespaces must be.
var (
	subdomain   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	domainLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
)

// Bounds of names, from DNS.
const (
	maxName  = 253
	maxLabel = 63
)

// checkHead checks what stands above the spec.
func (p *parser) checkHead(d *document) {
	if v := d.apiVersion; v.Value == "" {
		p.warn(v.Place, "api-version", "apiVersion is missing").WithHint("apiVersion: %s", APIVersion)
	} else if v.Value != APIVersion {
		p.warn(v.Place, "api-version", "apiVersion %q is not known; the policy is read as %s", clip(v.Value), APIVersion)
	}
	if k := d.kind; k.Value != "" {
		if d.spec.Kind = kinds()[k.Value]; d.spec.Kind == policy.KindUnknown {
			x := p.error(k.Place, "unknown-kind", "there is no kind of policy %q", clip(k.Value))
			if s := nearest.Name(k.Value, slices.Sorted(maps.Keys(kinds()))); s != "" {
				x.WithHint("did you mean %q?", s)
			} else {
				x.WithHint("TracingPolicy, or TracingPolicyNamespaced for one namespace")
			}
		}
	}
	if m := d.meta.name; m.Value != "" && !p.failed(m.Place) && (len(m.Value) > maxName || !subdomain.MatchString(m.Value)) {
		p.error(m.Place, "bad-name", "%q is no name for a policy", clip(m.Value)).
			WithHint("small letters, digits, - and . between them, %d at most", maxName)
	}
	ns := d.meta.namespace
	switch {
	case d.spec.Kind == policy.KindNamespaced && ns.Value == "":
		p.error(ns.Place, "namespace", "a TracingPolicyNamespaced is for one namespace, which is missing").WithHint("add metadata.namespace")
	case d.spec.Kind == policy.KindCluster && ns.Value != "":
		p.error(ns.Place, "namespace", "a TracingPolicy is for the whole cluster and has no namespace").
			WithHint("take it out, or make the kind TracingPolicyNamespaced")
	case ns.Value != "" && (len(ns.Value) > maxLabel || !domainLabel.MatchString(ns.Value)):
		p.error(ns.Place, "bad-name", "%q is no name of a namespace", clip(ns.Value)).WithHint("small letters, digits and -, %d at most", maxLabel)
	}
	for _, m := range []struct {
		path string
		of   map[string]string
	}{{"metadata.labels", d.meta.labels}, {"metadata.annotations", d.meta.notes}} {
		for _, k := range sortedKeys(m.of) {
			at := p.words[m.path+"."+k]
			if why := badLabelKey(k); why != "" {
				p.error(at, "bad-label", "%q is no key: %s", clip(k), why)
			} else if why := badLabelValue(m.of[k]); why != "" && m.path == "metadata.labels" {
				p.error(at, "bad-label", "%q is no value of a label: %s", clip(m.of[k]), why)
			}
		}
	}
}

func sortedKeys(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// section is one of the lists of hooks.
type section struct {
	name string
	n    int
	at   policy.Place
}

func sections(pol *policy.Policy) []section {
	var out []section
	add := func(name string, n int, first func() policy.Place) {
		if n > 0 {
			at := first()
			at.Path = "spec." + name
			out = append(out, section{name, n, at})
		}
	}
	add("kprobes", len(pol.Kprobes), func() policy.Place { return pol.Kprobes[0].Place })
	add("fentries", len(pol.Fentries), func() policy.Place { return pol.Fentries[0].Place })
	add("tracepoints", len(pol.Tracepoints), func() policy.Place { return pol.Tracepoints[0].Place })
	add("uprobes", len(pol.Uprobes), func() policy.Place { return pol.Uprobes[0].Place })
	add("usdts", len(pol.Usdts), func() policy.Place { return pol.Usdts[0].Place })
	add("lsmhooks", len(pol.LsmHooks), func() policy.Place { return pol.LsmHooks[0].Place })
	return out
}

// checkSections checks which sections come together.
func (p *parser) checkSections(pol *policy.Policy) {
	s := sections(pol)
	for i := 1; i < len(s); i++ {
		p.error(s[i].at, "multiple-sections", "a policy has hooks of one section; multiple sections: %s and %s", s[0].name, s[i].name).
			WithHint("make a policy of each")
	}
	if len(s) == 0 && !pol.Loader.Value && len(p.d.List) == 0 {
		p.warn(pol.Place, "no-hooks", "the policy has no hooks and does nothing")
	}
	if pol.Kind != policy.KindNamespaced {
		return
	}
	for _, x := range s {
		if x.name == "uprobes" || x.name == "usdts" {
			p.error(x.at, "namespaced", "%s cannot be in a policy for one namespace", x.name).
				WithNote("their programs are looked up among the files of the host")
		}
	}
	if pol.Loader.Value {
		p.error(pol.Loader.Place, "namespaced", "loader cannot be in a policy for one namespace")
	}
}

// knownOptions are the options of a policy, with the values that each takes.
var knownOptions = map[string]struct {
	is func(string) bool
	a  string
}{
	"disable-kprobe-multi":   {isBool, "true or false"},
	"disable-uprobe-multi":   {isBool, "true or false"},
	"override-fallback":      {func(s string) bool { return s == "sigkill" }, "sigkill"},
	"override-method":        {func(s string) bool { return s == "override-return" || s == "fmod-ret" }, "override-return or fmod-ret"},
	"policy-mode":            {func(s string) bool { return s == "enforce" || s == "monitor" }, "enforce or monitor"},
	"sleepable-preload-size": {isSize, "a positive number"},
}

func optionNames() []string { return slices.Sorted(maps.Keys(knownOptions)) }

func isBool(s string) bool { _, err := strconv.ParseBool(s); return err == nil }

func isSize(s string) bool { n, err := strconv.ParseUint(s, 0, 32); return err == nil && n > 0 }

func (p *parser) checkOptions(pol *policy.Policy) {
	names := optionNames()
	seen := make(map[string]policy.Place)
	for _, o := range pol.Options {
		if o.Name.Value == "" {
			continue
		}
		k, ok := knownOptions[o.Name.Value]
		if !ok {
			x := p.error(o.Name.Place, "unknown-option", "there is no option %q", clip(o.Name.Value))
			if s := nearest.Name(o.Name.Value, names); s != "" {
				x.WithHint("did you mean %q?", s)
			} else {
				x.WithHint("there are: %s", strings.Join(names, ", "))
			}
			continue
		}
		if first, twice := seen[o.Name.Value]; twice {
			p.error(o.Name.Place, "duplicate-option", "option %s is there twice", o.Name.Value).WithNote("the first is in line %d", first.Line)
			continue
		}
		seen[o.Name.Value] = o.Name.Place
		if !k.is(o.Value.Value) && !p.failed(o.Value.Place) {
			p.error(o.Value.Place, "bad-option", "option %s is %s, not %q", o.Name.Value, k.a, clip(o.Value.Value))
		}
		if o.Name.Value == "policy-mode" && !enforces(pol) {
			p.warn(o.Name.Place, "unused-option", "policy-mode has no effect: no action of this policy enforces anything")
		}
	}
}

// enforces says whether an action of a policy changes what happens.
func enforces(pol *policy.Policy) bool {
	found := false
	eachSelector(pol, func(s *policy.Selector) {
		for _, as := range [][]policy.Action{s.Actions, s.ReturnActions} {
			for i := range as {
				switch as[i].Action.Value {
				case "Sigkill", "Signal", "Override", "NotifyEnforcer", "Set":
					found = true
				}
			}
		}
	})
	return found
}

// checkWorkloads checks the selectors of workloads, those of the policy.
func (p *parser) checkWorkloads(pol *policy.Policy) {
	host(p, pol.HostSelector)
	if pol.HostSelector != nil && pol.Kind == policy.KindNamespaced {
		p.error(pol.HostSelector.Place, "namespaced", "hostSelector cannot be in a policy for one namespace: processes of the host are in none")
	}
	if !pol.Loader.Value {
		return
	}
	for _, s := range []*policy.LabelSelector{pol.PodSelector, pol.ContainerSelector, pol.HostSelector} {
		if s != nil {
			p.error(s.Place, "loader-selector", "loader tells of all processes; it cannot be bound to some workloads")
		}
	}
}

func host(p *parser, s *policy.LabelSelector) {
	if s != nil && (len(s.MatchLabels) > 0 || len(s.Expressions) > 0) {
		p.error(s.Place, "host-selector", "hostSelector has no labels to choose by").WithHint("{} chooses the processes of the host")
	}
}
