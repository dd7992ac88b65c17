// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// stage is one line of the account that an agent prints.
type stage struct {
	name            string
	seen, delivered int64
	dropped         map[string]int64
	pending         int64
}

var (
	stageLine = regexp.MustCompile(`(?m)^\s*(\S.*?)\s+seen (\d+) delivered (\d+)((?: dropped\[[^\]]+\] \d+)*)(?: pending (-?\d+))?\s*$`)
	dropWord  = regexp.MustCompile(`dropped\[([^\]]+)\] (\d+)`)
)

// parseBalance finds the account in a text.
func parseBalance(text string) []stage {
	number := func(s string) int64 {
		n, _ := strconv.ParseInt(s, 10, 64) // the pattern has only digits; empty is 0
		return n
	}
	var out []stage
	for _, m := range stageLine.FindAllStringSubmatch(text, -1) {
		s := stage{name: m[1], seen: number(m[2]), delivered: number(m[3]), pending: number(m[5]), dropped: map[string]int64{}}
		for _, d := range dropWord.FindAllStringSubmatch(m[4], -1) {
			s.dropped[d[1]] += number(d[2])
		}
		out = append(out, s)
	}
	return out
}

// harmless are the reasons for which nothing is lost: the record changed the table and was never to be an event, the
// process was known already, a filter did not want the event, the client that was to have it has left.
var harmless = []string{"state_only", "already_known", "filtered", "left"}

// checkBalance holds an account to its promise: at each stage seen = delivered + drops by named reason, nothing pending,
// and no drops but for reasons in allowed.
func checkBalance(stages []stage, allowed []string) error {
	if len(stages) == 0 {
		return errors.New("no account found: want lines like \"kernel seen 5 delivered 5\"")
	}
	var errs []error
	for _, s := range stages {
		sum := s.delivered
		for reason, n := range s.dropped {
			sum += n
			if n > 0 && !contains(harmless, reason) && !contains(allowed, reason) && !contains(allowed, s.name+"/"+reason) {
				errs = append(errs, fmt.Errorf("stage %s dropped %d as %s", s.name, n, reason))
			}
		}
		if s.pending != 0 {
			errs = append(errs, fmt.Errorf("stage %s: %d pending", s.name, s.pending))
		} else if sum != s.seen {
			errs = append(errs, fmt.Errorf("stage %s: saw %d, accounts for %d", s.name, s.seen, sum))
		}
	}
	return errors.Join(errs...)
}

// drops adds up what was dropped for a reason, at any stage.
func drops(stages []stage, reason string) int64 {
	var n int64
	for _, s := range stages {
		for r, k := range s.dropped {
			if r == reason || s.name+"/"+r == reason || reason == "any" && !contains(harmless, r) {
				n += k
			}
		}
	}
	return n
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s || l == "any" {
			return true
		}
	}
	return false
}

// balanceText gives an account in short, for messages.
func balanceText(stages []stage) string {
	var b strings.Builder
	for _, s := range stages {
		fmt.Fprintf(&b, "%s: seen %d delivered %d dropped %v pending %d\n", s.name, s.seen, s.delivered, s.dropped, s.pending)
	}
	return b.String()
}
