// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"os"
	"strings"
	"testing"

	"tetragon/api/v1/tetragon"
)

// TestDocs_api: the page about the API names every call, and every attribute of filters.
func TestDocs_api(t *testing.T) {
	b, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	want := func(name string) {
		t.Helper()
		if !strings.Contains(string(b), "`"+name+"`") {
			t.Errorf("docs/api.md does not name `%s`", name)
		}
	}
	services := tetragon.File_tetragon_sensors_proto.Services()
	for i := range services.Len() {
		for m := range services.Get(i).Methods().Len() {
			want(string(services.Get(i).Methods().Get(m).Name()))
		}
	}
	logs := tetragon.File_tetragon_eventlogservice_proto.Services().Get(0).Methods()
	for m := range logs.Len() {
		want(string(logs.Get(m).Name()))
	}
	attributes := new(tetragon.Filter).ProtoReflect().Descriptor().Fields()
	for i := range attributes.Len() {
		want(string(attributes.Get(i).Name()))
	}
}
