package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/gateway"
	"github.com/sluice-rpc/sluice/session"
)

// What is flushed is with the client while the handler still runs; what is not, is not.
func TestFlushIsVisible(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		step := make(chan struct{})
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			c := http.NewResponseController(w)
			_, _ = io.WriteString(w, "one")
			<-step
			_ = c.Flush()
			<-step
			_, _ = io.WriteString(w, "two")
			_ = c.Flush()
			<-step
		}))
		s := p.open(get("/"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if b, err := s.Recv(ctx); err == nil {
			t.Errorf("Recv() = %q before the flush, want nothing", b)
		}
		step <- struct{}{}
		a, _ := p.head(s)
		if got, _ := p.next(s, &a); got != "one" || a.status != 200 || a.header.Get("Content-Length") != "" {
			t.Errorf("answer = %d %q %v, want 200 one", a.status, got, a.header)
		}
		step <- struct{}{}
		if got, _ := p.next(s, &a); got != "two" {
			t.Errorf("piece = %q, want two", got)
		}
		step <- struct{}{}
		if got, more := p.next(s, &a); more || a.err != nil {
			t.Errorf("piece = %q, %v, want the end", got, a.err)
		}
	})
}

// Small writes become pieces of Config.WriteBytes.
func TestWritesAreCollected(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		for _, c := range []struct{ bytes, chunks int }{{0, 0}, {1, 1}, {100, 1}, {101, 2}, {200, 2}, {1001, 11}} {
			p := serve(t, d, gateway.Config{WriteBytes: 100}, handler(func(w http.ResponseWriter, r *http.Request) {
				for range c.bytes {
					_, _ = w.Write([]byte("x"))
				}
			}))
			a := p.do(get("/"))
			if length := a.header.Get("Content-Length"); len(a.body) != c.bytes || a.chunks != c.chunks || (length != "") != (c.bytes <= 100) {
				t.Errorf("%d bytes: %d bytes in %d chunks, length %q, want %d chunks", c.bytes, len(a.body), a.chunks, length, c.chunks)
			}
		}
	})
}

// TestPanics: a handler that panics is an answer or an error, by how far it had come, and
// never the end of the worker.
func TestPanics(t *testing.T) {
	for _, c := range []struct {
		name   string
		f      func(w http.ResponseWriter)
		status int   // of the answer
		code   int64 // of the session's error
		logged bool
	}{
		{"before the head", func(w http.ResponseWriter) { panic("told to") }, 500, 0, true},
		{"behind what was not sent", func(w http.ResponseWriter) {
			w.Header().Set("X", "y")
			_, _ = io.WriteString(w, "half of it")
			panic("told to")
		}, 500, 0, true},
		{"behind the head", func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "half of it")
			w.(http.Flusher).Flush()
			panic("told to")
		}, 200, session.CodePanic, true},
		{"behind the answer", func(w http.ResponseWriter) {
			_ = gateway.Finish(w)
			panic("told to")
		}, 200, session.CodePanic, true},
		{"abort", func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, 0, session.CodePanic, false},
		{"goexit", func(w http.ResponseWriter) { runtime.Goexit() }, 0, session.CodePanic, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, d codec.Dialect) {
				p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) { c.f(w) }))
				a := p.do(get("/some"))
				if a.status != c.status || (c.status == 500) != (a.body == "Internal Server Error\n") || a.header.Get("X") != "" {
					t.Errorf("answer = %d %q %v, want %d", a.status, a.body, a.header, c.status)
				}
				var se *session.Error
				if errors.As(a.err, &se); c.code != 0 && (se == nil || se.Code != c.code) || c.code == 0 && a.err != nil {
					t.Errorf("error = %v, want code %d", a.err, c.code)
				}
				log := p.log.String()
				if logged := strings.Contains(log, "told to") && strings.Contains(log, "uri=/some"); logged != c.logged {
					t.Errorf("log = %q, want the panic in it: %v", log, c.logged)
				}
				if got := p.do(get("/")); got.status != c.status {
					t.Errorf("the next answer = %d, want %d: the worker lives", got.status, c.status)
				}
			})
		})
	}
}

// The client's end cancels the request's context and wakes who reads the body.
func TestClientIsLost(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		ended := make(chan error, 2)
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				_, err := io.ReadAll(r.Body)
				ended <- err
				return
			}
			<-r.Context().Done()
			ended <- context.Cause(r.Context())
		}))
		for _, method := range []string{"GET", "POST"} {
			s := p.open(request(method, "/", "1.1", nil, ""))
			synctest.Wait()
			_ = s.Fail(42, 1, "gone")
			var se *session.Error
			if err := <-ended; !errors.As(err, &se) || !se.Remote {
				t.Errorf("%s: the handler ended with %v, want the client's error", method, err)
			}
		}
		p.open(get("/"))
		synctest.Wait()
		_ = p.table.Channel().Close(t.Context())
		if err := <-ended; err == nil {
			t.Error("the handler ended without a cause")
		}
	})
}

// A handler that gives up at the deadline of the invoke does not answer 200.
func TestDeadlineOfTheInvoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, codec.V1, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		var scratch [8]byte
		s, err := p.table.OpenOffLoop(t.Context(), "http", []codec.Header{codec.TimeoutHeader(time.Second, &scratch)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Send(t.Context(), get("/"))
		wantError(t, p.read(s), session.CodeDeadline, "deadline")
	})
}

func TestDeadlines(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			c, b, start := http.NewResponseController(w), make([]byte, 3), time.Now()
			go func() { // moves the deadline of a Read that waits
				time.Sleep(time.Second)
				_ = c.SetReadDeadline(start.Add(2 * time.Second))
			}()
			_, err := r.Body.Read(b)
			fmt.Fprintln(w, errors.Is(err, os.ErrDeadlineExceeded), time.Since(start))
			_ = c.SetReadDeadline(time.Time{})
			n, err := r.Body.Read(b)
			fmt.Fprintln(w, n, err)
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_ = c.SetWriteDeadline(time.Time{})
			time.Sleep(2 * time.Second)
		}))
		s := p.open(request("POST", "/", "1.1", nil, ""))
		time.Sleep(3 * time.Second)
		_ = s.Send(t.Context(), p.piece("abc"))
		if a := p.read(s); a.body != "true 2s\n3 <nil>\n" {
			t.Errorf("answer = %q, %v, want a timeout and then the body", a.body, a.err)
		}
	})
}

// A client that does not read: the handler waits, within bounds, until its deadline.
func TestWriteDeadline(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		var wrote int
		result := make(chan error, 1)
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * time.Second))
			for {
				n, err := w.Write(make([]byte, 1<<20))
				if wrote += n; err != nil {
					result <- err
					return
				}
			}
		}))
		s := p.open(get("/"))
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write() = %v, want %v", err, os.ErrDeadlineExceeded)
		}
		if wrote > 64<<20 {
			t.Errorf("%d bytes were taken from the handler, want a bound", wrote)
		}
		wantError(t, p.read(s), session.CodeDeadline, "write deadline")
	})
}

// An answer shorter than its declared length is an error for the client too.
func TestShortAnswer(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "abc")
		}))
		wantError(t, p.do(get("/")), session.CodeFailed, "Content-Length of 5 and wrote 3")
	})
}

// wrapped is what middleware does to a ResponseWriter.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Finish: the client has the end while the handler, and with it the session, goes on.
func TestFinish(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		step := make(chan struct{})
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "bye")
			if err := gateway.Finish(wrapped{w}); err != nil {
				t.Errorf("Finish() = %v, want nil", err)
			}
			if _, err := io.WriteString(w, "more"); err == nil {
				t.Error("Write() behind the end = nil, want an error")
			}
			if err := gateway.Finish(w); err != nil || r.Context().Err() != nil {
				t.Errorf("Finish() again = %v, context %v, want nil", err, r.Context().Err())
			}
			<-step
		}))
		s := p.open(get("/"))
		a, _ := p.head(s)
		if v := a.header.Get("X-Cocaine-HTTP-Proto-Version"); v != "1.1" || a.header.Get("Content-Length") != "3" {
			t.Errorf("head = %v, want version 1.1 and a length", a.header)
		}
		for _, want := range []string{"bye", ""} {
			if got, ok := p.next(s, &a); got != want || !ok {
				t.Errorf("piece = %q, %v, want %q", got, ok, want)
			}
		}
		if n := p.adapter.Stats().Running; n != 1 {
			t.Errorf("Stats().Running = %d, want 1", n)
		}
		close(step)
		if got, ok := p.next(s, &a); ok || a.err != nil {
			t.Errorf("piece = %q, %v, want the end", got, a.err)
		}
	})
}

func TestFinishTooLate(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			fmt.Fprint(w, gateway.Finish(w))
		}))
		if a := p.do(get("/")); !strings.Contains(a.body, "set this header before") || a.empty != 0 {
			t.Errorf("answer = %q, %d empty chunks, want what to do", a.body, a.empty)
		}
		if err := gateway.Finish(wrapped{nil}); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Finish() = %v, want %v", err, http.ErrNotSupported)
		}
	})
}

// A handler may set headers without Header.Set, and by any name.
func TestHeadOfOddNames(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h["connection"], h["X-Own"] = []string{"x-own"}, []string{"1"}
			h["transfer-encoding"] = []string{"chunked"}
			h["content-length"] = []string{"5", "6"}
			h["content-type"] = []string{"text/odd"}
			h["X-COCAINE-HTTP-PROTO-VERSION"] = []string{"1.1"}
			h["k\r\nX-Evil"] = []string{"1"}
			h["kept"] = []string{"a\r\nX-Evil: 1"}
			_, _ = io.WriteString(w, "hello")
		}))
		a := p.do(get("/"))
		want := "map[Content-Length:[5] Content-Type:[text/odd] Kept:[a  X-Evil: 1] X-Cocaine-Http-Proto-Version:[1.1]]"
		if got := fmt.Sprint(a.header); got != want || a.body != "hello" || a.empty != 1 || a.err != nil {
			t.Errorf("answer = %s %+v, want %s and an empty chunk at the end", got, a, want)
		}
	})
}

// Headers that a client must not get as they are.
func TestHeadIsCleaned(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			for k, v := range map[string]string{
				"Connection": "close, x-own", "X-Own": "1", "Upgrade": "h2c", "Trailer": "T", "Transfer-Encoding": "chunked",
				http.TrailerPrefix + "T": "1", "X-Cocaine-HTTP-Proto-Version": "2", "Kept": "1",
			} {
				w.Header().Set(k, v)
			}
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusSwitchingProtocols)
		}))
		a := p.do(get("/"))
		if got := fmt.Sprint(a.status, a.header); got != "501 map[Content-Length:[0] Kept:[1]]" || a.chunks != 0 {
			t.Errorf("head = %s, want 501 with Kept", got)
		}
		if log := p.log.String(); !strings.Contains(log, "cannot switch protocols") || !strings.Contains(log, "Proto-Version") {
			t.Errorf("log = %q, want both warnings", log)
		}
	})
}

func TestSuperfluousWriteHeader(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			w.WriteHeader(201)
		}))
		if a := p.do(get("/")); a.status != 200 || !strings.Contains(p.log.String(), "gateway_test.TestSuperfluousWriteHeader") {
			t.Errorf("answer = %d, log %q, want 200 and the caller", a.status, p.log)
		}
	})
}

// Bodies far larger than all buffers go through, both ways at once.
func TestBigBodies(t *testing.T) {
	const pieces, size = 512, 64 << 10 // 32 MiB
	both(t, func(t *testing.T, d codec.Dialect) {
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
		s := p.open(request("POST", "/", "1.1", nil, ""))
		piece := p.piece(string(bytes.Repeat([]byte("0123456789abcdef"), size/16)))
		var before runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		go func() {
			for range pieces {
				_ = s.Send(context.Background(), piece)
			}
			_ = s.Close()
		}()
		a, _ := p.head(s)
		total, most := 0, uint64(0)
		for n := 0; ; n++ {
			part, ok := p.next(s, &a)
			if !ok {
				break
			}
			if total += len(part); n%64 == 0 {
				var now runtime.MemStats
				synctest.Wait() // what goes on beside a collection would be counted
				runtime.GC()
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc)
			}
		}
		if total != pieces*size || a.err != nil {
			t.Errorf("%d bytes came back, %v, want %d", total, a.err, pieces*size)
		}
		if most > before.HeapAlloc+16<<20 {
			t.Errorf("the heap grew by %d bytes, want at most 16 MiB", most-before.HeapAlloc)
		}
	})
}
