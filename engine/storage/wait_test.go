package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
)

// stuck returns a store whose disk waits in an operation until the channel is closed.
func stuck(t *testing.T, op string, cfg Config) (*Store, chan struct{}) {
	t.Helper()
	dir := newMemDir()
	cfg.Logger = quiet.Logger
	s, err := open("mem", dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	dir.fault = func(_ int, o string) fault {
		if o == op {
			<-gate
		}
		return fault{}
	}
	return s, gate
}

// TestContext has calls wait for one that is stuck at the disk.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, gate := stuck(t, "sync", Config{MaxConcurrent: 1})
		first := make(chan error, 1)
		go func() { first <- s.Write(bg, "c", "k", []byte("first"), []string{"t"}) }()
		synctest.Wait()

		ctx, cancel := context.WithTimeout(bg, 1)
		defer cancel()
		if err := s.Write(ctx, "c", "k", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Write of the same key = %v, want the context's error", err)
		}
		ctx, cancel = context.WithTimeout(bg, 1)
		defer cancel()
		if err := s.Remove(ctx, "c", "other"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Remove of another key = %v, want the context's error", err)
		}
		// Readers do not wait for writers.
		if _, err := s.Read(bg, "c", "k"); !errors.Is(err, ErrNotFound) {
			t.Errorf("Read() = %v, want ErrNotFound", err)
		}
		if keys, err := s.Find(bg, "c", []string{"t"}); err != nil || keys != nil {
			t.Errorf("Find() = %v, %v", keys, err)
		}

		waiting, closed := make(chan error, 1), make(chan error, 1)
		go func() { waiting <- s.Write(bg, "c", "k", nil, nil) }()
		synctest.Wait()
		go func() { closed <- s.Close() }()
		synctest.Wait()
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("Write that waited at Close = %v, want ErrClosed", err)
		}
		if _, err := s.Read(bg, "c", "k"); !errors.Is(err, ErrClosed) {
			t.Errorf("Read after Close = %v, want ErrClosed", err)
		}
		select {
		case <-closed:
			t.Error("Close returned while a Write is at the disk")
		default:
		}
		close(gate)
		if err := errors.Join(<-first, <-closed); err != nil {
			t.Error(err)
		}
	})
}

// TestOneKey has two writers of one key: the second begins when the first has ended.
func TestOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, gate := stuck(t, "rename", Config{})
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				if err := s.Write(bg, "c", "k", fmt.Append(nil, i), []string{allTags[i]}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		if n := len(s.dir.(*memDir).files); n != 1 {
			t.Errorf("%d files are being written, want 1", n)
		}
		close(gate)
		wg.Wait()
		if got := observe(t, s, name{"c", "k"}); got != (value{true, "1", "b"}) {
			t.Errorf("the key has %v", got)
		}
	})
}

// TestMaxConcurrent counts who is at the disk at once.
func TestMaxConcurrent(t *testing.T) {
	for op, call := range map[string]func(s *Store, key string) error{
		"sync": func(s *Store, key string) error { return s.Write(bg, "c", key, nil, nil) },
		"open": func(s *Store, key string) error { _, err := s.Read(bg, "c", key); return err },
	} {
		synctest.Test(t, func(t *testing.T) {
			s, gate := stuck(t, op, Config{MaxConcurrent: 3})
			inside, ask := atomic.Int32{}, s.dir.(*memDir).fault
			s.dir.(*memDir).fault = func(step int, o string) fault {
				if o == op {
					inside.Add(1)
				}
				return ask(step, o)
			}
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					if err := call(s, fmt.Sprint(i)); err != nil && !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			if n := inside.Load(); n != 3 {
				t.Errorf("%d at %s at once, want 3", n, op)
			}
			close(gate)
			wg.Wait()
			if n := inside.Load(); n != 20 {
				t.Errorf("%d came to %s, want 20", n, op)
			}
		})
	}
}

// TestSharedSync has many writers come to the sync of the directory while one is in it.
func TestSharedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, gate := stuck(t, "syncdir", Config{})
		var wg sync.WaitGroup
		locks := make(map[byte]bool) // that are held
		for i := range 30 {
			key := fmt.Sprint(i)
			if lock := idOf("c", key)[0]; locks[lock] {
				continue
			} else {
				locks[lock] = true
			}
			wg.Go(func() {
				if err := s.Write(bg, "c", key, nil, nil); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(gate)
		wg.Wait()
		if n := s.Stats().DirSyncs; n != 2 {
			t.Errorf("%d syncs, want 2", n)
		}
	})
}

// TestSharedFailure has a sync fail that many wait for. None may be told that all is well,
// not even those who wait for the next one, which would succeed.
func TestSharedFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, gate := stuck(t, "syncdir", Config{})
		dir, syncs := s.dir.(*memDir), 0
		ask := dir.fault
		dir.fault = func(step int, op string) fault {
			ask(step, op)
			if op != "syncdir" {
				return fault{}
			}
			if syncs++; syncs > 1 {
				t.Error("a second sync")
			}
			return fault{err: syscall.EIO}
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if err := s.Write(bg, "c", fmt.Sprint(i), []byte("b"), nil); !errors.Is(err, ErrBroken) || !errors.Is(err, syscall.EIO) {
					t.Errorf("Write() = %v, want ErrBroken", err)
				}
			})
			synctest.Wait()
		}
		close(gate)
		wg.Wait()
		if err := s.Remove(bg, "c", "none"); !errors.Is(err, ErrBroken) {
			t.Errorf("Remove() = %v, want ErrBroken", err)
		}
		steps := dir.steps
		if err := s.Write(bg, "c", "1", []byte("later"), nil); !errors.Is(err, ErrBroken) {
			t.Errorf("Write() = %v, want ErrBroken", err)
		}
		if dir.steps != steps {
			t.Error("a Write after the failure came to the disk")
		}
		if blob, err := s.Read(bg, "c", "1"); err != nil || string(blob) != "b" {
			t.Errorf("Read() = %q, %v", blob, err)
		}
		if !s.Stats().Broken {
			t.Error("Stats().Broken is false")
		}
	})
}

// TestConcurrent has many goroutines at few keys: every value that is read is one that
// was written, and the index agrees with the records in the end.
func TestConcurrent(t *testing.T) {
	t.Run("disk", func(t *testing.T) {
		testConcurrent(t, 20, openAt(t, t.TempDir(), Config{}))
	})
	t.Run("memory", func(t *testing.T) {
		s, err := open("mem", newMemDir(), quiet)
		if err != nil {
			t.Fatal(err)
		}
		testConcurrent(t, 500, s)
	})
}

func testConcurrent(t *testing.T, times int, s *Store) {
	valueOf := func(key string, n int) string { return strings.Repeat(fmt.Sprintf("%s:%d;", key, n), n*100) }
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 0))
			for range times {
				key, n := fmt.Sprint(rng.IntN(4)), 1+rng.IntN(8)
				var err error
				switch rng.IntN(4) {
				case 0:
					err = s.Write(bg, "c", key, []byte(valueOf(key, n)), []string{allTags[n%3], fmt.Sprint("n", n)})
				case 1:
					err = s.Remove(bg, "c", key)
				case 2:
					_, err = s.Find(bg, "c", allTags[:1+n%3])
				case 3:
					var blob []byte
					if blob, err = s.Read(bg, "c", key); errors.Is(err, ErrNotFound) {
						break
					}
					var n int
					_, _ = fmt.Sscanf(string(blob), key+":%d;", &n)
					if n == 0 || string(blob) != valueOf(key, n) {
						t.Errorf("Read(%s) = %d bytes, %.20q", key, len(blob), blob)
					}
				}
				if err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for key := range 4 {
		n := name{"c", fmt.Sprint(key)}
		want := readValue(t, s, n)
		if want.present {
			var i int
			_, _ = fmt.Sscanf(want.blob, n.key+":%d;", &i)
			want.tags = allTags[i%3]
		}
		if got := observe(t, s, n); got != want {
			t.Errorf("%v has %v, want %v", n, got, want)
		}
	}
}
