package service

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
)

// errType is wrapped by the error for a type that values cannot be read into: whoever sent
// the value is not to blame.
var errType = errors.New("cannot be read: its pointer needs an UnmarshalMsg")

// readScalar reads the next value into *in. Bytes are copied.
func readScalar(r *codec.Reader, in any) error {
	switch v := in.(type) {
	case *string:
		*v = r.String()
	case *[]byte:
		*v = append([]byte{}, r.Bytes()...)
	case *bool:
		*v = r.Bool()
	case *float64:
		*v = r.Float64()
	case *float32:
		*v = float32(r.Float64())
	case *[]string:
		n := r.ArrayLen()
		*v = make([]string, 0, n)
		for ; n > 0 && r.Err() == nil; n-- {
			*v = append(*v, r.String())
		}
	default:
		return readInteger(r, in)
	}
	return nil
}

// readInteger reads the next value into *in and refuses one that does not fit.
func readInteger(r *codec.Reader, in any) error {
	switch v := in.(type) {
	case *int:
		return fit(r.Int64(), math.MinInt, math.MaxInt, v)
	case *int8:
		return fit(r.Int64(), math.MinInt8, math.MaxInt8, v)
	case *int16:
		return fit(r.Int64(), math.MinInt16, math.MaxInt16, v)
	case *int32:
		return fit(r.Int64(), math.MinInt32, math.MaxInt32, v)
	case *int64:
		*v = r.Int64()
	case *uint:
		return fit(r.Uint64(), 0, math.MaxUint, v)
	case *uint8:
		return fit(r.Uint64(), 0, math.MaxUint8, v)
	case *uint16:
		return fit(r.Uint64(), 0, math.MaxUint16, v)
	case *uint32:
		return fit(r.Uint64(), 0, math.MaxUint32, v)
	case *uint64:
		*v = r.Uint64()
	default:
		return fmt.Errorf("a value of type %s %w", strings.TrimPrefix(fmt.Sprintf("%T", in), "*"), errType)
	}
	return nil
}

func fit[W int64 | uint64, T int | int8 | int16 | int32 | uint | uint8 | uint16 | uint32](n, low, high W, to *T) error {
	if n < low || n > high {
		return fmt.Errorf("%d does not fit a %T", n, *to)
	}
	*to = T(n)
	return nil
}

// pointed returns what a pointer to one of the types of codec.Args points to.
func pointed(out any) any {
	switch v := out.(type) {
	case *string:
		return *v
	case *[]byte:
		return *v
	case *bool:
		return *v
	case *float32:
		return *v
	case *float64:
		return *v
	case *int:
		return *v
	case *int8:
		return *v
	case *int16:
		return *v
	case *int32:
		return *v
	case *int64:
		return *v
	case *uint:
		return *v
	case *uint8:
		return *v
	case *uint16:
		return *v
	case *uint32:
		return *v
	case *uint64:
		return *v
	case *[]string:
		return *v
	case *[][]byte:
		return *v
	case *[]any:
		return *v
	case *any:
		return *v
	}
	return out // codec.Args says that it cannot be encoded
}
