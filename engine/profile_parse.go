package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// maxProfileBytes of a profile that is parsed; more is not one.
const maxProfileBytes = 1 << 20

// ParseProfile reads a profile: a JSON object or a msgpack map with the keys of the live
// runtimes (protocol: profile), times in seconds, whole or not. Keys that are missing
// have their defaults; unknown ones are ignored, as the runtimes do. An error names the
// keys that are wrong. raw is not kept.
func ParseProfile(raw []byte) (Profile, error) {
	p, _, err := readProfile(raw)
	return p, err
}

// CheckProfile is ParseProfile for who stores profiles: it returns the keys that mean
// nothing to this engine, in order, which most likely are misspelt.
func CheckProfile(raw []byte) (unknown []string, err error) {
	_, unknown, err = readProfile(raw)
	return unknown, err
}

// readProfile is ParseProfile, and also returns the unknown keys in order.
func readProfile(raw []byte) (p Profile, unknown []string, err error) {
	fields, err := profileFields(raw)
	if err == nil {
		err = fields.fill(&p)
	}
	if err != nil {
		return Profile{}, nil, fmt.Errorf("engine: profile: %w", err)
	}
	if err := p.Validate(); err != nil {
		return Profile{}, nil, err
	}
	return p, slices.Sorted(maps.Keys(fields)), nil
}

// profileValue is a value of a profile as far as it matters: a number, a bool, a string
// or, as map, the members of one.
type profileValue struct {
	number *float64
	truth  *bool
	text   *string
	object profileMap
}

// profileMap has the members that were not taken yet.
type profileMap map[string]profileValue

// take returns a member, and forgets it.
func (m profileMap) take(key string) (profileValue, bool) {
	v, ok := m[key]
	delete(m, key)
	return v, ok
}

// profileFields reads either format.
func profileFields(raw []byte) (profileMap, error) {
	if len(raw) > maxProfileBytes {
		return nil, fmt.Errorf("it has %d bytes, want at most %d", len(raw), maxProfileBytes)
	}
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '{' {
		return jsonFields(trimmed)
	}
	r := codec.NewValueReader(raw)
	if r.Peek() != codec.MapValue {
		return nil, errors.New("it is neither a JSON object nor a msgpack map")
	}
	m := msgpackFields(&r, maxProfileDepth)
	if err := r.Err(); err != nil {
		return nil, err
	}
	return m, nil
}

// maxProfileDepth of maps that are looked into; isolate.args may be deeper, and is skipped.
const maxProfileDepth = 2

func jsonFields(raw []byte) (profileMap, error) {
	var list map[string]any
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	return fromJSON(list), nil
}

func fromJSON(list map[string]any) profileMap {
	m := make(profileMap, len(list))
	for key, v := range list {
		switch v := v.(type) {
		case float64:
			m[key] = profileValue{number: &v}
		case bool:
			m[key] = profileValue{truth: &v}
		case string:
			m[key] = profileValue{text: &v}
		case map[string]any:
			m[key] = profileValue{object: fromJSON(v)}
		default:
			m[key] = profileValue{}
		}
	}
	return m
}

// msgpackFields reads the map that r is in front of.
func msgpackFields(r *codec.Reader, depth int) profileMap {
	n := r.MapLen()
	m := make(profileMap, min(n, 64))
	for range n {
		if r.Err() != nil {
			break
		}
		key := r.String()
		m[key] = msgpackValue(r, depth-1)
	}
	return m
}

func msgpackValue(r *codec.Reader, depth int) (v profileValue) {
	switch r.Peek() {
	case codec.UintValue, codec.IntValue, codec.FloatValue:
		n := r.Float64()
		v.number = &n
	case codec.BoolValue:
		b := r.Bool()
		v.truth = &b
	case codec.RawValue:
		s := r.String()
		v.text = &s
	case codec.MapValue:
		if depth > 0 {
			v.object = msgpackFields(r, depth)
			break
		}
		r.Skip()
	default:
		r.Skip()
	}
	return v
}

// fill sets the fields of p that m has. The live runtimes' v0 names are taken too.
func (m profileMap) fill(p *Profile) error {
	faults := []error{
		m.seconds("spawn-timeout", &p.SpawnTimeout, false),
		m.seconds("startup-timeout", &p.HandshakeTimeout, false),
		m.seconds("handshake-timeout", &p.HandshakeTimeout, false),
		m.seconds("heartbeat-timeout", &p.HeartbeatTimeout, false),
		m.seconds("idle-timeout", &p.IdleTimeout, true),
		m.seconds("termination-timeout", &p.TerminateTimeout, false),
		m.seconds("terminate-timeout", &p.TerminateTimeout, false),
		m.seconds("seal-timeout", &p.SealTimeout, false),
		m.seconds("request-timeout", &p.RequestTimeout, false),
		m.count("concurrency", &p.Concurrency, 1, math.MaxInt32),
		m.count("pool-limit", &p.PoolLimit, 1, MaxPoolLimit),
		m.count("queue-limit", &p.QueueLimit, 0, maxQueueLimit),
		m.count("grow-threshold", &p.GrowThreshold, 1, math.MaxInt32),
		m.count("crashlog-limit", &p.CrashlogLimit, 0, maxCrashlogLimit),
		m.count("publish-on", &p.PublishOn, 0, math.MaxInt32),
		m.count("unpublish-under", &p.UnpublishUnder, 0, math.MaxInt32),
		m.truth("log-output", &p.LogOutput),
		m.text("name", &p.Name),
		m.isolate(&p.Isolate),
	}
	// 0 on the wire is none, which is negative in a Profile, but for the two thresholds.
	p.PublishOn, p.UnpublishUnder = max(p.PublishOn, 0), max(p.UnpublishUnder, 0)
	return errors.Join(faults...)
}

// seconds reads a time; 0 is refused, or means none.
func (m profileMap) seconds(key string, to *time.Duration, zero bool) error {
	v, ok := m.take(key)
	if !ok {
		return nil
	}
	if v.number == nil {
		return faulty(key, "is no number, want seconds")
	}
	switch s := *v.number; {
	case s == 0 && zero:
		*to = -1
	case s >= 1e-9 && s < math.MaxInt64/1e9:
		*to = time.Duration(s * 1e9)
	default:
		return faulty(key, "is %v, want seconds above 0", s)
	}
	return nil
}

// count reads a number from least to most; 0 becomes negative, which is none.
func (m profileMap) count(key string, to *int, least, most int) error {
	v, ok := m.take(key)
	if !ok {
		return nil
	}
	if v.number == nil || *v.number != math.Trunc(*v.number) {
		return faulty(key, "is no whole number")
	}
	n := *v.number
	if n < float64(least) || n > float64(most) {
		return faulty(key, "is %.0f, want %d to %d", n, least, most)
	}
	if *to = int(n); n == 0 {
		*to = -1
	}
	return nil
}

func (m profileMap) truth(key string, to *bool) error {
	v, ok := m.take(key)
	if !ok {
		return nil
	}
	if v.truth == nil {
		return faulty(key, "is neither true nor false")
	}
	*to = *v.truth
	return nil
}

func (m profileMap) text(key string, to *string) error {
	v, ok := m.take(key)
	if !ok {
		return nil
	}
	if v.text == nil {
		return faulty(key, "is no string")
	}
	*to = *v.text
	return nil
}

// isolate reads isolate.type. Its args are for the isolation, and a process has none.
func (m profileMap) isolate(to *string) error {
	v, ok := m.take("isolate")
	if !ok {
		return nil
	}
	if v.object == nil {
		return faulty("isolate", "is no map")
	}
	if kind, ok := v.object.take("type"); ok {
		return profileMap{"isolate.type": kind}.text("isolate.type", to)
	}
	return nil
}
