package channel

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// inPair runs f over a pair in a bubble and closes what f left open: a goroutine that
// hangs on the pair fails the test.
func inPair(t *testing.T, script string, f func(t *testing.T, a, b *End)) {
	t.Helper()
	s, err := ParseScript(script)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		a, b := Pair(s)
		f(t, a, b)
		_ = a.Close()
		_ = b.Close()
	})
}

// pattern is n bytes that differ from their neighbours at every distance below 251.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i % 251)
	}
	return p
}

func mustWrite(t *testing.T, e *End, p []byte) {
	t.Helper()
	if n, err := e.Write(p); n != len(p) || err != nil {
		t.Fatalf("Write(%d bytes) = %d, %v", len(p), n, err)
	}
}

// wantRead reads once.
func wantRead(t *testing.T, e *End, want string) {
	t.Helper()
	buf := make([]byte, 1024)
	n, err := e.Read(buf)
	if err != nil || string(buf[:n]) != want {
		t.Fatalf("Read() = %q, %v, want %q", buf[:n], err, want)
	}
}

func wantIs(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error %v, want %v", what, err, want)
	}
}

func wantReadErr(t *testing.T, e *End, want error) {
	t.Helper()
	n, err := e.Read(make([]byte, 1))
	if n != 0 {
		t.Fatalf("Read() = %d bytes, want error %v", n, want)
	}
	wantIs(t, "Read", err, want)
}

func wantWriteErr(t *testing.T, e *End, want error) {
	t.Helper()
	_, err := e.Write([]byte{0})
	wantIs(t, "Write", err, want)
}

func TestPairOrder(t *testing.T) {
	for _, script := range []string{"", "a<>b capacity=7", "a<>b capacity=100 latency=1ms slice=1,0,13", "a<>b capacity=-1"} {
		inPair(t, script, func(t *testing.T, a, b *End) {
			want := pattern(10_000)
			var wg sync.WaitGroup
			for i, e := range []*End{a, b} {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(1, uint64(i)))
					for p := want; len(p) > 0; {
						n := min(len(p), 1+r.IntN(300))
						mustWrite(t, e, p[:n])
						p = p[n:]
					}
					if err := e.CloseWrite(); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					got, err := io.ReadAll(e)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%q: ReadAll() = %d bytes, %v, want the %d written", script, len(got), err, len(want))
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestPairWritesDoNotMix(t *testing.T) {
	inPair(t, "a>b capacity=3", func(t *testing.T, a, b *End) {
		var wg sync.WaitGroup
		for _, s := range []string{"aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"} {
			wg.Go(func() { mustWrite(t, a, []byte(s)) })
		}
		synctest.Wait() // one writes, two wait for their turn
		got := make([]byte, 30)
		if _, err := io.ReadFull(b, got); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if runs := len(slices.Compact(got)); runs != 3 {
			t.Errorf("three writers' bytes came in %d runs", runs)
		}
	})
}

func TestPairCapacity(t *testing.T) {
	inPair(t, "a>b capacity=10", func(t *testing.T, a, b *End) {
		for _, want := range []int{10, 0} {
			if n, err := a.tryWrite(pattern(12)); n != want || err != nil {
				t.Fatalf("tryWrite() = %d, %v, want %d", n, err, want)
			}
		}
		if n := b.readable(); n != 10 {
			t.Errorf("readable() = %d, want 10", n)
		}
		if n, err := b.tryRead(make([]byte, 4)); n != 4 || err != nil {
			t.Fatalf("tryRead() = %d, %v, want 4", n, err)
		}
		if n, err := a.tryWrite(pattern(12)); n != 4 || err != nil {
			t.Fatalf("tryWrite() = %d, %v, want 4", n, err)
		}
	})
	inPair(t, "a>b capacity=-1 b>a capacity=0", func(t *testing.T, a, b *End) {
		if n, err := a.tryWrite(pattern(1 << 20)); n != 1<<20 || err != nil {
			t.Errorf("without limit: tryWrite() = %d, %v", n, err)
		}
		if n, err := b.tryWrite(pattern(1 << 20)); n != 64<<10 || err != nil {
			t.Errorf("default: tryWrite() = %d, %v, want 65536", n, err)
		}
		for b.readable() > 0 {
			_, _ = b.tryRead(make([]byte, 1<<20))
		}
		if n := len(b.in().ring.buf); n > 64<<10 {
			t.Errorf("an empty lane without limit keeps %d bytes", n)
		}
	})
}

func TestPairLatency(t *testing.T) {
	inPair(t, "a>b latency=30ms", func(t *testing.T, a, b *End) {
		mustWrite(t, a, []byte("one"))
		takes(t, "10 ms", 10*time.Millisecond, func() { elapse(10 * time.Millisecond) })
		mustWrite(t, a, []byte("two"))
		if n, err := b.tryRead(make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("tryRead() before its time = %d, %v", n, err)
		}
		takes(t, "the first", 20*time.Millisecond, func() { wantRead(t, b, "one") })
		takes(t, "the second", 10*time.Millisecond, func() { wantRead(t, b, "two") })
		mustWrite(t, a, []byte("end"))
		_ = a.CloseWrite()
		takes(t, "the end", 30*time.Millisecond, func() {
			wantRead(t, b, "end")
			wantReadErr(t, b, io.EOF)
		})
		mustWrite(t, b, []byte("back"))
		takes(t, "the way back", 0, func() { wantRead(t, a, "back") })
	})
}

// TestPairLatencies: what is due first arrives first, whichever was written first.
func TestPairLatencies(t *testing.T) {
	inPair(t, "a>b latency=1h b>a latency=1s", func(t *testing.T, a, b *End) {
		mustWrite(t, a, []byte("slow"))
		mustWrite(t, b, []byte("fast"))
		takes(t, "the fast way", time.Second, func() { wantRead(t, a, "fast") })
		takes(t, "the slow way", time.Hour-time.Second, func() { wantRead(t, b, "slow") })
	})
}

func TestPairSlices(t *testing.T) {
	inPair(t, "a>b slice=1,7,0,3", func(t *testing.T, a, b *End) {
		mustWrite(t, a, pattern(100))
		var got []int
		for b.readable() > 0 {
			n, err := b.tryRead(make([]byte, 20))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
		}
		if want := []int{1, 7, 20, 3, 1, 7, 20, 3, 1, 7, 20, 3, 1, 6}; !slices.Equal(got, want) {
			t.Errorf("reads of %v bytes, want %v", got, want)
		}
	})
}

func TestPairStall(t *testing.T) {
	inPair(t, "a>b stall=5:1s stall=0:1s stall=3:2s stall=3:1s", func(t *testing.T, a, b *End) {
		mustWrite(t, a, []byte("abcde"))
		_ = a.CloseWrite()
		if n := b.readable(); n != 0 {
			t.Errorf("readable() in a stall = %d, want 0", n)
		}
		takes(t, "stall at 0", time.Second, func() { wantRead(t, b, "abc") })
		takes(t, "two stalls at 3", 3*time.Second, func() { wantRead(t, b, "de") })
		takes(t, "stalled end", time.Second, func() { wantReadErr(t, b, io.EOF) })
	})
	inPair(t, "a>b stall=0:1s", func(t *testing.T, a, b *End) {
		elapse(time.Second) // the stall is over before anybody calls
		mustWrite(t, a, []byte("a"))
		takes(t, "a read after the stall at 0", 0, func() { wantRead(t, b, "a") })
	})
	inPair(t, "a<>b capacity=4 stall=2:forever", func(t *testing.T, a, b *End) {
		mustWrite(t, a, []byte("abcd"))
		mustWrite(t, b, []byte("ab"))
		wantRead(t, a, "ab")
		wantRead(t, b, "ab")
		_ = b.Close()
		deadline := time.Now().Add(time.Hour)
		_ = a.SetDeadline(deadline)
		n, err := a.Write([]byte("efgh")) // a does not hear of the close
		if n != 2 {
			t.Errorf("Write() into a dead link = %d, want the 2 that fit", n)
		}
		wantIs(t, "Write", err, os.ErrDeadlineExceeded)
		wantReadErr(t, a, os.ErrDeadlineExceeded)
	})
}

// TestPairNotify: an end is told when there may be something to read or room to write.
func TestPairNotify(t *testing.T) {
	inPair(t, "a>b capacity=4 latency=1s stall=6:1s", func(t *testing.T, a, b *End) {
		var toA, toB atomic.Int32
		a.setNotify(func() { toA.Add(1); _ = a.readable() }) // no lock is held
		b.setNotify(func() { toB.Add(1); _ = b.readable() })
		step := func(what string, wantA, wantB bool, f func()) {
			t.Helper()
			synctest.Wait()
			toA.Store(0)
			toB.Store(0)
			f()
			synctest.Wait()
			if gotA, gotB := toA.Load(), toB.Load(); wantA && gotA == 0 || wantB && gotB == 0 {
				t.Errorf("%s: a was told %d times, b %d times, want %v and %v", what, gotA, gotB, wantA, wantB)
			}
		}
		read := func(e *End) { _, _ = e.tryRead(make([]byte, 8)) }
		step("write", false, false, func() { _, _ = a.tryWrite(pattern(5)) })
		step("arrival", false, true, func() { elapse(time.Second) })
		step("room", true, false, func() { read(b) })
		step("back", true, false, func() { _, _ = b.tryWrite(pattern(1)) })
		step("end of a stall", false, true, func() {
			_, _ = a.tryWrite(pattern(4))
			elapse(time.Second)
			read(b)
			toB.Store(0)
			elapse(time.Second)
		})
		step("end", false, true, func() {
			_ = a.CloseWrite()
			read(b)
			elapse(time.Second)
		})
		step("close", true, false, func() { _ = b.Close() })
	})
	inPair(t, "a>b capacity=4", func(t *testing.T, a, b *End) {
		told := 0
		a.setNotify(func() { told++ })
		for _, tt := range []struct{ write, read, want int }{{4, 2, 0}, {3, 1, 1}, {0, 3, 1}} {
			_, _ = a.tryWrite(pattern(tt.write))
			_, _ = b.tryRead(make([]byte, tt.read))
			if told != tt.want {
				t.Errorf("after %+v: told of room %d times", tt, told)
			}
		}
	})
	inPair(t, "a>b cut=1:rst", func(t *testing.T, a, b *End) {
		told := 0
		a.setNotify(func() { told++ })
		_, _ = a.tryWrite(pattern(2))
		_, _ = b.tryRead(make([]byte, 2))
		if told == 0 {
			t.Error("the writing end was not told of the reset")
		}
	})
}

func TestPairAddr(t *testing.T) {
	a, b := Pair(Script{})
	if a.LocalAddr().String() != "a" || a.RemoteAddr() != b.LocalAddr() || a.LocalAddr().Network() != "pair" {
		t.Errorf("addresses %v and %v of network %q", a.LocalAddr(), b.LocalAddr(), a.LocalAddr().Network())
	}
}

func TestPairAllocs(t *testing.T) {
	a, b := Pair(Script{AtoB: Path{SliceBytes: []int{100, 5000}}})
	a.setNotify(func() {})
	b.setNotify(func() {})
	p, buf := pattern(3000), make([]byte, 8<<10)
	round := func() {
		for _, e := range []*End{a, b} {
			if n, err := e.tryWrite(p); n != len(p) || err != nil {
				t.Fatalf("tryWrite() = %d, %v", n, err)
			}
			for left := len(p); left > 0; {
				n, _ := e.peer().tryRead(buf)
				left -= n
			}
		}
	}
	if n := testing.AllocsPerRun(1000, round); n != 0 {
		t.Errorf("a round trip allocates %v times", n)
	}
}

func BenchmarkPair(b *testing.B) {
	x, y := Pair(Script{})
	p, buf := pattern(64), make([]byte, 64)
	for b.Loop() {
		_, _ = x.tryWrite(p)
		_, _ = y.tryRead(buf)
	}
}
