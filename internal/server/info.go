// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"reflect"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tetragon/api/v1/tetragon"
)

// Info is what the agent tells of itself.
type Info struct {
	Name   string
	Probes []Probe
	Conf   []Setting
	Build  Build
}

// Probe is one feature of the kernel.
type Probe struct {
	Name    string
	Enabled bool
}

// Setting is one key of the configuration. Strings, booleans, whole numbers and lists of strings are told as what they
// are, every other value as its text.
type Setting struct {
	Key   string
	Value any
}

// Build says what this binary was made from.
type Build struct{ GoVersion, Commit, Time, Modified string }

func (i *Info) proto(version string) (*tetragon.GetInfoResponse, error) {
	res := &tetragon.GetInfoResponse{
		Version: version, Name: i.Name,
		Build: &tetragon.GetInfoResponse_BuildInfo{
			GoVersion: i.Build.GoVersion, Commit: i.Build.Commit, Time: i.Build.Time, Modified: i.Build.Modified,
		},
	}
	for _, p := range i.Probes {
		res.Probes = append(res.Probes, &tetragon.GetInfoResponse_Probe{Name: p.Name, Enabled: wrapperspb.Bool(p.Enabled)})
	}
	for _, s := range i.Conf {
		v, err := anypb.New(settingValue(s.Value))
		if err != nil {
			return nil, fmt.Errorf("tell configuration key %q: %w", s.Key, err)
		}
		res.Conf = append(res.Conf, &tetragon.GetInfoResponse_ConfVal{Key: s.Key, Value: v})
	}
	return res, nil
}

func settingValue(v any) proto.Message {
	if _, ok := v.(fmt.Stringer); !ok { // durations and the like are numbers to reflection, but not to people
		switch r := reflect.ValueOf(v); r.Kind() {
		case reflect.Bool:
			return wrapperspb.Bool(r.Bool())
		case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			return wrapperspb.Int64(r.Int())
		case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			return wrapperspb.Int64(int64(r.Uint()))
		case reflect.Slice:
			if list, ok := v.([]string); ok {
				m := &structpb.ListValue{}
				for _, s := range list {
					m.Values = append(m.Values, structpb.NewStringValue(valid(s)))
				}
				return m
			}
		}
	}
	return wrapperspb.String(valid(fmt.Sprint(v)))
}

// valid repairs text that came from the environment or a file.
func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
