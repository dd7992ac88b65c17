// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"time"
)

// passwd looks up login names. The file is read again when it has changed, which is looked at every few seconds.
type passwd struct {
	path    string
	names   map[uint32]string
	mtime   time.Time
	checked int64 // wall clock, ns
}

func (p *passwd) name(uid uint32, now int64) string {
	if now-p.checked > int64(5*time.Second) {
		p.checked = now
		if st, err := os.Stat(p.path); err == nil && !st.ModTime().Equal(p.mtime) {
			p.mtime = st.ModTime()
			p.read()
		}
	}
	return p.names[uid]
}

func (p *passwd) read() {
	f, err := os.Open(p.path)
	if err != nil {
		return // no such file, no names; the old ones stay
	}
	defer f.Close()
	names := make(map[uint32]string)
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.SplitN(s.Text(), ":", 4)
		if len(w) < 4 {
			continue
		}
		uid, err := strconv.ParseUint(w[2], 10, 32)
		if err != nil {
			continue
		}
		if _, ok := names[uint32(uid)]; !ok { // the first entry of a uid names it, as getpwuid has it
			names[uint32(uid)] = w[0]
		}
	}
	p.names = names
}
