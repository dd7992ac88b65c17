// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"compress/gzip"
	"io"
	"os"
	"regexp"
	"strings"
)

// maxConfig bounds what is taken for a kernel's configuration; they have 300 KiB.
const maxConfig = 8 << 20

// readConfig reads a configuration, compressed or not.
func readConfig(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return "", err
		}
	}
	b, err := io.ReadAll(io.LimitReader(r, maxConfig))
	return string(b), err
}

var configLine = regexp.MustCompile(`(?m)^(?:(CONFIG_\w+)=(\S.*)|# (CONFIG_\w+) is not set)$`)

func parseConfig(text string) map[string]string {
	out := make(map[string]string)
	for _, m := range configLine.FindAllStringSubmatch(text, -1) {
		if m[3] != "" {
			out[m[3]] = "n"
		} else {
			out[m[1]] = strings.Trim(m[2], `"`)
		}
	}
	return out
}
