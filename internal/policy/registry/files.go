// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile bounds what is read of one file; policies are a thousandth of it.
const maxFile = 4 << 20

// Files lists the files that hold policies: those in a directory and one level below it, in lexical order, links followed.
// Hidden files and directories are left out, as the links of a mounted ConfigMap lead to a hidden directory that holds the
// same files. A directory that is not there holds none.
func Files(dir string) ([]string, error) {
	out, err := filesIn(dir, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	slices.Sort(out)
	return out, nil
}

func filesIn(dir string, deeper bool) ([]string, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range found {
		if strings.HasPrefix(d.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, d.Name())
		info, err := os.Stat(path)
		switch {
		case err != nil: // a link that leads nowhere is told when it is read
			out = append(out, path)
		case info.IsDir() && deeper:
			more, err := filesIn(path, false)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case info.Mode().IsRegular():
			out = append(out, path)
		}
	}
	return out, nil
}

// AddFile adds the policy in a file, with variables from the agent's own environment.
func (r *Registry) AddFile(path string) error {
	t, err := readFile(path)
	if err != nil {
		return err
	}
	return r.Add(DomainStatic, t, false)
}

func readFile(path string) (Text, error) {
	t := Text{Name: path, Getenv: os.LookupEnv}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%d bytes are no policy", info.Size())
	}
	if err == nil {
		t.YAML, err = os.ReadFile(path)
	}
	if err != nil {
		return t, fmt.Errorf("read policy %s: %w", path, err)
	}
	return t, nil
}

// AddDir adds all policies of a directory. One that is bad is told in the log and stays on the list with its mistakes; it
// does not keep the others, nor the agent, from starting. It returns how many are bad. When ctx ends it leaves out the rest.
func (r *Registry) AddDir(ctx context.Context, dir string) (bad int, err error) {
	paths, err := Files(dir)
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		if ctx.Err() != nil {
			break
		}
		err := r.AddFile(path)
		if err == nil {
			continue
		}
		bad++
		r.o.Log.Error("a policy of the directory is not loaded; the agent runs without it", "policy", path, "err", err)
		r.AddBroken(DomainStatic, Text{Name: path}, err)
	}
	return bad, nil
}
