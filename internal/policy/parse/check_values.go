// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"math/big"
	"net/netip"
	"strings"

	"tetragon/internal/policy"
	"tetragon/internal/policy/digest"
)

// fileTypes are the words for types of files.
var fileTypes = enum{what: "type of file", code: "bad-value", names: fileTypeNames()}

func fileTypeNames() []string {
	var out []string
	for _, t := range policy.FileTypes {
		out = append(out, t.Name)
	}
	return out
}

// checkValues checks what the operator alone says of its values. What the type of the argument says is for the compiler.
func (p *parser) checkValues(m *policy.ArgMatch) {
	for _, v := range m.Values {
		if p.failed(v.Place) {
			continue
		}
		switch strings.TrimPrefix(m.Operator.Value, "Not") {
		case "InRange":
			p.checkRange(v)
		case "SPort", "DPort":
			lo, hi, ok := p.checkRange(policy.Text{Place: v.Place, Value: portRange(v.Value)})
			if ok && (lo.Sign() < 0 || hi.Cmp(big.NewInt(1<<16-1)) > 0) {
				p.error(v.Place, "bad-value", "%q is no port: 0 to 65535", clip(v.Value))
			}
		case "SAddr", "DAddr":
			s := strings.TrimSpace(v.Value)
			if strings.Contains(s, "%") {
				p.error(v.Place, "bad-value", "%q has a zone; addresses on the wire have none", clip(s))
				continue
			}
			_, err := netip.ParseAddr(s)
			if _, errPrefix := netip.ParsePrefix(s); err != nil && errPrefix != nil {
				p.error(v.Place, "bad-value", "%q is no IP address and no CIDR", clip(s)).WithHint("like 10.0.0.0/8 or 2001:db8::1")
			}
		case "Digest":
			if _, err := digest.Parse(v.Value); err != nil {
				p.error(v.Place, "bad-digest", "%v", err)
			}
		case "FileType":
			p.oneOf(v.Place, v.Value, &fileTypes)
		}
	}
}

// portRange makes a range of a single port.
func portRange(s string) string {
	if strings.Contains(s, ":") {
		return s
	}
	return s + ":" + s
}

// checkRange reads "min:max".
func (p *parser) checkRange(v policy.Text) (lo, hi *big.Int, ok bool) {
	a, b, two := strings.Cut(v.Value, ":")
	lo, okLo := new(big.Int).SetString(strings.TrimSpace(a), 0)
	hi, okHi := new(big.Int).SetString(strings.TrimSpace(b), 0)
	switch {
	case !two:
		p.error(v.Place, "bad-value", "%q is no range", clip(v.Value)).WithHint("min:max")
	case !okLo || !okHi:
		s := a
		if okLo {
			s = b
		}
		p.error(v.Place, "bad-value", "%q is no number", clip(s))
	case lo.Cmp(hi) > 0:
		p.error(v.Place, "bad-value", "nothing is in the range %s: it begins behind its end", clip(v.Value)).WithHint("%s:%s", strings.TrimSpace(b), strings.TrimSpace(a))
	default:
		return lo, hi, true
	}
	return nil, nil, false
}
