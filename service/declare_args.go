package service

import (
	"errors"
	"fmt"

	"github.com/sluice-rpc/sluice/codec"
)

// ErrBadArgs is wrapped by what a Serve method returns if the arguments make no sense; it
// is answered as by [Call.BadArgs].
var ErrBadArgs = errors.New("bad arguments")

// Arg is one argument of a method.
type Arg struct {
	Name     string
	Kind     ArgKind
	Optional bool
}

// String returns name and kind, in brackets if the argument is optional.
func (a Arg) String() string {
	text := a.Name + " " + a.Kind.String()
	if a.Optional {
		return "[" + text + "]"
	}
	return text
}

// ArgKind is what an argument may be.
type ArgKind uint8

// The kinds of arguments. Whether an integer fits, and whether a string is UTF-8, is
// left to the method.
const (
	AnyArg      ArgKind = iota
	StringArg           // a string or bytes: peers do not tell them apart
	IntArg              // an integer in any form
	UintArg             // an integer of 0 or more, in any form
	BoolArg             // true or false
	FloatArg            // a float, or an integer
	ListArg             // an array of anything
	StringsArg          // an array of strings
	MapArg              // a map of anything
	lastArgKind = MapArg
)

var argKindNames = [...]string{"any", "string", "int", "uint", "bool", "float", "list", "strings", "map"}

// String returns the kind in a word, for example "strings".
func (k ArgKind) String() string {
	if int(k) < len(argKindNames) {
		return argKindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// argsError says what is wrong with arguments; it is an ErrBadArgs. The text alone is the
// 0.11 runtime's own, which is what a v0 client gets.
type argsError struct {
	text  string
	arg   string // name of the argument; empty for their number
	index int
}

func (e *argsError) Error() string {
	if e.arg == "" {
		return e.text
	}
	return fmt.Sprintf("%s (argument %d, %s)", e.text, e.index, e.arg)
}

// Unwrap makes errors.Is(err, ErrBadArgs) true.
func (e *argsError) Unwrap() error { return ErrBadArgs }

// checkArgs holds an argument array against a declaration.
func checkArgs(want []Arg, args []byte) error {
	r := codec.NewReader(args)
	have, needed := r.Len(), 0
	for needed < len(want) && !want[needed].Optional {
		needed++
	}
	if have < needed {
		return &argsError{text: fmt.Sprintf("argument sequence length mismatch - expected at least %d, got %d", needed, have)}
	}
	for i := 0; i < len(want) && i < have; i++ {
		if !want[i].Kind.takes(&r) || r.Err() != nil {
			return &argsError{text: "argument type mismatch", arg: want[i].String(), index: i}
		}
	}
	return nil
}

// takes reads the next value and reports whether it is of the kind.
func (k ArgKind) takes(r *codec.Reader) bool {
	got, ok := r.Peek(), true
	switch k {
	case StringArg:
		ok = got == codec.RawValue
	case IntArg:
		ok = got == codec.UintValue || got == codec.IntValue
	case UintArg:
		ok = got == codec.UintValue
	case BoolArg:
		ok = got == codec.BoolValue
	case FloatArg:
		ok = got == codec.FloatValue || got == codec.UintValue || got == codec.IntValue
	case ListArg:
		ok = got == codec.ArrayValue
	case MapArg:
		ok = got == codec.MapValue
	case StringsArg:
		return got == codec.ArrayValue && onlyStrings(r)
	}
	if ok {
		r.Skip()
	}
	return ok
}

func onlyStrings(r *codec.Reader) bool {
	for n := r.ArrayLen(); n > 0; n-- {
		if r.Peek() != codec.RawValue {
			return false
		}
		r.Skip()
	}
	return r.Err() == nil
}
