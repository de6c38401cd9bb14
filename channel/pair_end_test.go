package channel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestPairCut cuts a conversation at every offset: no byte more arrives, and no less.
func TestPairCut(t *testing.T) {
	const size = 40
	want := pattern(size)
	for at := range int64(size + 2) {
		for _, kind := range []CutKind{CutFIN, CutRST} {
			s := Script{AtoB: Path{SliceBytes: []int{1, 3, 0}, Cut: Cut{kind, at}}}
			inPair(t, s.String(), func(t *testing.T, a, b *End) {
				_, _ = a.Write(want[:size/2]) // fails if the cut is at 0
				_, _ = b.Write(want)
				got, err := io.ReadAll(io.LimitReader(b, size/2))
				if err == nil {
					_, _ = a.Write(want[size/2:])
					var more []byte
					_ = a.CloseWrite()
					more, err = io.ReadAll(b)
					got = append(got, more...)
				}
				if !bytes.Equal(got, want[:min(at, size)]) {
					t.Errorf("%v: %d bytes arrived", s, len(got))
				}
				checkAfterCut(t, a, b, err, kind == CutRST && at <= size)
			})
		}
	}
}

func checkAfterCut(t *testing.T, a, b *End, err error, reset bool) {
	t.Helper()
	if !reset {
		if err != nil {
			t.Errorf("error %v, want the end of the stream", err)
		}
		got, err := io.ReadAll(io.LimitReader(a, 40))
		if len(got) != 40 || err != nil {
			t.Errorf("the other direction gave %d bytes, %v, want 40", len(got), err)
		}
		return
	}
	wantIs(t, "after RST", err, syscall.ECONNRESET)
	for _, e := range []*End{a, b} {
		wantReadErr(t, e, syscall.ECONNRESET)
		wantWriteErr(t, e, syscall.ECONNRESET)
		if e.readable() != 0 {
			t.Error("bytes are readable after a reset")
		}
	}
}

func TestPairCutAfterStall(t *testing.T) {
	inPair(t, "a>b stall=2:3s cut=2:rst", func(t *testing.T, a, b *End) {
		mustWrite(t, a, []byte("abc"))
		wantRead(t, b, "ab")
		takes(t, "the reset, at the writing end", 3*time.Second, func() { wantReadErr(t, a, syscall.ECONNRESET) })
	})
}

func TestPairHalfClose(t *testing.T) {
	inPair(t, "", func(t *testing.T, a, b *End) {
		mustWrite(t, a, []byte("question"))
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantWriteErr(t, a, syscall.EPIPE)
		wantRead(t, b, "question")
		wantReadErr(t, b, io.EOF)
		mustWrite(t, b, []byte("answer"))
		_ = b.Close()
		wantRead(t, a, "answer")
		wantReadErr(t, a, io.EOF)
	})
}

func TestPairClose(t *testing.T) {
	inPair(t, "", func(t *testing.T, a, b *End) {
		mustWrite(t, a, []byte("under way"))
		mustWrite(t, b, []byte("not read"))
		if err := errors.Join(a.Close(), a.Close()); err != nil {
			t.Fatalf("Close() = %v", err)
		}
		wantWriteErr(t, b, syscall.EPIPE)
		wantRead(t, b, "under way")
		wantReadErr(t, b, io.EOF)
		wantReadErr(t, a, net.ErrClosed)
		wantWriteErr(t, a, net.ErrClosed)
		wantIs(t, "CloseWrite", a.CloseWrite(), net.ErrClosed)
		wantIs(t, "SetDeadline", a.SetDeadline(time.Time{}), net.ErrClosed)
		if n := len(b.out().ring.buf); n != 0 {
			t.Errorf("the lane to a closed end keeps %d bytes", n)
		}
	})
}

// TestPairCloseUnblocks closes an end while a Read and a Write wait, here or there.
func TestPairCloseUnblocks(t *testing.T) {
	for _, script := range []string{"a<>b capacity=1", "a<>b capacity=1 latency=1s"} {
		for _, tt := range []struct {
			who         string
			write, read error
		}{
			{"a", net.ErrClosed, net.ErrClosed},
			{"b", syscall.EPIPE, io.EOF},
		} {
			inPair(t, script, func(t *testing.T, a, b *End) {
				e, after := a, time.Duration(0)
				if tt.who == "b" {
					e, after = b, a.out().latency
				}
				mustWrite(t, e, []byte{1})
				var wg sync.WaitGroup
				wg.Go(func() { takes(t, "Write", after, func() { wantWriteErr(t, e, tt.write) }) })
				wg.Go(func() { takes(t, "Read", after, func() { wantReadErr(t, e, tt.read) }) })
				synctest.Wait()
				_ = a.Close()
				wg.Wait()
			})
		}
	}
}

// TestPairTimers checks that no timer is left when both ends are closed.
func TestPairTimers(t *testing.T) {
	inPair(t, "a<>b latency=1h", func(t *testing.T, a, b *End) {
		mustWrite(t, a, []byte{1})
		_ = a.SetDeadline(time.Now().Add(time.Hour))
		_, _ = a.Close(), b.Close()
		if a.link.timer.Stop() || a.readBy.timer != nil || a.writeBy.timer != nil {
			t.Error("a timer runs on after Close")
		}
	})
}
