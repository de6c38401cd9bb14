package service

import (
	"context"
	"fmt"

	"github.com/sluice-rpc/sluice/codec"
)

// Invoke is Call with one argument and one result of Go types. In is None, anything that
// codec.Args takes, or a type whose pointer is a codec.Marshaler; Out is None, a string,
// []byte, bool, an integer, a float, []string, or a type whose pointer is a
// codec.Unmarshaler, which reads the whole answer if it is a [Tuple], else its first
// item. Other structs are not taken apart: give them these methods, by tinylib/msgp for
// example. What Out holds is the caller's. For several arguments there is InvokeArgs.
//
// A service with methods of one's own is a struct around a Service, whose methods call
// this.
func Invoke[Out, In any](ctx context.Context, s *Service, method string, in In) (Out, error) {
	var out Out
	args, err := typedArgs(&in)
	if err != nil {
		return out, fmt.Errorf("service %q: argument of %q: %w", s.Name(), method, err)
	}
	reply, err := s.Call(ctx, method, args)
	if err != nil {
		return out, err
	}
	err = reply.Decode(&out)
	if err != nil {
		err = &ReplyError{Service: s.Name(), Method: method, Err: err}
	}
	return out, err
}

// InvokeArgs is Invoke with any arguments.
func InvokeArgs[Out any](ctx context.Context, s *Service, method string, args codec.Arguments) (Out, error) {
	var out Out
	reply, err := s.Call(ctx, method, args)
	if err != nil {
		return out, err
	}
	if err = reply.Decode(&out); err != nil {
		err = &ReplyError{Service: s.Name(), Method: method, Err: err}
	}
	return out, err
}

// Decode reads the reply into *out, a pointer to a type that Invoke has for Out. Bytes are
// copied.
func (r *Reply) Decode(out any) error { return readTyped(r.args, out) }
