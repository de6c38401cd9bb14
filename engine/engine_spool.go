package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sluice-rpc/sluice/engine/storage"
	"github.com/sluice-rpc/sluice/service"
)

// spool starts an application. Its own goroutine.
func (e *Engine) spool(t *tenant) {
	err := e.open(t)
	if err == nil && t.source == nil {
		err = e.want(t)
	}
	ev := appSpooled
	if err != nil {
		ctx, cancel := e.graceful()
		e.clear(ctx, t)
		cancel()
		t.app.Store(nil)
		ev = appFailed
	}
	e.mu.Lock()
	if _, to, ok := t.state.Fire(ev); !ok { // it was paused meanwhile
		t.cause = notRunning(t.name)
	} else if to == AppBroken {
		t.cause = spoolError(t.name, err)
		if !t.kept { // who asked for it is told; that is enough
			e.forgetLocked(t, appPause)
		}
	}
	e.mu.Unlock()
	close(t.spooled)
	if err != nil {
		e.log.Error("engine: an application cannot be started", "app", t.name, "err", err)
		return
	}
	e.log.Info("engine: an application runs", "app", t.name, "endpoints", t.server.Load().Endpoints())
}

// open makes everything that an application needs. What it made before an error is
// cleared away by clear.
func (e *Engine) open(t *tenant) error {
	ctx := t.spooling
	command, err := e.unpack(ctx, t)
	if err != nil {
		return err
	}
	cfg := AppConfig{
		Name: t.name, Command: command, Dir: t.dir, Env: t.manifest.env(), Dialect: t.manifest.dialect(),
		Locator: service.JoinEndpoints([]service.Endpoint{e.Endpoint()}), Loops: e.loops, Sessions: e.cfg.Sessions,
		Logger: e.log, RuntimeDir: e.place.run, OnCrash: e.keepCrash,
	}
	if t.source != nil {
		cfg.Env = append(cfg.Env, t.source.Env...)
	}
	if cfg.Profile, err = e.profileOf(ctx, t); err != nil {
		return err
	}
	s, err := e.serve(ctx, appService(t, e.dialect()))
	if err != nil {
		return err
	}
	t.server.Store(s)
	published := make(chan error, 1)
	cfg.OnPublish = func(there bool) {
		err := e.publish(s, there)
		select {
		case published <- err: // the first one
		default:
		}
	}
	app, err := NewApp(ctx, cfg)
	if err != nil {
		return err
	}
	t.app.Store(app)
	if cfg.Profile.PublishOn > 0 {
		return ctx.Err() // it is published once it has workers
	}
	select {
	case err := <-published:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unpack fills the application's directory, and returns what its workers are started by.
func (e *Engine) unpack(ctx context.Context, t *tenant) ([]string, error) {
	if t.source != nil && len(t.source.Command) > 0 {
		t.dir, t.manifest = t.source.Dir, Manifest{V0: t.source.V0}
		return t.source.Command, nil
	}
	if t.source != nil {
		p, err := ReadPackage(t.source.Path, e.cfg.Package)
		if err != nil {
			return nil, err
		}
		if err := e.lib.put(ctx, t.name, p); err != nil {
			return nil, err
		}
	}
	var err error
	if t.manifest, err = e.lib.manifest(ctx, t.name); err != nil {
		return nil, err
	}
	if len(t.manifest.Unknown) > 0 {
		e.log.Warn("engine: a manifest has keys that mean nothing here", "app", t.name, "keys", t.manifest.Unknown)
	}
	archive, err := e.lib.archive(ctx, t.name)
	if err != nil {
		return nil, err
	}
	if archive == nil {
		err = os.Mkdir(t.dir, 0o755)
	} else {
		err = unpack(bytes.NewReader(archive), int64(len(archive)), t.dir, e.cfg.Package)
	}
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", collApps, t.name, err)
	}
	return e.program(t)
}

// program finds what the manifest names.
func (e *Engine) program(t *tenant) ([]string, error) {
	file := filepath.FromSlash(t.manifest.Slave)
	if !filepath.IsAbs(file) {
		file = filepath.Join(t.dir, file)
	}
	info, err := os.Stat(file)
	switch {
	case err != nil:
		err = fmt.Errorf("%q is neither in the package nor on this machine: %w", t.manifest.Slave, err)
	case info.IsDir() || info.Mode()&0o111 == 0:
		err = fmt.Errorf("%q cannot be executed; set its mode before packing", t.manifest.Slave)
	default:
		return []string{file}, nil
	}
	return nil, &FieldError{collManifests + "/" + t.name, "slave", err}
}

// profileOf returns the profile that counts for an application: the one that was asked
// for, else its own, else "default", else DefaultProfile. Of each the configuration's
// comes before the storage's.
func (e *Engine) profileOf(ctx context.Context, t *tenant) (Profile, error) {
	e.mu.Lock()
	profiles := e.profiles // replaced, never written
	e.mu.Unlock()
	return e.profileFrom(ctx, t, profiles)
}

func (e *Engine) profileFrom(ctx context.Context, t *tenant, profiles map[string]Profile) (Profile, error) {
	names := []string{t.profile}
	if t.profile == "" {
		names = []string{t.name, defaultProfile}
	}
	for _, name := range names {
		if p, ok := profiles[name]; ok {
			p.Name = name
			return p, nil
		}
		p, unknown, err := e.lib.profile(ctx, name)
		if len(unknown) > 0 {
			e.log.Warn("engine: a profile has keys that mean nothing here", "profile", name, "keys", unknown)
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return p, err
		}
		if t.profile != "" && name != defaultProfile {
			return Profile{}, err
		}
	}
	p := Profile{Name: defaultProfile}
	if t.source != nil && len(t.source.Command) > 0 {
		p.HandshakeTimeout = DevelopmentHandshake
	}
	return p, nil
}
