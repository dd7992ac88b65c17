// SPDX-License-Identifier: Apache-2.0

package policy

import "testing"

func TestURLHost(t *testing.T) {
	for text, want := range map[string]string{
		"http://h/x": "h:80", "https://h": "h:443", "http://h:8/": "h:8", "http://[::1]:9/": "::1:9",
		"ftp://h/": "", "h/x": "", "http://": "", "http://u:p@h/": "", "http://h:x/": "",
	} {
		host, port, err := URLHost(text)
		if got := host + ":" + port; err == nil && got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %s, %v", text, got, err)
		}
	}
}
