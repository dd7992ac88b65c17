// SPDX-License-Identifier: Apache-2.0

// Package nearest finds the name that a mistyped one was meant to be.
//
// Whoever refuses a name that a user wrote asks it for a hint: the configuration, the parser of policies, the compiler and
// the kernel's facts. It knows no names itself, leaves the wording of the hint to them, and does nothing but count letters:
// the same question has the same answer, and of two names that are equally near the first is taken.
package nearest

import "strings"

// maxName is the longest name that is compared, in bytes: the work grows with the square.
const maxName = 80

// Name returns the one of names that s was meant to be, the first of those equally near; "" if none is near: not more than a
// third of the letters may differ. Upper and lower case do not count.
func Name(s string, names []string) string {
	s = strings.ToLower(s)
	best, least := "", 0
	for _, n := range names {
		most := max(1, min(len(s), len(n))/3)
		if best != "" {
			most = least - 1
		}
		if len(n)-len(s) > most || len(s)-len(n) > most {
			continue // so many letters differ at least
		}
		if d := Distance(s, strings.ToLower(n)); d <= most {
			best, least = n, d
		}
	}
	return best
}

// Distance counts bytes that are missing, too many, wrong, or in the wrong order.
func Distance(a, b string) int {
	if len(a) > maxName || len(b) > maxName {
		return maxName
	}
	var rows [3][maxName + 1]int
	before, last, now := &rows[0], &rows[1], &rows[2]
	for j := range b {
		last[j+1] = j + 1
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
