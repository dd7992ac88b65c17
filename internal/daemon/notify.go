// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net"
)

// notify tells the service manager that started us something, if it asked to be told: systemd's protocol is a datagram to the
// socket that NOTIFY_SOCKET names.
func notify(socket, state string) error {
	if socket == "" {
		return nil
	}
	if socket[0] == '@' { // an abstract address
		socket = "\x00" + socket[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager %s: %w", state, err)
	}
	defer c.Close() //nolint:errcheck // a datagram is sent or not
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager %s: %w", state, err)
	}
	return nil
}
