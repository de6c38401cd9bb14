package engine

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-rpc/sluice/engine/storage"
	"github.com/sluice-rpc/sluice/service"
)

// Stats is a snapshot of an Engine.
type Stats struct {
	State  NodeState
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
	if s.State != NodeIdle {
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
			info := app.Stats()
			s.Apps[i].Info, s.Apps[i].Service = &info, serviceStats(server)
		}
	}
	if s.State != NodeRunning && s.State != NodeStopping {
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
