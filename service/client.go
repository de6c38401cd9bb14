package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/sluice-rpc/sluice/channel"
)

// MaxServices that a Client makes, with those that were closed not counted.
const MaxServices = 10000

// Client is the way into a cloud: it makes Services and Loggers, which share its locator
// and its event loops. All methods may be called by any goroutine but a loop.
type Client struct {
	// immutable
	cfg      Config
	own      *channel.Loops // nil if they are the user's
	locator  *Locator
	follower *follower // nil if no routing groups are followed

	closing  sync.Once
	closeErr error

	mu      sync.Mutex // guards the following; nothing is called under it
	named   map[string]*Service
	all     []*Service
	logger  *Logger // that of Log
	loggers []*Logger
	closed  bool
}

// ClientStats is a snapshot of a Client.
type ClientStats struct {
	Locator  ServiceStats
	Services []ServiceStats // in the order in which they were made
}

// Connect returns a Client that is connected to a locator, the first of Config.Locators
// that takes the connection. It waits for that as a call does, also if none is there yet: until
// ctx ends or Config.MaxConnects tries have failed, or with Config.FailFast one.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	cfg.setDefaults()
	if cfg.FollowGroups && cfg.V0 {
		return nil, fmt.Errorf("service: Config.FollowGroups: %w: the locator of v0 tells of no routing groups", ErrDialect)
	}
	endpoints, err := parseAll(cfg.Locators)
	if err != nil {
		return nil, err
	}
	c := &Client{named: map[string]*Service{}}
	if cfg.Loops == nil && cfg.Dial == nil {
		if c.own, err = channel.NewLoops(channel.LoopsConfig{Logger: cfg.Logger}); err != nil {
			return nil, fmt.Errorf("service: %w", err)
		}
		cfg.Loops = c.own
	}
	c.cfg = cfg
	c.cfg.pace = newPace(cfg.MaxDials)
	if c.locator, err = newLocator(&c.cfg, endpoints); err == nil {
		err = c.locator.service.Connect(ctx)
	}
	if err != nil {
		_ = c.Close(context.WithoutCancel(ctx)) // there is nothing to drain
		return nil, err
	}
	if cfg.FollowGroups {
		c.follow()
	}
	return c, nil
}

// parseAll reads the addresses of locators; without any it is the default.
func parseAll(texts []string) ([]Endpoint, error) {
	if len(texts) == 0 {
		texts = []string{""}
	}
	var all []Endpoint
	for _, text := range texts {
		list, err := ParseLocators(text)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	if len(all) > MaxEndpoints {
		return nil, fmt.Errorf("service: %d locators, limit %d", len(all), MaxEndpoints)
	}
	return all, nil
}

// Service returns the service of that name, any version, one connection; the same at each
// call, until it is closed. It connects when it is called. A name that cannot be is told by
// the calls.
func (c *Client) Service(name string) *Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serviceLocked(name)
}

func (c *Client) serviceLocked(name string) *Service {
	if s := c.named[name]; s != nil && (c.closed || !s.isClosed()) {
		return s
	}
	s, err := c.makeLocked(ServiceConfig{Name: name})
	if err != nil {
		return failing(&c.cfg, name, err)
	}
	c.named[name] = s
	return s
}

// Services returns the services of those names when all of them are connected, which they
// do at the same time. The error is that of all that are not.
func (c *Client) Services(ctx context.Context, names ...string) ([]*Service, error) {
	list, errs := make([]*Service, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		list[i] = c.Service(name)
		wg.Go(func() { errs[i] = list[i].Connect(ctx) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return list, nil
}

// NewService returns a new Service, which has nothing but the locator in common with
// others of its name. Close it, or the Client.
func (c *Client) NewService(cfg ServiceConfig) (*Service, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.makeLocked(cfg)
}

func (c *Client) makeLocked(cfg ServiceConfig) (*Service, error) {
	if c.closed {
		return nil, fmt.Errorf("service %q: the client is closed: %w", cfg.Name, ErrClosed)
	}
	c.all = slices.DeleteFunc(c.all, (*Service).isClosed)
	maps.DeleteFunc(c.named, func(_ string, s *Service) bool { return s.isClosed() })
	if len(c.all) >= MaxServices {
		return nil, fmt.Errorf("service %q: %d services are there: close some", cfg.Name, MaxServices)
	}
	s, err := newService(&c.cfg, cfg, func(ctx context.Context) (Resolved, error) {
		return c.locator.ResolveSeed(ctx, cfg.Name, cfg.Seed)
	})
	if err == nil {
		c.all = append(c.all, s)
	}
	return s, err
}

// Locator returns the locator.
func (c *Client) Locator() *Locator { return c.locator }

// Stats returns a snapshot.
func (c *Client) Stats() ClientStats {
	st := ClientStats{Locator: c.locator.Stats()}
	c.mu.Lock()
	list := slices.Clone(c.all)
	c.mu.Unlock()
	for _, s := range list {
		st.Services = append(st.Services, s.Stats())
	}
	return st
}

// Close ends the Loggers, then the Services, then the locator, and leaves no goroutine.
// What was sent or logged has left by then, unless ctx ended first. It returns the errors
// of all.
func (c *Client) Close(ctx context.Context) error {
	c.closing.Do(func() { c.closeErr = c.close(ctx) })
	return c.closeErr
}

func (c *Client) close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	loggers, services := c.loggers, c.all
	if c.logger != nil {
		loggers = append(loggers, c.logger)
	}
	c.mu.Unlock()
	c.follower.stop()
	var errs []error
	for _, l := range loggers {
		errs = append(errs, l.Close(ctx))
	}
	for _, s := range services {
		errs = append(errs, s.Close(ctx))
	}
	if c.locator != nil {
		errs = append(errs, c.locator.Close(ctx))
	}
	if c.own != nil {
		errs = append(errs, c.own.Close(ctx))
	}
	return errors.Join(errs...)
}
