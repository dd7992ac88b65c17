// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Store keeps the policies that came by the API in a directory, a file each, so that they come back with the next agent.
// The names and the form of the files are upstream's.
type Store struct {
	dir string
}

// record is what a file holds.
type record struct {
	YAML    string `json:"yaml"`
	Enabled bool   `json:"enabled"`
	Mode    string `json:"mode,omitempty"` // "enforce", "monitor"; empty: as the policy says
}

// OpenStore opens a directory, which is made if need be.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of policies that came by gRPC: %w", err)
	}
	return &Store{dir: dir}, nil
}

// keeps says whether policies of a domain are kept. Those of files are in their files.
func (s *Store) keeps(k Key) bool { return s != nil && k.Domain != DomainStatic }

func (s *Store) path(k Key) string {
	return filepath.Join(s.dir, k.Name+":"+k.Namespace+":"+k.Domain+".json")
}

// put writes a policy, whole or not at all.
func (s *Store) put(k Key, yaml []byte, enabled bool, m Mode) error {
	if !s.keeps(k) {
		return nil
	}
	x := record{YAML: string(yaml), Enabled: enabled}
	if m == ModeEnforce || m == ModeMonitor {
		x.Mode = m.String()
	}
	b, err := json.Marshal(x)
	if err == nil {
		err = writeSynced(s.path(k), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep policy %s: %w", k, err)
	}
	return nil
}

func writeSynced(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// drop forgets a policy. It returns how to remember it again.
func (s *Store) drop(k Key) (restore func() error, err error) {
	nothing := func() error { return nil }
	if !s.keeps(k) {
		return nothing, nil
	}
	b, err := os.ReadFile(s.path(k))
	if errors.Is(err, fs.ErrNotExist) {
		return nothing, nil
	}
	if err == nil {
		err = os.Remove(s.path(k))
	}
	if err != nil {
		return nothing, fmt.Errorf("forget policy %s: %w", k, err)
	}
	return func() error { return writeSynced(s.path(k), b) }, nil
}

// kept is a policy of the store.
type kept struct {
	key Key
	record
}

// list reads all policies. What is not called like one is left out, and named.
func (s *Store) list() (out []kept, others []string, err error) {
	es, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read the policies that came by gRPC: %w", err)
	}
	for _, e := range es {
		name, isJSON := strings.CutSuffix(e.Name(), ".json")
		parts := strings.Split(name, ":")
		if !isJSON || len(parts) != 3 || parts[0] == "" || !e.Type().IsRegular() {
			others = append(others, e.Name())
			continue
		}
		x := kept{key: Key{Domain: parts[2], Namespace: parts[1], Name: parts[0]}}
		b, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if err == nil {
			err = json.Unmarshal(b, &x.record)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read policy %s of %s: %w; remove the file if it is not needed", x.key, s.dir, err)
		}
		out = append(out, x)
	}
	return out, others, nil
}

// Restore adds the policies of the store: all of them, or none and an error. They are read before the first is added.
func (r *Registry) Restore() error {
	s := r.o.Store
	if s == nil {
		return nil
	}
	list, others, err := s.list()
	if err != nil {
		return err
	}
	for _, o := range others {
		r.o.Log.Warn("what is in the directory of policies is none", "path", filepath.Join(s.dir, o))
	}
	for i := range list {
		p, d := r.o.Parse(Text{Name: list[i].key.Name, YAML: []byte(list[i].YAML)})
		if err := d.Err(); err != nil {
			return fmt.Errorf("restore policy %s: %w", list[i].key, err)
		}
		if p.Name != list[i].key.Name || p.Namespace != list[i].key.Namespace {
			return fmt.Errorf("restore policy %s: the text is of %s; remove %s if it is not needed", list[i].key, p.Name, s.path(list[i].key))
		}
	}
	for i := range list {
		t := Text{Name: list[i].key.Name, YAML: []byte(list[i].YAML)}
		switch list[i].Mode {
		case ModeEnforce.String():
			t.Mode = ModeEnforce
		case ModeMonitor.String():
			t.Mode = ModeMonitor
		}
		err := r.add(list[i].key.Domain, t, false, nil)
		if err == nil && !list[i].Enabled {
			err = r.Disable(list[i].key)
		}
		if err == nil {
			continue
		}
		errs := []error{fmt.Errorf("restore policy %s: %w", list[i].key, err)}
		for j := i; j >= 0; j-- {
			if err := r.remove(list[j].key); err != nil && !errors.Is(err, ErrNotFound) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	return nil
}
