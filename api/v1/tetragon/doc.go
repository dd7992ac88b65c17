// SPDX-License-Identifier: Apache-2.0

// Package tetragon is the contract with clients: the messages and services of the gRPC API, which are also the shape of
// the JSON events. The Go code is made from the .proto files beside it by tools/protogen.sh.
//
// Names, numbers and the order of declaration (which is the order of keys in JSON) are those that existing clients use;
// testdata/contract.txt holds them, and a test keeps them from moving. What we add are optional fields with numbers from
// 1000 on, marked "Ours".
//
// Not here: behaviour of any kind.
package tetragon

//go:generate ../../../tools/protogen.sh
