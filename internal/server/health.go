// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// liveness is the name that orchestrators ask for.
const liveness = "liveness"

// Health is the standard health service, on a port of its own.
type Health struct {
	grpc    *grpc.Server
	service *health.Server
	serving sync.WaitGroup
}

// NewHealth returns a health service that says the agent serves. The listener is its own from here on.
func NewHealth(l net.Listener) *Health {
	h := &Health{grpc: grpc.NewServer(), service: health.NewServer()}
	h.service.SetServingStatus(liveness, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(h.grpc, h.service)
	h.serving.Go(func() { _ = h.grpc.Serve(l) }) // ends with Stop, or because the listener is broken: unhealthy either way
	return h
}

// Shutdown says from here on that the agent does not serve any more.
func (h *Health) Shutdown() { h.service.Shutdown() }

// Stop ends the service.
func (h *Health) Stop() {
	h.Shutdown()
	h.grpc.Stop()
	h.serving.Wait()
}
