package engine

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine/storage"
	"github.com/sluice-rpc/sluice/service"
)

// Stats is a snapshot of an Engine.
type Stats struct {
	State  EngineState
	Uptime time.Duration
	// Apps in the order of their names.
	Apps []AppStats
	// Services are the stock services, the locator first. Those of applications are in
	// Apps.
	Services []ServiceStats
	Locator  LocatorStats
	Logging  LoggingStats
	Storage  StorageStats
	Store    storage.Stats
}

// AppStats are those of one application.
type AppStats struct {
	Name  string
	State AppState
	// Cause is why it is broken; nil otherwise.
	Cause error
	// Info has the counters of the queue and the pool (protocol: queue, choice of slave,
	// growth); nil unless the application runs.
	Info *AppInfo
	// Service of the application; zero unless the application runs.
	Service ServiceStats
}

// ServiceStats are those of one service.
type ServiceStats struct {
	Name      string
	Endpoints []service.Endpoint
	service.ServerStats
}

// Stats returns a snapshot. Before Ready, and after Run, it has State and Apps only.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	s := Stats{State: e.state.State()}
	if s.State != EngineIdle {
		s.Uptime = time.Since(e.begun)
	}
	var list []*tenant
	for _, name := range slices.Sorted(maps.Keys(e.tenants)) {
		t := e.tenants[name]
		list = append(list, t)
		s.Apps = append(s.Apps, AppStats{Name: name, State: t.state.State(), Cause: t.cause})
	}
	e.mu.Unlock()
	for i, t := range list {
		if app, server := t.app.Load(), t.server.Load(); app != nil && server != nil {
			info := app.Info()
			s.Apps[i].Info, s.Apps[i].Service = &info, serviceStats(server)
		}
	}
	if s.State != EngineRunning && s.State != EngineStopping {
		return s
	}
	for _, server := range e.servers {
		s.Services = append(s.Services, serviceStats(server))
	}
	s.Locator, s.Logging, s.Storage, s.Store = e.locator.Stats(), e.logging.Stats(), e.storage.Stats(), e.place.store.Stats()
	return s
}

func serviceStats(s *service.Server) ServiceStats {
	return ServiceStats{Name: s.Name(), Endpoints: s.Endpoints(), ServerStats: s.Stats()}
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
