package channel

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// within checks how much virtual time f takes.
func within(t *testing.T, what string, want time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if got := time.Since(start); got != want {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
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
		within(t, "10 ms", 10*time.Millisecond, func() { passTime(10 * time.Millisecond) })
		mustWrite(t, a, []byte("two"))
		if n, err := b.tryRead(make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("tryRead() before its time = %d, %v", n, err)
		}
		within(t, "the first", 20*time.Millisecond, func() { wantRead(t, b, "one") })
		within(t, "the second", 10*time.Millisecond, func() { wantRead(t, b, "two") })
		mustWrite(t, a, []byte("end"))
		_ = a.CloseWrite()
		within(t, "the end", 30*time.Millisecond, func() {
			wantRead(t, b, "end")
			wantReadErr(t, b, io.EOF)
		})
		mustWrite(t, b, []byte("back"))
		within(t, "the way back", 0, func() { wantRead(t, a, "back") })
	})
}

// TestPairLatencies: what is due first arrives first, whichever was written first.
func TestPairLatencies(t *testing.T) {
	inPair(t, "a>b latency=1h b>a latency=1s", func(t *testing.T, a, b *End) {
		mustWrite(t, a, []byte("slow"))
		mustWrite(t, b, []byte("fast"))
		within(t, "the fast way", time.Second, func() { wantRead(t, a, "fast") })
		within(t, "the slow way", time.Hour-time.Second, func() { wantRead(t, b, "slow") })
	})
}

// passTime lets virtual time pass.
func passTime(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
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
		within(t, "stall at 0", time.Second, func() { wantRead(t, b, "abc") })
		within(t, "two stalls at 3", 3*time.Second, func() { wantRead(t, b, "de") })
		within(t, "stalled end", time.Second, func() { wantReadErr(t, b, io.EOF) })
	})
	inPair(t, "a>b stall=0:1s", func(t *testing.T, a, b *End) {
		passTime(time.Second) // the stall is over before anybody calls
		mustWrite(t, a, []byte("a"))
		within(t, "a read after the stall at 0", 0, func() { wantRead(t, b, "a") })
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
		within(t, "the reset, at the writing end", 3*time.Second, func() { wantReadErr(t, a, syscall.ECONNRESET) })
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
				wg.Go(func() { within(t, "Write", after, func() { wantWriteErr(t, e, tt.write) }) })
				wg.Go(func() { within(t, "Read", after, func() { wantReadErr(t, e, tt.read) }) })
				synctest.Wait()
				_ = a.Close()
				wg.Wait()
			})
		}
	}
}

func TestPairDeadlines(t *testing.T) {
	inPair(t, "a<>b capacity=1", func(t *testing.T, a, b *End) {
		soon := func() time.Time { return time.Now().Add(time.Second) }
		_ = a.SetReadDeadline(soon())
		mustWrite(t, a, []byte{1}) // not the write deadline
		within(t, "Read", time.Second, func() { wantReadErr(t, a, os.ErrDeadlineExceeded) })
		_ = a.SetReadDeadline(time.Time{})
		_ = a.SetWriteDeadline(soon())
		within(t, "Write", time.Second, func() { wantWriteErr(t, a, os.ErrDeadlineExceeded) })

		_ = a.SetDeadline(time.Now().Add(-1))
		_, err := a.Read(make([]byte, 1))
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("Read() past the deadline: %v, want a timeout", err)
		}
		_ = a.SetDeadline(soon()) // a later one replaces it, also for a waiting Read
		var wg sync.WaitGroup
		wg.Go(func() { within(t, "moved", 3*time.Second, func() { wantReadErr(t, a, os.ErrDeadlineExceeded) }) })
		passTime(time.Second / 2)
		_ = a.SetReadDeadline(time.Now().Add(5 * time.Second / 2))
		wg.Wait()
		wantRead(t, b, "\x01")
		wg.Go(func() { wantReadErr(t, b, os.ErrDeadlineExceeded) })
		synctest.Wait()
		_ = b.SetReadDeadline(time.Now())
		wg.Wait()
	})
}

// TestPairDeadlineMoved sets a deadline anew while the old one is going off.
func TestPairDeadlineMoved(t *testing.T) {
	inPair(t, "", func(t *testing.T, a, b *End) {
		_ = a.SetReadDeadline(time.Now().Add(time.Second))
		a.link.Lock()
		passTime(time.Second) // the timer's function waits for the lock
		a.readBy.set(a, time.Now().Add(time.Second))
		a.link.Unlock()
		within(t, "Read", time.Second, func() { wantReadErr(t, a, os.ErrDeadlineExceeded) })
	})
}

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
		step("arrival", false, true, func() { passTime(time.Second) })
		step("room", true, false, func() { read(b) })
		step("back", true, false, func() { _, _ = b.tryWrite(pattern(1)) })
		step("end of a stall", false, true, func() {
			_, _ = a.tryWrite(pattern(4))
			passTime(time.Second)
			read(b)
			toB.Store(0)
			passTime(time.Second)
		})
		step("end", false, true, func() {
			_ = a.CloseWrite()
			read(b)
			passTime(time.Second)
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

// TestPairRandom transfers data over random scripts. What arrives is a prefix of what
// was written, and all of it if nothing cuts or stalls the link for ever.
func TestPairRandom(t *testing.T) {
	seeds, batch := uint64(10_000), uint64(100)
	if testing.Short() {
		seeds = 1000
	}
	for first := uint64(0); first < seeds && !t.Failed(); first += batch {
		synctest.Test(t, func(t *testing.T) {
			for seed := first; seed < first+batch; seed++ {
				transfer(t, seed)
			}
		})
	}
}

func transfer(t *testing.T, seed uint64) {
	s := RandomScript(seed)
	r := rand.New(rand.NewPCG(seed, 1))
	ends := [2]*End{}
	ends[0], ends[1] = Pair(s)
	sent, got := [2][]byte{}, [2][]byte{}
	errs := [2]error{}
	var writers, readers sync.WaitGroup
	for i, e := range ends {
		sent[i] = pattern(r.IntN(1 << r.IntN(14)))
		_ = e.SetDeadline(time.Now().Add(time.Hour))
		step := 1 + r.IntN(2000)
		writers.Go(func() {
			for p := range slices.Chunk(sent[i], step) {
				if _, err := e.Write(p); err != nil {
					return
				}
			}
			_ = e.CloseWrite()
		})
		readers.Go(func() { got[1-i], errs[1-i] = io.ReadAll(e) })
	}
	readers.Wait()
	_, _ = ends[0].Close(), ends[1].Close()
	writers.Wait()
	for i, p := range []Path{s.AtoB, s.BtoA} {
		if !bytes.HasPrefix(sent[i], got[i]) {
			t.Errorf("seed %d, lane %d, %v: what arrived is not what was written", seed, i, s)
		}
		n := len(sent[i])
		if p.Cut.Kind == CutFIN {
			n = min(n, int(p.Cut.At))
		}
		lost := s.AtoB.Cut.Kind == CutRST || s.BtoA.Cut.Kind == CutRST || strings.Contains(s.String(), "forever")
		if !lost && (len(got[i]) != n || errs[i] != nil) {
			t.Errorf("seed %d, lane %d, %v: %d bytes arrived, %v, want %d", seed, i, s, len(got[i]), errs[i], n)
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

func TestParseScript(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Script
	}{
		{"", Script{}},
		{"a>b b>a", Script{}},
		{"a>b capacity=1024 latency=5ms slice=1,7,1448\n stall=4096:2s stall=9:forever cut=100:rst", Script{AtoB: Path{
			CapacityBytes: 1024, Latency: 5 * time.Millisecond, SliceBytes: []int{1, 7, 1448},
			Stalls: []Stall{{4096, 2 * time.Second}, {9, -1}}, Cut: Cut{CutRST, 100},
		}}},
		{"a<>b capacity=-1 b>a cut=0:fin", Script{
			AtoB: Path{CapacityBytes: -1}, BtoA: Path{CapacityBytes: -1, Cut: Cut{CutFIN, 0}},
		}},
	} {
		got, err := ParseScript(tt.text)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("ParseScript(%q) = %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
	}
	for _, text := range []string{
		"latency=1s", "a>b speed=1", "a>b capacity", "a>b capacity=x", "a>b latency=-1s", "a>b latency=5",
		"a>b slice=", "a>b slice=1,-1", "a>b stall=1", "a>b stall=-1:1s", "a>b stall=1:-1s", "a>b stall=x:forever",
		"a>b cut=1", "a>b cut=1:none", "a>b cut=-1:fin", "a>b cut=:rst",
	} {
		if s, err := ParseScript(text); err == nil {
			t.Errorf("ParseScript(%q) = %v, want an error", text, s)
		}
	}
}

func TestRandomScript(t *testing.T) {
	for seed := range uint64(1000) {
		s := RandomScript(seed)
		if again := RandomScript(seed); !reflect.DeepEqual(s, again) {
			t.Fatalf("seed %d gives %v and %v", seed, s, again)
		}
		if back, err := ParseScript(s.String()); err != nil || !reflect.DeepEqual(back, s) {
			t.Fatalf("ParseScript(%q) = %v, %v", s, back, err)
		}
	}
}

// FuzzParseScript: no panic, and what was understood is written in the same sense.
func FuzzParseScript(f *testing.F) {
	f.Add("a>b capacity=1024 latency=5ms slice=1,7,1448 stall=4096:2s b>a cut=100:rst")
	f.Add(RandomScript(4).String())
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScript(text)
		if err != nil {
			return
		}
		back, err := ParseScript(s.String())
		if err != nil || !reflect.DeepEqual(back, s) {
			t.Errorf("ParseScript(%q): %v, %v", s, back, err)
		}
	})
}

func BenchmarkPair(b *testing.B) {
	x, y := Pair(Script{})
	p, buf := pattern(64), make([]byte, 64)
	for b.Loop() {
		_, _ = x.tryWrite(p)
		_, _ = y.tryRead(buf)
	}
}
