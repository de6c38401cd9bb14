package engine_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
)

// packed turns JSON into msgpack.
func packed(t testing.TB, text string) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return appendAny(nil, v)
}

func appendAny(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return codec.AppendNil(dst)
	case bool:
		return codec.AppendBool(dst, v)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return codec.AppendInt(dst, int64(v))
		}
		return codec.AppendFloat64(dst, v)
	case string:
		return codec.AppendString(dst, v)
	case []any:
		dst = codec.AppendArrayHeader(dst, len(v))
		for _, one := range v {
			dst = appendAny(dst, one)
		}
	case map[string]any:
		dst = codec.AppendMapHeader(dst, len(v))
		for key, one := range v {
			dst = appendAny(codec.AppendString(dst, key), one)
		}
	}
	return dst
}

func TestParseProfile(t *testing.T) {
	for _, tt := range []struct {
		text string
		want engine.Profile
	}{
		{`{}`, engine.Profile{}},
		{
			`{"heartbeat-timeout": 30, "handshake-timeout": 0.5, "idle-timeout": 0, "queue-limit": 0, "pool-limit": 4}`,
			engine.Profile{HeartbeatTimeout: 30 * time.Second, HandshakeTimeout: 500 * time.Millisecond, IdleTimeout: -1, QueueLimit: -1, PoolLimit: 4},
		},
		{
			`{"startup-timeout": 10, "termination-timeout": 5.0, "idle-timeout": 600}`,
			engine.Profile{HandshakeTimeout: 10 * time.Second, TerminateTimeout: 5 * time.Second, IdleTimeout: 600 * time.Second},
		},
		{
			`{"spawn-timeout": 1, "seal-timeout": 60, "terminate-timeout": 10, "request-timeout": 86400, "concurrency": 10,
			  "grow-threshold": 3, "crashlog-limit": 0, "log-output": true, "publish-on": 0, "unpublish-under": 2, "name": "n"}`,
			engine.Profile{
				SpawnTimeout: time.Second, SealTimeout: time.Minute, TerminateTimeout: 10 * time.Second, RequestTimeout: 24 * time.Hour,
				Concurrency: 10, GrowThreshold: 3, CrashlogLimit: -1, LogOutput: true, UnpublishUnder: 2, Name: "n",
			},
		},
		{
			`{"isolate": {"type": "process", "args": {"spool": {"deep": [1, {"a": null}]}}}, "unknown": [1, 2, {"x": {}}]}`,
			engine.Profile{Isolate: "process"},
		},
	} {
		for format, raw := range map[string][]byte{"JSON": []byte(" " + tt.text), "msgpack": packed(t, tt.text)} {
			got, err := engine.ParseProfile(raw)
			if err != nil || got != tt.want {
				t.Errorf("%s: ParseProfile(%s) = %+v, %v, want %+v", format, tt.text, got, err, tt.want)
			}
		}
	}
}

// An error names what is wrong, all of it.
func TestParseProfileErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`{"pool-limit": 0}`, "pool-limit is 0, want 1"},
		{`{"pool-limit": 100000}`, "pool-limit is 100000, want 1 to 1024"},
		{`{"concurrency": 1.5}`, "concurrency is no whole number"},
		{`{"concurrency": -1}`, "concurrency is -1"},
		{`{"heartbeat-timeout": 0}`, "heartbeat-timeout is 0, want seconds above 0"},
		{`{"heartbeat-timeout": "30s"}`, "heartbeat-timeout is no number, want seconds"},
		{`{"seal-timeout": 1e300}`, "seal-timeout is 1e+300"},
		{`{"queue-limit": 99999999}`, "queue-limit is 99999999"},
		{`{"crashlog-limit": 99999999}`, "crashlog-limit is 99999999, want 0 to 10000"},
		{`{"log-output": 1}`, "log-output is neither true nor false"},
		{`{"isolate": "docker"}`, "isolate is no map"},
		{`{"isolate": {"type": 5}}`, "isolate.type is no string"},
		{`{"isolate": {"type": "docker"}}`, `isolate.type is "docker", want "process"`},
		{`{"idle-timeout": -5, "crashlog-limit": []}`, "idle-timeout is -5"},
		{`{"idle-timeout": -5, "crashlog-limit": []}`, "crashlog-limit is no whole number"},
	} {
		for format, raw := range map[string][]byte{"JSON": []byte(tt.text), "msgpack": packed(t, tt.text)} {
			if _, err := engine.ParseProfile(raw); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: ParseProfile(%s) = %v, want %q in it", format, tt.text, err, tt.want)
			}
		}
	}
	for _, raw := range []string{"", "[]", "\x93\x01", "{", "\x81\xa1a", "\x05", strings.Repeat(" ", 1<<20) + "{}"} {
		if _, err := engine.ParseProfile([]byte(raw)); err == nil {
			t.Errorf("ParseProfile(%.20q) = nil, want an error", raw)
		}
	}
}

// The defaults are those of the live runtimes (protocol: profile).
func TestDefaultProfile(t *testing.T) {
	want := engine.Profile{
		Name: "default", SpawnTimeout: time.Second, HandshakeTimeout: 5 * time.Second, HeartbeatTimeout: 30 * time.Second,
		IdleTimeout: 600 * time.Second, TerminateTimeout: 10 * time.Second, SealTimeout: 60 * time.Second, RequestTimeout: 86400 * time.Second,
		Concurrency: 10, PoolLimit: 10, QueueLimit: 100, GrowThreshold: 5, CrashlogLimit: 50, Isolate: "process",
	}
	if got := engine.DefaultProfile(codec.V1); got != want {
		t.Errorf("DefaultProfile(v1) = %+v, want %+v", got, want)
	}
	want.HandshakeTimeout, want.TerminateTimeout = 10*time.Second, 5*time.Second
	if got := engine.DefaultProfile(codec.V0); got != want {
		t.Errorf("DefaultProfile(v0) = %+v, want %+v", got, want)
	}
	if err := want.Validate(); err != nil {
		t.Errorf("Validate() = %v", err)
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add([]byte(`{"pool-limit": 3, "isolate": {"type": "process"}, "idle-timeout": 0}`))
	f.Add(packed(f, `{"pool-limit": 3, "isolate": {"type": "process", "args": {"x": []}}, "seal-timeout": 0.25}`))
	f.Add([]byte("\xdf\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := engine.ParseProfile(raw)
		if err != nil {
			return
		}
		if err := p.Validate(); err != nil {
			t.Errorf("ParseProfile() took what Validate() refuses: %v", err)
		}
	})
}
