package engine

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/session"
)

const (
	maxHandshakeBytes = 64 << 10 // of a connection's first frame
	maxStrangers      = 64       // connections at one socket, those of slaves included
	maxParentPath     = 72       // so that the socket's path is within the 104 bytes of Darwin
)

// lobby is where workers come in: one unix socket in a directory of its own, at which
// connections wait until their handshake says whose they are. The slaves of an App share
// one; any other slave has its own.
type lobby struct {
	// immutable after open
	table    func(*link) (*session.Table, error)
	parent   string // of the directory that open makes; if empty, the temporary one
	endpoint string
	maxConns int
	ln       *channel.Listener // nil in tests
	remove   func() error      // of the directory
	waiting  sync.WaitGroup    // for Serve, and for the links that it admitted

	strangers atomic.Uint64 // links that ended without the right handshake

	mu       sync.Mutex        // guards the following
	expected map[string]*Slave // by uuid
	links    map[*link]bool
}

func newLobby(table func(*link) (*session.Table, error)) *lobby {
	return &lobby{table: table, maxConns: maxStrangers, expected: make(map[string]*Slave), links: make(map[*link]bool)}
}

// open makes the socket, and serves it until close.
func (l *lobby) open(ctx context.Context, cfg channel.ListenConfig) error {
	dir, remove, err := l.makeDir()
	if err != nil {
		return err
	}
	l.endpoint, l.remove = filepath.Join(dir, "engine.sock"), remove
	cfg.MaxConns = l.maxConns
	l.ln, err = channel.Listen(ctx, "unix", l.endpoint, cfg)
	if err != nil {
		return errors.Join(err, remove())
	}
	l.waiting.Go(func() {
		if err := l.ln.Serve(l.admit); err != nil {
			cfg.Logger.Error("engine: no worker can connect any more", "err", err)
		}
	})
	return nil
}

// makeDir makes a directory for the socket, in parent if the path is not too long there.
func (l *lobby) makeDir() (dir string, remove func() error, err error) {
	if l.parent == "" || len(l.parent) > maxParentPath {
		return channel.PrivateDir("sluice-")
	}
	dir, err = os.MkdirTemp(l.parent, "app-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// admit takes a connection and owns it.
func (l *lobby) admit(conn net.Conn) {
	k := &link{lobby: l, gone: make(chan struct{})}
	table, err := l.table(k)
	if err != nil { // the configuration was tried before
		_ = conn.Close()
		return
	}
	k.table, k.ch = table, table.Channel()
	l.mu.Lock()
	l.links[k] = true
	l.mu.Unlock()
	_ = k.ch.Attach(conn) // or the channel is over at once
	l.waiting.Go(func() { l.see(k) })
}

// see waits for the end of a link and clears it away.
func (l *lobby) see(k *link) {
	<-k.ch.Done()
	_ = k.ch.Close(context.Background()) // waits for its goroutines
	l.mu.Lock()
	delete(l.links, k)
	l.mu.Unlock()
	if l.ln != nil {
		l.ln.Release()
	}
	close(k.gone)
}

// refused counts the connections that were nobody's.
func (l *lobby) refused() uint64 {
	n := l.strangers.Load()
	if l.ln != nil {
		n += l.ln.Stats().Refused
	}
	return n
}

// expect has the next handshake with the slave's uuid be the slave's.
func (l *lobby) expect(s *Slave) {
	l.mu.Lock()
	l.expected[s.uuid] = s
	l.mu.Unlock()
}

// forget ends expect. Behind it the slave has its link, or never gets one.
func (l *lobby) forget(s *Slave) {
	l.mu.Lock()
	delete(l.expected, s.uuid)
	l.mu.Unlock()
}

// claim gives a link to the slave whose worker says uuid, once, and returns it; nil for a
// stranger.
func (l *lobby) claim(uuid []byte, k *link) *Slave {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.expected[string(uuid)]
	if s != nil {
		delete(l.expected, string(uuid))
		s.link.Store(k)
	}
	return s
}

// part ends the connection of a slave that was forgotten, and waits for its goroutines.
func (l *lobby) part(s *Slave) {
	if k := s.link.Load(); k != nil {
		k.close()
		<-k.gone
	}
}

// close ends the socket and every connection that came by it, and waits for their
// goroutines. Nothing is left in the file system.
func (l *lobby) close() error {
	var err error
	if l.ln != nil {
		err = l.ln.Close() // admit does not run any more
	}
	l.mu.Lock()
	links := slices.Collect(maps.Keys(l.links))
	l.mu.Unlock()
	for _, k := range links {
		k.close()
	}
	l.waiting.Wait()
	if l.remove != nil {
		err = errors.Join(err, l.remove())
	}
	return err
}
