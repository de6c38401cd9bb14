package engine

import (
	"errors"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// AppendInfo appends what the node service tells of an application: a msgpack map. If
// there is no such application, that is an *session.Error (protocol: node).
func (e *Engine) AppendInfo(dst []byte, name string, flags InfoFlags) ([]byte, error) {
	t := e.tenant(name)
	if t == nil {
		return nil, notRunning(name)
	}
	e.mu.Lock()
	state, cause := t.state.State(), t.cause
	e.mu.Unlock()
	list := []field{
		{"state", codec.AppendString(nil, state.String())},
		{"uptime", codec.AppendInt(nil, int64(time.Since(t.begun)/time.Second))},
	}
	if cause != nil {
		list = append(list, field{"cause", codec.AppendString(nil, causeText(cause))})
	}
	if state == AppRunning && flags&InfoManifest != 0 {
		list = append(list, field{"manifest", t.manifest.append(nil)})
	}
	if app := t.app.Load(); app != nil && state == AppRunning {
		list = append(list, profileField(app.Profile(), flags))
		if flags&InfoReport != 0 {
			list = append(list, fieldsOf(app.Stats().AppendInfo(nil))...)
		}
	}
	return appendFields(dst, list), nil
}

// append appends a manifest as a map.
func (m *Manifest) append(dst []byte) []byte {
	environment := make([]field, 0, len(m.Environment))
	for name, value := range m.Environment {
		environment = append(environment, field{name, codec.AppendString(nil, value)})
	}
	protocol := uint64(1)
	if m.V0 {
		protocol = 0
	}
	return appendFields(dst, []field{
		{"environment", appendFields(nil, environment)},
		{"protocol", codec.AppendUint(nil, protocol)},
		{"slave", codec.AppendString(nil, m.Slave)},
	})
}

// profileField is the entry "profile" of an info: the name, and with InfoProfile all else,
// times in seconds.
func profileField(p Profile, flags InfoFlags) field {
	list := []field{{"name", codec.AppendString(nil, p.Name)}}
	if flags&InfoProfile != 0 {
		seconds := func(key string, d time.Duration) {
			list = append(list, field{key, codec.AppendFloat64(nil, d.Seconds())})
		}
		count := func(key string, n int) { list = append(list, field{key, codec.AppendInt(nil, int64(n))}) }
		seconds("spawn-timeout", p.SpawnTimeout)
		seconds("handshake-timeout", p.HandshakeTimeout)
		seconds("heartbeat-timeout", p.HeartbeatTimeout)
		seconds("idle-timeout", p.IdleTimeout)
		seconds("terminate-timeout", p.TerminateTimeout)
		seconds("seal-timeout", p.SealTimeout)
		seconds("request-timeout", p.RequestTimeout)
		count("concurrency", p.Concurrency)
		count("pool-limit", p.PoolLimit)
		count("queue-limit", max(p.QueueLimit, 0))
		count("grow-threshold", p.GrowThreshold)
		count("crashlog-limit", max(p.CrashlogLimit, 0))
		count("publish-on", p.PublishOn)
		count("unpublish-under", p.UnpublishUnder)
		list = append(list, field{"log-output", codec.AppendBool(nil, p.LogOutput)},
			field{"isolate", appendFields(nil, []field{{"type", codec.AppendString(nil, p.Isolate)}})})
	}
	return field{"profile", appendFields(nil, list)}
}

// causeText is why an application is broken, as a client of start_app is told.
func causeText(cause error) string {
	if se := (*session.Error)(nil); errors.As(cause, &se) {
		return se.Message
	}
	return cause.Error()
}
