package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
)

const (
	maxManifestBytes = 64 << 10 // of manifest.json, or of the blob in the storage
	maxAppNameBytes  = 128
)

// Manifest says what an application is made of (protocol: command line of a worker). In a
// package it is the file manifest.json; the storage has it as a msgpack map in collection
// "manifests" under the application's name, as the live runtimes do.
type Manifest struct {
	// Slave is the program of the workers: a path in the package, or an absolute one.
	Slave string
	// Environment is added to the engine's own.
	Environment map[string]string
	// V0 has the workers speak v0: "protocol": 0. The live runtimes have no such key.
	V0 bool

	// Unknown are the keys that mean nothing to this engine, in order. Manifests of the
	// live runtimes have some, and they are kept.
	Unknown []string
}

// FieldError says which field of a manifest, a profile or a configuration is wrong. What
// it is in is refused as a whole.
type FieldError struct {
	File  string // where it was read: a path, or "collection/key" of the storage
	Field string // keys from the top with dots between; empty for the whole
	Err   error
}

// Error returns for example `app.json: apps.echo.command: want a list of strings`.
func (e *FieldError) Error() string {
	s := e.File + ": "
	if e.Field != "" {
		s += e.Field + ": "
	}
	return s + e.Err.Error()
}

// Unwrap returns Err.
func (e *FieldError) Unwrap() error { return e.Err }

// ParseManifest reads a manifest: JSON, or a msgpack map. file is what errors, which are
// *FieldError, are to name. raw is borrowed.
func ParseManifest(file string, raw []byte) (Manifest, error) {
	var m Manifest
	fields, err := parseFields(file, raw, maxManifestBytes)
	if err != nil {
		return m, err
	}
	protocol := 1
	fields.take("slave", &m.Slave, "a string: the path of the program in the package")
	fields.take("environment", &m.Environment, "a map of strings")
	fields.take("protocol", &protocol, "0 or 1")
	m.V0, m.Unknown = protocol == 0, fields.rest()
	if fields.err != nil {
		return Manifest{}, fields.err
	}
	if field, err := m.check(protocol); err != nil {
		return Manifest{}, &FieldError{file, field, err}
	}
	return m, nil
}

func (m *Manifest) check(protocol int) (field string, err error) {
	if m.Slave == "" {
		return "slave", errors.New(`is missing: name the program of the workers, e.g. "slave": "worker.py"`)
	}
	if strings.ContainsRune(m.Slave, 0) || !filepath.IsAbs(m.Slave) && !filepath.IsLocal(filepath.FromSlash(m.Slave)) {
		return "slave", fmt.Errorf("%q is neither inside the package nor an absolute path", m.Slave)
	}
	if protocol != 0 && protocol != 1 {
		return "protocol", fmt.Errorf("is %d, want 0 or 1", protocol)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Environment)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(m.Environment[name], 0) {
			return "environment", fmt.Errorf("%q is no variable that a process can have", name)
		}
	}
	return "", nil
}

// env returns the environment as NAME=value, in order.
func (m *Manifest) env() []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m.Environment)) {
		list = append(list, name+"="+m.Environment[name])
	}
	return list
}

// dialect that the workers speak.
func (m *Manifest) dialect() codec.Dialect {
	if m.V0 {
		return codec.V0
	}
	return codec.V1
}

// CheckAppName returns what is wrong with the name of an application: it has to do as that
// of a directory, of a socket and of a service.
func CheckAppName(name string) error {
	switch {
	case name == "":
		return errors.New("an application needs a name")
	case len(name) > maxAppNameBytes:
		return fmt.Errorf("application %.32q…: a name of %d bytes, limit %d", name, len(name), maxAppNameBytes)
	case strings.HasPrefix(name, "."), strings.HasPrefix(name, "-"):
		return fmt.Errorf("application %q: a name begins with a letter, a digit or '_'", name)
	}
	for i := range len(name) {
		c := name[i] | 0x20
		if (c < 'a' || c > 'z') && (name[i] < '0' || name[i] > '9') && !strings.ContainsRune("._-", rune(name[i])) {
			return fmt.Errorf("application %q: a name has letters, digits, '.', '_' and '-' only", name)
		}
	}
	return nil
}

// fieldSet is a JSON object whose fields are taken one by one.
type fieldSet struct {
	file, prefix string
	raw          map[string]json.RawMessage
	err          *FieldError // the first one
}

// parseFields reads a JSON object or a msgpack map of at most limit bytes.
func parseFields(file string, raw []byte, limit int) (*fieldSet, error) {
	if len(raw) > limit {
		return nil, &FieldError{file, "", fmt.Errorf("%d bytes, limit %d", len(raw), limit)}
	}
	text, err := asJSON(raw)
	if err != nil {
		return nil, &FieldError{file, "", err}
	}
	f := &fieldSet{file: file}
	if f.raw, err = objectOf(text); err != nil {
		return nil, &FieldError{file, "", err}
	}
	return f, nil
}

// asJSON returns raw if it is JSON, and the JSON of what is a msgpack map. The first byte
// tells: a brace or space is a number in msgpack.
func asJSON(raw []byte) ([]byte, error) {
	trimmed := bytes.TrimLeft(raw, " \t\r\n")
	if len(trimmed) == 0 {
		return nil, errors.New("is empty, want a map")
	}
	if trimmed[0] < 0x80 {
		return trimmed, nil
	}
	r := codec.NewValueReader(raw)
	r.Skip()
	if r.Err() != nil || len(r.Rest()) > 0 {
		return nil, errors.New("is neither JSON nor one whole msgpack value")
	}
	return codec.AppendJSONValue(nil, raw), nil
}

// objectOf reads one JSON object and nothing behind it. Keys that are there twice are an
// error: which of them would count is anybody's guess.
func objectOf(text []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil {
		return nil, syntax(text, d, err)
	} else if t != json.Delim('{') {
		return nil, errors.New("want a map")
	}
	fields := make(map[string]json.RawMessage)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, syntax(text, d, err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, syntax(text, d, err)
		}
		key, _ := t.(string)
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("%q is there twice", key)
		}
		fields[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, syntax(text, d, err)
	}
	if d.More() {
		return nil, errors.New("there is something behind the map")
	}
	return fields, nil
}

// syntax adds the line to an error of the decoder.
func syntax(text []byte, d *json.Decoder, err error) error {
	at := d.InputOffset()
	var se *json.SyntaxError
	if errors.As(err, &se) {
		at = max(at, se.Offset)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		at, err = int64(len(text)), errors.New("the map has no end")
	}
	at = min(at, int64(len(text)))
	at = int64(len(text) - len(bytes.TrimLeft(text[at:], " \t\r\n")))
	return fmt.Errorf("line %d: %w", 1+bytes.Count(text[:at], []byte("\n")), err)
}

// field returns the path of a key.
func (f *fieldSet) field(key string) string {
	if f.prefix == "" || key == "" {
		return f.prefix + key
	}
	return f.prefix + "." + key
}

// fail keeps the first error.
func (f *fieldSet) fail(key string, err error) {
	if f.err == nil {
		f.err = &FieldError{f.file, f.field(key), err}
	}
}

// take decodes the value of key into what to points to, and forgets it. No value, or null,
// leaves that as it is. want says what the value should be.
func (f *fieldSet) take(key string, to any, want string) {
	raw, ok := f.raw[key]
	delete(f.raw, key)
	if !ok || string(raw) == "null" {
		return
	}
	if err := json.Unmarshal(raw, to); err != nil {
		f.fail(key, fmt.Errorf("is %.64s, want %s", raw, want))
	}
}

// object is take for a map with fields of its own; nil if there is none.
func (f *fieldSet) object(key string) *fieldSet {
	raw, ok := f.raw[key]
	delete(f.raw, key)
	if !ok || string(raw) == "null" {
		return nil
	}
	fields, err := objectOf(raw)
	if err != nil {
		f.fail(key, err)
		return nil
	}
	return &fieldSet{file: f.file, prefix: f.field(key), raw: fields}
}

// rest returns the keys that were not taken, in order.
func (f *fieldSet) rest() []string { return slices.Sorted(maps.Keys(f.raw)) }

// strict has a key that was not taken be an error.
func (f *fieldSet) strict(known ...string) {
	if rest := f.rest(); len(rest) > 0 {
		f.fail(rest[0], fmt.Errorf("is unknown; there are %s", strings.Join(known, ", ")))
	}
}

// appendValue appends a value of encoding/json, numbers as json.Number, as msgpack, maps
// in the order of their keys.
func appendValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return codec.AppendNil(dst)
	case bool:
		return codec.AppendBool(dst, v)
	case string:
		return codec.AppendString(dst, v)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return codec.AppendInt(dst, n)
		}
		x, _ := v.Float64()
		return codec.AppendFloat64(dst, x)
	case []any:
		dst = codec.AppendArrayHeader(dst, len(v))
		for _, item := range v {
			dst = appendValue(dst, item)
		}
		return dst
	case map[string]any:
		dst = codec.AppendMapHeader(dst, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			dst = appendValue(codec.AppendString(dst, key), v[key])
		}
		return dst
	}
	panic(fmt.Sprintf("engine: %T is no JSON value", v))
}

// packJSON returns the msgpack of a JSON value that was parsed before; msgpack stays.
func packJSON(raw []byte) ([]byte, error) {
	text, err := asJSON(raw)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return appendValue(nil, v), nil
}
