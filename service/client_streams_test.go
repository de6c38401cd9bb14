package service_test

import (
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		client := c.client(nil)
		s := client.Service("echo")
		stream, err := s.Open(t.Context(), "enqueue", codec.Args("e"))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"a", "bc", ""} {
			if err := stream.Send(t.Context(), []byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.SendMessage(t.Context(), "shout", codec.Args("x")); !errors.Is(err, session.ErrGraph) {
			t.Errorf("SendMessage(shout) = %v, want ErrGraph", err)
		}
		if err := stream.SendMessage(t.Context(), "write", codec.Args("d")); err != nil {
			t.Errorf("SendMessage(write) = %v", err)
		}
		if name, args, err := stream.RecvArgs(t.Context()); name != "write" || string(args) != "\x91\xa1a" || err != nil {
			t.Errorf("RecvArgs() = %s %x, %v, want write [a]", name, args, err)
		}
		if err := stream.SendMessage(t.Context(), "close", codec.Arguments{}); err != nil {
			t.Errorf("SendMessage(close) = %v", err)
		}
		if err := stream.Send(t.Context(), nil); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Send() behind the close = %v, want ErrClosed", err)
		}
		var got []string
		for p, err := range stream.Chunks(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(p))
		}
		if want := []string{"bc", "", "d"}; !slices.Equal(got, want) {
			t.Errorf("Chunks() = %q, want %q", got, want)
		}
		values, err := client.NewService(service.ServiceConfig{Name: "echo", Values: []string{"count"}})
		if err != nil {
			t.Fatal(err)
		}
		if stream, err = values.Open(t.Context(), "count", codec.Args(2)); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"\x92\x00\xa10", "\x92\x01\xa11"} {
			if name, args, err := stream.RecvArgs(t.Context()); name != "write" || string(args) != want || err != nil {
				t.Errorf("RecvArgs() %d = %s %x, %v, want %x", i, name, args, err, want)
			}
		}
		if _, _, err := stream.RecvArgs(t.Context()); err != io.EOF {
			t.Errorf("RecvArgs() = %v, want io.EOF", err)
		}
	})
}

// TestDiscard gives a stream up: the service is told, and the connection stays.
func TestDiscard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		peers := rawEcho(t, c)
		s := c.client(nil).Service("echo")
		var stream *service.Stream
		go func() { stream, _ = s.Open(t.Context(), "enqueue", codec.Args("e")) }()
		peer := <-peers
		peer.want(1, 4, "e")
		synctest.Wait()
		stream.Discard()
		peer.wantError(1, service.CategoryUser, 499)
		peer.call(1, codec.V1Write, "late")
		peer.call(1, codec.V1Close)
		synctest.Wait()
		stream.Discard()
		go func() { peer.want(2, 0, "x"); peer.call(2, codec.V1Value, "x") }()
		reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
		wantString(t, reply, err, "x")
	})
}

// TestStreamFailed has the service fail a stream: nothing more is said, and nothing kept.
func TestStreamFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		peers := rawEcho(t, c)
		s := c.client(nil).Service("echo")
		var stream *service.Stream
		done := do(func() (err error) { stream, err = s.Open(t.Context(), "enqueue", codec.Args("e")); return err })
		peer := <-peers
		peer.want(1, 4, "e")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		peer.call(1, codec.V1Error, []any{service.CategoryOverseer, 1}, "the queue is full")
		_, err := stream.Recv(t.Context())
		if !service.Is(err, service.CategoryOverseer, service.OverseerQueueIsFull) {
			t.Errorf("Recv() = %v, want the service's error", err)
		}
		synctest.Wait()
		if _, err := stream.Write([]byte("x")); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Write() = %v, want ErrClosed", err)
		}
		stream.Discard()
		peer.wantNoMore(t)
		if done = do(func() (err error) { stream, err = s.Open(t.Context(), "enqueue", codec.Args("f")); return err }); <-done != nil {
			t.Fatal("Open() failed")
		}
		peer.want(2, 4, "f")
		if err := stream.Fail(43, 7, "enough"); err != nil {
			t.Errorf("Fail() = %v", err)
		}
		if text := peer.wantError(2, 43, 7); text != "enough" || stream.Session().ID() != 2 {
			t.Errorf("Fail() sent %q on %d", text, stream.Session().ID())
		}
	})
}

func TestStreamLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		s := c.client(nil).Service("echo")
		stream, err := s.Open(t.Context(), "enqueue", codec.Args("e"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c.cut("a:1")
		for range 2 {
			_, err = stream.Recv(t.Context())
			if e := wantError[*session.Error](t, err); e.Remote || e.Delivery != session.Unknown {
				t.Errorf("Recv() = %+v, want a local error", e)
			}
		}
		stream.Discard()
	})
}
