package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
)

// arguments returns what the words of a command line are as the arguments of a call: see
// argument.
func arguments(words []string, raw bool) (codec.Arguments, error) {
	values := make([]any, len(words))
	for i, w := range words {
		values[i] = w
		if raw {
			continue
		}
		if v, ok := parseJSON(w); ok {
			values[i] = packed{v}
		}
	}
	args := codec.Args(values...)
	return args, args.Err()
}

// parseJSON reads one word that is JSON, as a whole. Numbers stay as they are written.
func parseJSON(word string) (any, bool) {
	d := json.NewDecoder(strings.NewReader(word))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, false
	}
	_, err := d.Token()
	return v, err == io.EOF
}

// packed is a value of parseJSON as a codec.Marshaler.
type packed struct{ v any }

// MarshalMsg appends the value as msgpack.
func (p packed) MarshalMsg(dst []byte) ([]byte, error) { return appendPacked(dst, p.v) }

// appendPacked appends what parseJSON returned as msgpack, the pairs of an object in the
// order of their keys. The depth is what encoding/json allows.
func appendPacked(dst []byte, v any) (_ []byte, err error) {
	switch v := v.(type) {
	case nil:
		return codec.AppendNil(dst), nil
	case bool:
		return codec.AppendBool(dst, v), nil
	case string:
		return codec.AppendString(dst, v), nil
	case json.Number:
		return appendNumber(dst, v)
	case []any:
		dst = codec.AppendArrayHeader(dst, len(v))
		for _, item := range v {
			if dst, err = appendPacked(dst, item); err != nil {
				return dst, err
			}
		}
		return dst, nil
	case map[string]any:
		dst = codec.AppendMapHeader(dst, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if dst, err = appendPacked(codec.AppendString(dst, key), v[key]); err != nil {
				return dst, err
			}
		}
		return dst, nil
	}
	return dst, fmt.Errorf("%T is no value of JSON", v)
}

// appendNumber appends an integer as one if it has 64 bits, anything else as a float; so
// is -0, because no integer keeps its sign.
func appendNumber(dst []byte, n json.Number) ([]byte, error) {
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil && n != "-0" {
		return codec.AppendInt(dst, i), nil
	}
	if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
		return codec.AppendUint(dst, u), nil
	}
	f, err := n.Float64()
	if err != nil {
		return dst, fmt.Errorf("the number %s is too large", n)
	}
	return codec.AppendFloat64(dst, f), nil
}

// appendText appends an argument array for people: one value a line, text and bytes as
// they are, anything else as JSON.
func appendText(dst, args []byte) []byte {
	r := codec.NewReader(args)
	for r.Len() > 0 {
		value := r.Raw()
		if value == nil {
			return dst
		}
		begin, v := len(dst), codec.NewValueReader(value)
		if v.Peek() == codec.RawValue {
			dst = append(dst, v.Bytes()...)
		} else {
			dst = codec.AppendJSONValue(dst, value)
		}
		if len(dst) == begin || dst[len(dst)-1] != '\n' {
			dst = append(dst, '\n')
		}
	}
	return dst
}

// appendJSON appends an argument array as JSON: its item if it has one, null if it has
// none, else all of it as an array.
func appendJSON(dst, args []byte) []byte {
	r := codec.NewReader(args)
	switch r.Len() {
	case 0:
		return append(dst, "null"...)
	case 1:
		return codec.AppendJSONValue(dst, r.Raw())
	}
	return codec.AppendJSONValue(dst, args)
}

// unpack returns the first value of an argument array as what encoding/json would have
// made of it, with json.Number for numbers; nil if there is none.
func unpack(args []byte) any {
	r := codec.NewReader(args)
	if r.Len() == 0 {
		return nil
	}
	return unpackValue(r.Raw())
}

// unpackValue is unpack for one value.
func unpackValue(value []byte) any {
	v, _ := parseJSON(string(codec.AppendJSONValue(nil, value))) // that is always valid JSON
	return v
}
