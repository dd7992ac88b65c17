// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cache is the directory of what is made once: kernels and root images. An entry is made under another name and then
// renamed, so an entry that exists is whole.
type cache struct{ dir string }

func openCache() (*cache, error) {
	dir := os.Getenv("TETRAGON_VM_CACHE")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find a place for the cache: %w; set TETRAGON_VM_CACHE", err)
		}
		dir = filepath.Join(home, ".cache", "tetragon", "vm")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	return &cache{dir: dir}, nil
}

// prepare fetches and makes what a boot needs: a kernel and a root image.
func (c *cache) prepare(ctx context.Context, matrix, name string, systemd bool) (*kernel, string, error) {
	lock, err := os.OpenFile(filepath.Join(c.dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, "", fmt.Errorf("lock the cache: %w", err)
	}
	defer lock.Close() // releases the lock
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return nil, "", fmt.Errorf("lock the cache: %w", err)
	}
	pattern, archive, err := packagePattern(matrix, name)
	if err != nil {
		return nil, "", err
	}
	var k *kernel
	if archive != "" {
		k, err = c.archived(ctx, name, archive)
	} else {
		k, err = c.kernel(ctx, name, pattern)
	}
	if err != nil {
		return nil, "", err
	}
	root, err := c.rootImage(ctx, systemd)
	if err != nil {
		return nil, "", err
	}
	return k, root, nil
}

// entry returns the path of a cache entry, which make fills in a fresh directory when it is not there yet.
func (c *cache) entry(name string, fill func(dir string) error) (string, error) {
	path := filepath.Join(c.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	tmp, err := os.MkdirTemp(c.dir, ".making-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	start := time.Now()
	fmt.Fprintf(os.Stderr, "vmlab: making %s (once)\n", name)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	if err := fill(tmp); err != nil {
		return "", fmt.Errorf("make %s: %w", name, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", fmt.Errorf("make %s: %w", name, err)
	}
	fmt.Fprintf(os.Stderr, "vmlab: made %s in %.0f s\n", name, time.Since(start).Seconds())
	return path, nil
}

// contentKey is the part of an entry's name that changes when what it is made from changes.
func contentKey(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])[:12]
}

// command runs a tool and gives its output; a failure carries the tail of what it said.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", fmt.Errorf("run %s: not installed; run tools/setup.sh as root", name)
		}
		return "", fmt.Errorf("run %s %s: %w\n%s", name, strings.Join(args, " "), err, tail(out.String()+diag.String(), 15))
	}
	return out.String(), nil
}

// tail gives the last n lines of s.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// makeImage writes an ext4 image of dir with some room to spare.
func makeImage(ctx context.Context, dir, image string, spareMB int) error {
	var bytes, files int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files++
		bytes += (info.Size() + 4095) &^ 4095
		return nil
	})
	if err != nil {
		return fmt.Errorf("measure %s: %w", dir, err)
	}
	mb := (bytes+files*512)>>20*115/100 + int64(spareMB)
	// No journal: the image is thrown away after the run, and a journal would be work for the emulated CPU.
	_, err = command(ctx, "", "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-b", "4096",
		"-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", "-N", fmt.Sprint(files*2+20000), "-d", dir, image, fmt.Sprintf("%dM", mb))
	return err
}
