// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"errors"
	"fmt"

	"tetragon/internal/policy"
	"tetragon/internal/policy/expr"
)

// checkExpression checks an expression over the arguments of a hook.
func (p *parser) checkExpression(at policy.Place, text string, args []policy.Arg) {
	_, err := expr.Parse(text, func(i int) (expr.Type, error) {
		if i >= len(args) {
			return "", fmt.Errorf("the hook has no args[%d]", i)
		}
		name := args[i].Type.Value
		if name == "" || name == "auto" {
			return "", expr.ErrTold
		}
		t := expr.OfArg(name)
		if t == "" {
			return "", fmt.Errorf("args[%d] is of type %s; expressions know int, int32, uint32, int64, long, uint64 and ulong", i, name)
		}
		return t, nil
	})
	var wrong *expr.Error
	if errors.As(err, &wrong) {
		p.error(at, "bad-expression", "%s of the expression: %v", wrong.Where(), wrong).WithMark(wrong)
	}
}
