// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/ext"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tetragon/api/v1/tetragon"
)

// An expression is evaluated in the lane, also one that a client sent: it may not take longer than a regular expression
// on a long command line does.
const (
	celMaxText = 16 << 10 // code points
	celMaxCost = 100_000  // in units of cel-go, about one step each
)

// eventFields are the events by the name of their field, which is that of their variable in an expression.
func eventFields() protoreflect.FieldDescriptors {
	return tetragon.File_tetragon_events_proto.Messages().ByName("GetEventsResponse").Oneofs().ByName("event").Fields()
}

// celEnv is made once, when the first expression comes: it takes milliseconds.
var celEnv = sync.OnceValues(func() (*cel.Env, error) {
	opts := []cel.EnvOption{
		cel.TypeDescs(tetragon.File_tetragon_events_proto, tetragon.File_tetragon_tetragon_proto, tetragon.File_tetragon_capabilities_proto,
			tetragon.File_tetragon_bpf_proto),
		cel.ParserExpressionSizeLimit(celMaxText), ext.Network(),
	}
	fields := eventFields()
	for i := range fields.Len() {
		d := fields.Get(i)
		opts = append(opts, cel.Variable(string(d.Name()), cel.ObjectType(string(d.Message().FullName()))))
	}
	return cel.NewEnv(opts...)
})

// expression is one compiled CEL expression.
type expression struct {
	text    string
	program cel.Program
	types   map[tetragon.EventType]bool // of the events that it speaks of
	failed  bool                        // and that was told
}

// celRule matches if one of the expressions is true. One that fails is told of, once, and makes the rule not match.
func celRule(texts []string, o Options) (rule, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	empty := map[string]any{} // for events that an expression also speaks of
	fields, response := eventFields(), new(tetragon.GetEventsResponse).ProtoReflect()
	for i := range fields.Len() {
		empty[string(fields.Get(i).Name())] = response.NewField(fields.Get(i)).Message().Interface()
	}
	var exprs []*expression
	for _, text := range texts {
		x, err := compileCEL(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		exprs = append(exprs, x)
	}
	return func(s *subject) bool {
		var vars map[string]any
		for _, x := range exprs {
			if !x.types[s.eventType] {
				continue
			}
			if vars == nil {
				if vars = variables(s, empty, o); vars == nil {
					return false
				}
			}
			out, _, err := x.program.Eval(vars)
			if err != nil {
				if !x.failed && o.Complain != nil {
					x.failed = true
					o.Complain(fmt.Errorf("evaluate CEL expression %q: %w; events for which it fails do not match", x.text, err))
				}
				return false
			}
			if v, ok := out.Value().(bool); ok && v {
				return true
			}
		}
		return false
	}, nil
}

// variables are those of one event. nil if it cannot be had as a message.
func variables(s *subject, empty map[string]any, o Options) map[string]any {
	m := s.message
	if m == nil && o.Message != nil && s.event != nil {
		m = o.Message(s.event)
	}
	if m == nil {
		return nil
	}
	vars := make(map[string]any, len(empty))
	for name, v := range empty {
		vars[name] = v
	}
	r := m.ProtoReflect()
	if d := r.WhichOneof(r.Descriptor().Oneofs().ByName("event")); d != nil {
		vars[string(d.Name())] = r.Get(d).Message().Interface()
	}
	return vars
}

func compileCEL(text string) (*expression, error) {
	env, err := celEnv()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if t := checked.OutputType(); t != cel.BoolType {
		return nil, fmt.Errorf("it is of type %s; write a condition, which is true or false", t)
	}
	x := &expression{text: text, types: map[tetragon.EventType]bool{}}
	fields := eventFields()
	for _, ref := range checked.NativeRep().ReferenceMap() {
		if d := fields.ByName(protoreflect.Name(ref.Name)); d != nil && referenced(ref) {
			x.types[tetragon.EventType(d.Number())] = true
		}
	}
	if len(x.types) == 0 {
		return nil, errors.New("it speaks of no event, and so would match none; begin with the name of one, as in process_exec.process.binary")
	}
	if x.program, err = env.Program(checked, cel.CostLimit(celMaxCost)); err != nil {
		return nil, err
	}
	return x, nil
}

// referenced says whether a reference is one to a variable.
func referenced(ref *ast.ReferenceInfo) bool { return len(ref.OverloadIDs) == 0 }
