package engine

import (
	"context"

	"github.com/sluice-rpc/sluice/service"
)

// Engine is a node: it runs applications and the stock services. All its methods are safe
// from any goroutine.
type Engine struct {
	cfg   Config // immutable
	ready chan struct{}
}

// New returns an Engine. It checks the configuration, and touches nothing yet.
func New(cfg Config) (*Engine, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Engine{cfg: cfg, ready: make(chan struct{})}, nil
}

// Run runs the engine until ctx ends, once. It returns nil if all ended well, also if
// applications had to be ended by force, and leaves no socket, process, goroutine or file
// behind but those of Config.Dir. An application that cannot be started does not keep the
// others, or the engine, from running: it is broken, and the log and the node service's
// info say why.
func (e *Engine) Run(ctx context.Context) error { return nil }

// Ready is closed when all services are published and the applications were started, which
// is not to say that their workers run. If Run fails before that, it never is.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Endpoint returns where the locator listens; zero before Ready.
func (e *Engine) Endpoint() service.Endpoint { return service.Endpoint{} }

// Reload calls Config.Reread and reads profiles and groups anew. Running applications get
// their new profiles; if one of these is bad nothing changes, and the error says which.
func (e *Engine) Reload(ctx context.Context) error { return nil }

// StartApp starts the application of that name in the storage, with a profile of that name
// or, if profile is empty, that of its package or the default one. It returns when the
// application is published or has failed; see the node service for the errors. The
// application will be started again with every Engine of the same Dir until PauseApp.
func (e *Engine) StartApp(ctx context.Context, name, profile string) error { return nil }

// PauseApp stops an application: its service leaves, and its workers finish what they do,
// for at most Config.Grace.
func (e *Engine) PauseApp(ctx context.Context, name string) error { return nil }

// Deploy puts a package into the storage under a name. An application of that name that
// runs goes on as it is until it is started anew.
func (e *Engine) Deploy(ctx context.Context, name string, p *Package) error { return nil }
