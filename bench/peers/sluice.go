package main

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// serveWorkers is sluice as an application meets it: one worker.Worker on each accepted
// connection, as if an engine had started it there, with its session table, heartbeats,
// limits, timeouts and watchdog at their defaults, and a handler on the loop. Only two
// things differ from a worker process: the workers share the event loops, since a
// process has but one of them, and none is disowned, since the client does not beat.
func serveWorkers(d codec.Dialect) func(network, addr string) error {
	return func(network, addr string) error {
		return serveSluice(network, addr, func(conn net.Conn, loops *channel.Loops) error {
			cfg := worker.Config{App: "bench", UUID: "peers", Conn: conn, Dialect: d, Disown: -1, Logger: quiet}
			cfg.Sessions.Channel.Loops = loops
			w, err := worker.New(cfg)
			if err != nil {
				return err
			}
			h := &handler{}
			w.HandleFunc(event, func(*worker.Session) session.Handler { return h })
			_ = w.Run(context.Background()) // the client went
			return nil
		})
	}
}

// serveTables is a bare session.Table on each connection: what the worker around it
// costs is the difference.
func serveTables(network, addr string) error {
	return serveSluice(network, addr, func(conn net.Conn, loops *channel.Loops) error {
		cfg := session.Config{Owner: &owner{h: &handler{}}, Logger: quiet}
		cfg.Channel.Loops = loops
		t, err := session.New(cfg)
		if err != nil {
			return err
		}
		if err := t.Channel().Attach(conn); err != nil {
			return err
		}
		<-t.Channel().Done()
		return nil
	})
}

var quiet = slog.New(slog.DiscardHandler)

// serveSluice runs serve with every accepted connection.
func serveSluice(network, addr string, serve func(net.Conn, *channel.Loops) error) error {
	loops, err := channel.NewLoops(channel.LoopsConfig{})
	if err != nil {
		return err
	}
	ln, err := channel.Listen(context.Background(), network, addr, channel.ListenConfig{})
	if err != nil {
		return err
	}
	ready(ln.Addr().String())
	return ln.Serve(func(conn net.Conn) {
		go func() {
			defer ln.Release()
			if err := serve(conn, loops); err != nil {
				panic(err) // a mistake of this program; the client sees the connection go
			}
		}()
	})
}

// handler serves all sessions of one connection, on its loop.
type handler struct{ n uint64 }

// OnChunk counts, and answers as the harness wants it.
func (h *handler) OnChunk(s *session.Session, p []byte) {
	h.n++
	switch p[0] {
	case markSink:
	case markCount:
		_ = s.SendChunk(binary.BigEndian.AppendUint64(make([]byte, 0, 8), h.n))
	default:
		_ = s.SendChunk(p)
	}
}

// OnChoke is never called: clients just go.
func (h *handler) OnChoke(*session.Session) {}

// OnError is called when the client went.
func (h *handler) OnError(*session.Session, *session.Error) {}

// owner is what a bare table needs around it.
type owner struct{ h *handler }

// OnInvoke gives every session to the handler.
func (o *owner) OnInvoke(s *session.Session) { s.SetHandler(o.h) }

// OnOpen and the rest are of no interest here.
func (o *owner) OnOpen()                     {}
func (o *owner) OnHandshake([]byte)          {}
func (o *owner) OnHeartbeat()                {}
func (o *owner) OnTerminate(int64, []byte)   {}
func (o *owner) OnClose(*channel.CloseError) {}
