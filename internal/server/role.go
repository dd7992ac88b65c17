// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"tetragon/api/v1/tetragon"
)

// changes are the calls that need more than the right to read. The answers of all others only tell.
var changes = []string{
	tetragon.FineGuidanceSensors_AddTracingPolicy_FullMethodName,
	tetragon.FineGuidanceSensors_DeleteTracingPolicy_FullMethodName,
	tetragon.FineGuidanceSensors_ConfigureTracingPolicy_FullMethodName,
	tetragon.FineGuidanceSensors_EnableTracingPolicy_FullMethodName,
	tetragon.FineGuidanceSensors_DisableTracingPolicy_FullMethodName,
	tetragon.FineGuidanceSensors_EnableSensor_FullMethodName,
	tetragon.FineGuidanceSensors_DisableSensor_FullMethodName,
	tetragon.FineGuidanceSensors_RemoveSensor_FullMethodName,
	tetragon.FineGuidanceSensors_RuntimeHook_FullMethodName,
	tetragon.FineGuidanceSensors_SetDebug_FullMethodName,
	tetragon.EventLogService_SetEventLogParams_FullMethodName,
}

// client is what is known of the other end of a connection.
type client struct {
	credentials.CommonAuthInfo
	changes bool   // may also change what the agent does
	why     string // or why it may not
}

// AuthType implements credentials.AuthInfo.
func (client) AuthType() string { return "tetragon" }

// handshakes greets the connections of all listeners, each by its listener's rules.
type handshakes struct {
	plain credentials.TransportCredentials
}

func newHandshakes() handshakes { return handshakes{insecure.NewCredentials()} }

// ServerHandshake implements credentials.TransportCredentials.
func (h handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, ok := raw.(*conn)
	if !ok { // a listener that Listen did not make, such as one in memory
		return raw, client{changes: true}, nil
	}
	from := conn.from
	if from.Network == "unix" {
		return conn.Conn, client{
			changes: !from.ReadOnly, why: "this socket is for reading; use the agent's other socket, see server-address",
			CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		}, nil
	}
	if from.TLS == nil {
		return conn.Conn, client{why: "a client without a certificate may only read; use the agent's unix socket"}, nil
	}
	secured, info, err := credentials.NewTLS(from.TLS.server()).ServerHandshake(conn.Conn)
	if err != nil {
		return nil, nil, err
	}
	c := client{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	t, ok := info.(credentials.TLSInfo)
	switch {
	case !ok || len(t.State.VerifiedChains) == 0:
		c.why = "a client without a certificate may only read; use the agent's unix socket, or see server-tls-require-client-cert"
	case len(from.Admins) > 0 && !named(t.State.VerifiedChains[0][0], from.Admins):
		c.why = "the client's certificate has none of the names in server-tls-admin-names, so it may only read"
	default:
		c.changes = true
	}
	return secured, c, nil
}

// named says whether a certificate has one of the names: as its common name, a DNS name, or a URI.
func named(cert *x509.Certificate, names []string) bool {
	if slices.Contains(names, cert.Subject.CommonName) {
		return true
	}
	for _, n := range cert.DNSNames {
		if slices.Contains(names, n) {
			return true
		}
	}
	for _, u := range cert.URIs {
		if slices.Contains(names, u.String()) {
			return true
		}
	}
	return false
}

// ClientHandshake implements credentials.TransportCredentials.
func (handshakes) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("bug: the credentials of a server used by a client")
}

// Info implements credentials.TransportCredentials.
func (h handshakes) Info() credentials.ProtocolInfo { return h.plain.Info() }

// Clone implements credentials.TransportCredentials.
func (h handshakes) Clone() credentials.TransportCredentials { return h }

// OverrideServerName implements credentials.TransportCredentials.
func (handshakes) OverrideServerName(string) error { return nil }

// conn remembers which listener a connection came from.
type conn struct {
	net.Conn
	from *Address
}

// listener makes conns.
type listener struct {
	net.Listener
	from Address
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{c, &l.from}, nil
}

// mayCall returns an error if the client may not use a method.
func mayCall(ctx context.Context, method string) error {
	if !slices.Contains(changes, method) {
		return nil
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.PermissionDenied, "nothing is known of this client")
	}
	c, ok := p.AuthInfo.(client)
	if !ok || !c.changes {
		return status.Errorf(codes.PermissionDenied, "%s: %s", method[1:], c.why)
	}
	return nil
}

// guardStream lets only those use a stream who may.
func guardStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := mayCall(s.Context(), info.FullMethod); err != nil {
		return err
	}
	return handler(srv, s)
}
