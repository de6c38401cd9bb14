package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-rpc/sluice/codec"
)

// None is the In of a method without arguments, and the Out of one without a result.
type None struct{}

// Typed makes a Serve method of a function with one argument and one result. In is None,
// a string, []byte, bool, an integer, a float, []string, or a type whose pointer is a
// codec.Unmarshaler, which reads the whole argument array as one value if it is a
// [Tuple], else the first argument. Out is None, anything that codec.Args takes, or a
// type whose pointer is a codec.Marshaler. In's bytes and strings are the function's to
// keep.
//
// What cannot be read is ErrBadArgs; the errors of f are those of Serve. With any other In
// or Out, a pointer for example, every call is answered with an error that says so.
func Typed[In, Out any](f func(ctx context.Context, in In) (Out, error)) func(ctx context.Context, c *Call) error {
	return func(ctx context.Context, c *Call) error {
		var in In
		switch err := readTyped(c.Args(), &in); {
		case errors.Is(err, errType):
			return err
		case err != nil:
			return fmt.Errorf("%w: %w", ErrBadArgs, err)
		}
		out, err := f(ctx, in)
		if err != nil {
			return err
		}
		args, err := typedArgs(&out)
		if err != nil {
			return err
		}
		return c.Reply(args)
	}
}

// Tuple is an In that is read from the whole argument array, so that a method may have
// several arguments: UnmarshalMsg gets the array. Types that msgp generates with its
// "tuple" directive are written that way.
type Tuple interface {
	codec.Unmarshaler
	Tuple()
}

func readTyped(args []byte, in any) error {
	r := codec.NewReader(args)
	switch v := in.(type) {
	case *None:
		return nil
	case Tuple:
		_, err := v.UnmarshalMsg(args)
		return err
	case codec.Unmarshaler:
		_, err := v.UnmarshalMsg(r.Raw())
		if r.Err() != nil {
			return r.Err()
		}
		return err
	}
	if err := readScalar(&r, in); err != nil {
		return err
	}
	return r.Err()
}

// typedArgs returns the results for *out.
func typedArgs(out any) (codec.Arguments, error) {
	switch v := out.(type) {
	case *None:
		return codec.Arguments{}, nil
	case codec.Marshaler:
		a := codec.Args(v)
		return a, a.Err()
	}
	a := codec.Args(pointed(out))
	return a, a.Err()
}
