// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// kernel is an unpacked kernel package.
type kernel struct {
	name    string   // as in the matrix
	pkg     string   // Debian package
	vmlinuz string   // image to boot
	modules string   // ext4 image for /lib/modules
	boot    []string // modules needed to mount a disk, decompressed, in the order of loading
}

// Modules without which no disk and no port is there.
var bootModules = []string{"virtio_pci", "virtio_blk", "virtio_console", "crc32c_generic", "ext4"}

// packagePattern finds the pattern of the packages of a kernel in the matrix. A word that begins with $ instead is a variable
// that names an archive of a kernel; its value is then the second result.
func packagePattern(matrix, name string) (*regexp.Regexp, string, error) {
	text, err := os.ReadFile(matrix)
	if err != nil {
		return nil, "", fmt.Errorf("read the kernel matrix: %w", err)
	}
	var names []string
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || f[1] == "-" {
			continue
		}
		if v, ok := strings.CutPrefix(f[1], "$"); ok && f[0] == name {
			if file := os.Getenv(v); file != "" {
				return nil, file, nil
			}
			return nil, "", fmt.Errorf("kernel %s is no package: set %s to an archive of it, with boot/vmlinuz-VERSION and lib/modules/VERSION", name, v)
		}
		if f[0] == name {
			re, err := regexp.Compile(f[1])
			if err != nil {
				return nil, "", fmt.Errorf("%s: kernel %s: %w", matrix, name, err)
			}
			return re, "", nil
		}
		names = append(names, f[0])
	}
	return nil, "", fmt.Errorf("kernel %q is not in %s: it has %s", name, matrix, strings.Join(names, ", "))
}

// kernel gives the newest package that matches: of those in the cache, else of those that apt knows.
func (c *cache) kernel(ctx context.Context, name string, pattern *regexp.Regexp) (*kernel, error) {
	const prefix = "kernel-"
	entries, err := filepath.Glob(filepath.Join(c.dir, prefix+"*"))
	if err != nil {
		return nil, err
	}
	var have []string
	for _, e := range entries {
		if p := strings.TrimPrefix(filepath.Base(e), prefix); pattern.MatchString(p) {
			have = append(have, p)
		}
	}
	if len(have) == 0 {
		if have, err = knownPackages(ctx, pattern); err != nil {
			return nil, err
		}
		if len(have) == 0 { // perhaps the lists were never fetched
			if _, err := command(ctx, "", "apt-get", "update"); err != nil {
				return nil, err
			}
			if have, err = knownPackages(ctx, pattern); err != nil {
				return nil, err
			}
		}
		if len(have) == 0 {
			return nil, fmt.Errorf("kernel %s: apt knows no package %s; add Debian 12's security or backports archive to apt's sources", name, pattern)
		}
	}
	sort.Slice(have, func(i, j int) bool { return versionLess(have[i], have[j]) })
	pkg := have[len(have)-1]
	dir, err := c.entry(prefix+pkg, func(dir string) error { return unpackKernel(ctx, dir, pkg) })
	if err != nil {
		return nil, err
	}
	return unpacked(name, pkg, dir)
}

// archived gives the kernel of an archive.
func (c *cache) archived(ctx context.Context, name, archive string) (*kernel, error) {
	info, err := os.Stat(archive)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", name, err)
	}
	dir, err := c.entry(fmt.Sprintf("archive-%s-%d", name, info.ModTime().Unix()), func(dir string) error {
		x := filepath.Join(dir, "x")
		if err := os.Mkdir(x, 0o755); err != nil {
			return err
		}
		defer os.RemoveAll(x)
		if _, err := command(ctx, "", "tar", "-C", x, "-xf", archive); err != nil {
			return err
		}
		return arrange(ctx, dir, x, archive)
	})
	if err != nil {
		return nil, err
	}
	return unpacked(name, filepath.Base(archive), dir)
}

func unpacked(name, pkg, dir string) (*kernel, error) {
	k := &kernel{name: name, pkg: pkg, vmlinuz: filepath.Join(dir, "vmlinuz"), modules: filepath.Join(dir, "modules.ext4")}
	order, err := os.ReadFile(filepath.Join(dir, "boot", "order"))
	if err != nil {
		return nil, err
	}
	for _, m := range strings.Fields(string(order)) {
		k.boot = append(k.boot, filepath.Join(dir, "boot", m))
	}
	return k, nil
}

func knownPackages(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	out, err := command(ctx, "", "apt-cache", "pkgnames", "linux-image-")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range strings.Fields(out) {
		if !pattern.MatchString(n) {
			continue
		}
		// A name that apt has heard of may have no version to fetch.
		if show, err := command(ctx, "", "apt-cache", "policy", n); err == nil && !strings.Contains(show, "Candidate: (none)") {
			names = append(names, n)
		}
	}
	return names, nil
}

var digits = regexp.MustCompile(`[0-9]+`)

// versionLess compares the numbers in two package names, one after the other.
func versionLess(a, b string) bool {
	x, y := digits.FindAllString(a, -1), digits.FindAllString(b, -1)
	for i := 0; i < len(x) && i < len(y); i++ {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m < n
		}
	}
	return len(x) < len(y)
}

// unpackKernel fetches a package and leaves vmlinuz, modules.ext4 and boot/ in dir.
func unpackKernel(ctx context.Context, dir, pkg string) error {
	x := filepath.Join(dir, "x")
	if err := os.Mkdir(x, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(x)
	// apt drops to a user of its own for the download where it can; not into this directory.
	if _, err := command(ctx, x, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", pkg); err != nil {
		return err
	}
	debs, _ := filepath.Glob(filepath.Join(x, "*.deb"))
	if len(debs) != 1 {
		return fmt.Errorf("download of %s left %d packages", pkg, len(debs))
	}
	if _, err := command(ctx, x, "dpkg-deb", "-x", debs[0], "."); err != nil {
		return err
	}
	return arrange(ctx, dir, x, pkg)
}

// arrange makes what a boot needs, in dir, of what was unpacked in x.
func arrange(ctx context.Context, dir, x, pkg string) error {
	images, _ := filepath.Glob(filepath.Join(x, "boot", "vmlinuz-*"))
	if len(images) != 1 {
		return fmt.Errorf("%s has %d kernel images", pkg, len(images))
	}
	version := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	lib := filepath.Join(x, "lib", "modules", version)
	if _, err := os.Stat(lib); errors.Is(err, os.ErrNotExist) {
		lib = filepath.Join(x, "usr", "lib", "modules", version)
	}
	for _, l := range []string{"build", "source"} { // links to headers that are not there
		_ = os.Remove(filepath.Join(lib, l))
	}
	base := strings.TrimSuffix(lib, "/lib/modules/"+version)
	if _, err := command(ctx, "", "depmod", "-b", base, version); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "boot"), 0o755); err != nil {
		return err
	}
	files, err := loadOrder(lib, bootModules)
	if err != nil {
		return err
	}
	var order strings.Builder
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".xz")
		data, err := os.ReadFile(filepath.Join(lib, f))
		if err == nil && strings.HasSuffix(f, ".xz") {
			var out string
			out, err = command(ctx, "", "xz", "-dc", filepath.Join(lib, f))
			data = []byte(out)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "boot", name), data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("unpack module %s: %w", f, err)
		}
		fmt.Fprintln(&order, name)
	}
	if err := os.WriteFile(filepath.Join(dir, "boot", "order"), []byte(order.String()), 0o644); err != nil {
		return err
	}
	if err := makeImage(ctx, filepath.Dir(lib), filepath.Join(dir, "modules.ext4"), 16); err != nil {
		return err
	}
	return os.Rename(images[0], filepath.Join(dir, "vmlinuz"))
}

// loadOrder gives the files of modules and of what they need, needed ones first. A module that the kernel has built in
// has no file and is left out.
func loadOrder(lib string, names []string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(lib, "modules.dep"))
	if err != nil {
		return nil, err
	}
	needs := map[string][]string{}
	byName := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		file, deps, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		needs[file] = strings.Fields(deps)
		name, _, _ := strings.Cut(filepath.Base(file), ".ko")
		byName[strings.ReplaceAll(name, "-", "_")] = file
	}
	var order []string
	seen := map[string]bool{}
	var add func(file string)
	add = func(file string) {
		if seen[file] {
			return
		}
		seen[file] = true
		for i := len(needs[file]) - 1; i >= 0; i-- {
			add(needs[file][i])
		}
		order = append(order, file)
	}
	for _, n := range names {
		if f, ok := byName[n]; ok {
			add(f)
		}
	}
	return order, nil
}
