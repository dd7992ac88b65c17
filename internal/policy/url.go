// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"net/url"
)

// URLHost is the host and the port that a URL leads to. It fails for what is no URL of HTTP.
func URLHost(text string) (host, port string, err error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", "", err
	case u.Scheme != "http" && u.Scheme != "https":
		return "", "", errors.New("it does not begin with http:// or https://")
	case u.Hostname() == "":
		return "", "", errors.New("it names no host")
	case u.User != nil:
		return "", "", errors.New("it has a name or a password in it, which everybody sees who sees the policy")
	}
	if port = u.Port(); port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Hostname(), port, nil
}
