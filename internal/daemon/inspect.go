// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"

	"tetragon/internal/event/encode"
	"tetragon/internal/process"
	"tetragon/internal/server"
)

// errEnded says that the lane takes no questions any more.
var errEnded = errors.New("the agent is stopping")

// do runs f in the lane, which owns the process table, between two batches. f must not take long.
func (l *lane) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case l.asks <- func() { f(); close(done) }:
	case <-l.ended:
		return errEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-done // at once: the lane has taken it
	return nil
}

// processes copies the process table for a client. Only bytes leave the lane; what they say is read by who asked.
func (l *lane) processes(ctx context.Context, enc *encode.Encoder, want server.ProcessesWanted) ([]server.Process, error) {
	var list []server.Process
	err := l.do(ctx, func() {
		var bytes []byte // of many, so that the lane allocates little
		l.table.Each(func(e *process.Entry) {
			if want.ReferredTo && e.Refs() == 0 || want.Ended && e.Alive() {
				return
			}
			at := len(bytes)
			bytes = enc.AppendProcess(bytes, &e.Process)
			list = append(list, server.Process{Alive: e.Alive(), Refs: e.Refs(), Encoded: bytes[at:len(bytes):len(bytes)]})
		})
	})
	return list, err
}
