package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// ErrServerClosed is returned by Listen and Attach of a server that was closed.
var ErrServerClosed = errors.New("service: the server is closed")

// ErrTooManyConns is returned by Attach above ServerConfig.MaxConns.
var ErrTooManyConns = errors.New("service: too many connections")

// ServerConfig sets up a Server. A zero field means its default, a negative one no limit.
type ServerConfig struct {
	// Declaration of the service. Required.
	Declaration Declaration
	// V0 has the server speak v0. One server speaks one dialect; it is not told on the
	// wire.
	V0 bool
	// Host that Endpoints tells for listeners on an unspecified address, such as
	// ":10054". If empty, the name of this host.
	Host string
	// Loops that own the connections. If nil, private ones, which are made by the first
	// Listen or Attach that can use them and end with Close.
	Loops *channel.Loops
	// Sessions holds the limits of each connection, those of its channel among them.
	// Role, Owner, OnSettled and the dialect are set by the server.
	Sessions session.Config
	// MaxConns bounds the connections of all listeners and of Attach. If zero, 10000.
	// Those beyond are closed at once and counted.
	MaxConns int
	// MaxCalls bounds the Serve methods that run, over all connections. If zero, 8192.
	// One more is refused with an error. Each connection has Sessions.MaxSessions besides.
	MaxCalls int
	// Logger. If nil, slog.Default().
	Logger *slog.Logger
}

// Server serves one service on any number of listeners and connections. A client that
// breaks the protocol, floods, or does not read loses its connection, and no other client
// notices. Its methods may be called by any goroutine but a loop.
type Server struct {
	// immutable
	cfg     ServerConfig
	api     *API
	methods map[uint64]*method
	byName  map[string]*method
	log     *slog.Logger
	dialect codec.Dialect

	base     context.Context // of Serve methods; ends with Close
	cut      context.CancelCauseFunc
	endless  context.Context // of those that Close does not wait for
	cutFirst context.CancelCauseFunc

	calls   tally
	counts  serverCounts
	waiting sync.WaitGroup // for what Listen and Attach started; Add under mu, before closing

	mu        sync.Mutex // guards the following
	closing   bool
	listeners []*channel.Listener
	callees   map[*Callee]bool
	conns     int
	own       *channel.Loops

	closed   chan struct{} // closed by the first Close
	closeErr error         // set before that
}

// NewServer returns a server for a declaration. It does nothing until Listen or Attach.
func NewServer(cfg ServerConfig) (*Server, error) {
	api, err := cfg.Declaration.API()
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Sessions.Logger == nil {
		cfg.Sessions.Logger = cfg.Logger
	}
	cfg.MaxConns = cmp.Or(cfg.MaxConns, 10000)
	cfg.MaxCalls = cmp.Or(cfg.MaxCalls, 8192)
	s := &Server{cfg: cfg, api: api, log: cfg.Logger, callees: make(map[*Callee]bool), closed: make(chan struct{})}
	s.dialect = codec.V1
	if cfg.V0 {
		s.dialect = codec.V0
	}
	s.methods = make(map[uint64]*method)
	s.byName = make(map[string]*method)
	for _, h := range cfg.Declaration.Methods {
		m := newMethod(h)
		s.methods[m.ID], s.byName[m.Name] = m, m
	}
	s.base, s.cut = context.WithCancelCause(context.Background())
	s.endless, s.cutFirst = context.WithCancelCause(s.base)
	// The limits of the sessions and channels are checked here, and not at every client.
	k := s.Callee()
	if _, err := k.newTable(); err != nil {
		return nil, fmt.Errorf("service: serve %s: %w", cfg.Declaration.Name, err)
	}
	return s, nil
}

// Name returns the name of the service.
func (s *Server) Name() string { return s.cfg.Declaration.Name }

// API returns the description of the service.
func (s *Server) API() *API { return s.api }

// Resolved returns what a locator tells of the service.
func (s *Server) Resolved() Resolved {
	return Resolved{Endpoints: s.Endpoints(), Version: s.cfg.Declaration.Version, API: s.api}
}

// Endpoints returns where clients reach the server by TCP, in the order of Listen.
func (s *Server) Endpoints() []Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Endpoint
	for _, l := range s.listeners {
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			continue
		}
		host := addr.IP.String()
		if addr.IP.IsUnspecified() {
			host = s.host()
		} else if addr.Zone != "" {
			host += "%" + addr.Zone
		}
		list = append(list, Endpoint{Host: host, Port: uint16(addr.Port)})
	}
	return list
}

func (s *Server) host() string {
	if s.cfg.Host != "" {
		return s.cfg.Host
	}
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "localhost"
}

// Listen opens a listener of network "tcp", "tcp4", "tcp6" or "unix", with the rules of
// channel.Listen, and serves whoever connects until Close. It may be called more than
// once.
func (s *Server) Listen(ctx context.Context, network, addr string) error {
	if s.isClosing() {
		return ErrServerClosed
	}
	l, err := channel.Listen(ctx, network, addr, channel.ListenConfig{MaxConns: s.cfg.MaxConns, Logger: s.log})
	if err != nil {
		return fmt.Errorf("service: serve %s: %w", s.Name(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errors.Join(ErrServerClosed, l.Close())
	}
	s.listeners = append(s.listeners, l)
	s.waiting.Go(func() {
		err := l.Serve(func(conn net.Conn) {
			if s.attach(conn, l) != nil { // counted; the connection is closed
				l.Release()
			}
		})
		if err != nil {
			s.log.Error("service: nobody can connect any more", "service", s.Name(), "addr", l.Addr(), "err", err)
		}
	})
	return nil
}

// Attach serves a client on a connection that is already there, and owns it from then on:
// TCP, a unix socket, TLS, or an end of a channel.Pair. It returns when the channel is
// open; on an error the connection is closed.
func (s *Server) Attach(conn net.Conn) error { return s.attach(conn, nil) }

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// admit takes the connection's place, and finds the loops for it.
func (s *Server) admit(conn net.Conn) (*channel.Loops, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return nil, ErrServerClosed
	case s.cfg.MaxConns >= 0 && s.conns >= s.cfg.MaxConns:
		s.counts.refusedConns.Add(1)
		return nil, ErrTooManyConns
	}
	if s.cfg.Loops == nil && s.own == nil && polled(conn) {
		own, err := channel.NewLoops(channel.LoopsConfig{Logger: s.log})
		if err != nil {
			return nil, err
		}
		s.own = own
	}
	s.conns++
	s.waiting.Add(1)
	s.counts.accepted.Add(1)
	if s.cfg.Loops != nil {
		return s.cfg.Loops, nil
	}
	return s.own, nil
}

// polled reports whether a connection could use an event loop.
func polled(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// attach serves a connection that came by l, nil for Attach.
func (s *Server) attach(conn net.Conn, l *channel.Listener) error {
	loops, err := s.admit(conn)
	if err != nil {
		_ = conn.Close()
		return err
	}
	k := s.Callee()
	k.loops, k.owned = loops, true
	table, err := k.newTable()
	if err != nil { // the configuration was tried by NewServer
		_ = conn.Close()
		s.leave()
		return err
	}
	k.Bind(table, conn.RemoteAddr())
	ch := table.Channel()
	err = ch.Attach(conn)
	if err == nil && s.isClosing() { // Close may have gone through the connections before Bind
		ch.Post(func() { ch.Fail(&channel.CloseError{Code: channel.CodeClosed}) })
		err = ErrServerClosed
	}
	go func() {
		defer s.leave()
		<-ch.Done()
		_ = ch.Close(context.Background()) // waits for its goroutines
		s.drop(k)
		if l != nil && err == nil {
			l.Release()
		}
	}()
	return err
}

// leave gives a connection's place back.
func (s *Server) leave() {
	s.mu.Lock()
	s.conns--
	s.mu.Unlock()
	s.waiting.Done()
}

func (s *Server) drop(k *Callee) {
	s.mu.Lock()
	delete(s.callees, k)
	s.mu.Unlock()
}
