package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
)

// call sends a call of a method.
func (w *rawWorker) call(t *testing.T, session, method uint64, args ...any) {
	t.Helper()
	a := codec.Args(args...)
	if a.Err() != nil {
		t.Fatal(a.Err())
	}
	if err := w.send(codec.Frame{Kind: codec.KindCall, Session: session, Type: method, Args: a.Bytes()}); err != nil {
		t.Fatal(err)
	}
}

// answer returns the next frame as "session type args", the arguments as JSON.
func (w *rawWorker) answer(t *testing.T) string {
	t.Helper()
	_, m, err := w.next()
	if err != nil {
		t.Fatalf("next() = %v, want an answer", err)
	}
	return fmt.Sprintf("%d %d %s", m.Session, m.Type, codec.AppendJSONValue(nil, m.Args))
}

// wantAnswers fails the test unless these come next, in this order.
func (w *rawWorker) wantAnswers(t *testing.T, want ...string) {
	t.Helper()
	for _, one := range want {
		if got := w.answer(t); got != one {
			t.Fatalf("the service sent %s, want %s", got, one)
		}
	}
}

// slowStore is a store in memory whose calls take a second.
type slowStore struct {
	mu      sync.Mutex
	values  map[string]string
	calls   []string
	running int
	most    int
	fail    error
}

func (s *slowStore) begin(call string) error {
	s.mu.Lock()
	s.calls = append(s.calls, call)
	s.running++
	s.most = max(s.most, s.running)
	s.mu.Unlock()
	time.Sleep(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	return s.fail
}

func (s *slowStore) Read(_ context.Context, collection, key string) ([]byte, error) {
	err := s.begin("read " + key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return []byte(s.values[collection+"/"+key]), err
}

func (s *slowStore) Write(_ context.Context, collection, key string, blob []byte, _ []string) error {
	err := s.begin("write " + key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = make(map[string]string)
	}
	s.values[collection+"/"+key] = string(blob)
	return err
}

func (s *slowStore) Remove(_ context.Context, collection, key string) error {
	err := s.begin("remove " + key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, collection+"/"+key)
	return err
}

func (s *slowStore) Find(_ context.Context, collection string, _ []string) ([]string, error) {
	err := s.begin("find")
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for i := range 1000 {
		if key := fmt.Sprint("k", i); s.values[collection+"/"+key] != "" {
			keys = append(keys, key)
		}
	}
	return keys, err
}

const (
	read = iota
	write
	remove
	find
	ping = codec.V1Ping
)

func TestStorageOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		s := newStorage(t, engine.StorageConfig{Store: store})
		w := dial(t, s.Declaration(), codec.V1)
		begin := time.Now()
		w.call(t, 1, write, "c", "k1", "first")
		w.call(t, 2, write, "c", "k1", "second")
		w.call(t, 3, read, "c", "k1")
		w.call(t, 4, remove, "c", "k1")
		w.call(t, 5, write, "c", "k2", "other")
		w.call(t, 6, find, "c", []string{"t"})
		w.call(t, 7, read, "elsewhere", "k1")
		w.call(t, 8, ping)
		w.wantAnswers(t, `8 0 []`) // the loop does not wait for the store
		answers := map[string]string{}
		for range 7 {
			session, rest, _ := strings.Cut(w.answer(t), " ")
			answers[session] = rest
		}
		for session, want := range map[string]string{
			"1": `0 []`, "2": `0 []`, "3": `0 ["second"]`, "4": `0 []`, "5": `0 []`, "6": `0 [["k2"]]`, "7": `0 [""]`,
		} {
			if answers[session] != want {
				t.Errorf("the answer to call %s is %s, want %s", session, answers[session], want)
			}
		}
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("all of it took %v, want 5 s: four calls of one key, and the find behind them", took)
		}
		synctest.Wait()
		got := s.Stats()
		if want := (engine.StorageStats{Reads: 2, Writes: 3, Removes: 1, Finds: 1}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
	})
}

func TestStorageBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		s := newStorage(t, engine.StorageConfig{
			Store: store, MaxConcurrent: 2, MaxPending: 5, MaxPendingPerClient: 4, MaxPendingBytes: 1000, MaxFindKeys: 1, MaxFindBytes: 100,
		})
		server := serve(t, service.ServerConfig{Declaration: s.Declaration()})
		a, b := attach(t, server, codec.V1), attach(t, server, codec.V1)
		a.call(t, 1, write, "c", "k1", strings.Repeat("x", 2000))
		a.wantAnswers(t, `1 1 [[12,105],"2009 bytes more than the 1000 that may wait for the disk or for clients to read; try again later"]`)
		for i := range uint64(5) {
			a.call(t, 2+i, write, "c", fmt.Sprint("k", i), "v")
		}
		a.wantAnswers(t, `6 1 [[12,11],"this connection has 4 calls that are not answered yet; wait for some"]`)
		b.call(t, 1, read, "c", "k1")
		b.call(t, 2, read, "c", "k1")
		b.wantAnswers(t, `2 1 [[12,11],"the storage has 5 calls to do; try again later"]`, `1 0 ["v"]`)
		for range 4 {
			if got := a.answer(t); !strings.HasSuffix(got, "0 []") {
				t.Errorf("a write was answered by %s, want a value", got)
			}
		}
		b.call(t, 3, find, "c", []string{"t"})
		b.wantAnswers(t, `3 1 [[12,90],"find in \"c\": 4 keys of 44 bytes do not fit in one answer, limits 1 and 100; ask for more tags"]`)
		if store.most != 2 {
			t.Errorf("%d calls were at the store at a time, want 2", store.most)
		}
		synctest.Wait()
		got := s.Stats()
		if want := (engine.StorageStats{Reads: 1, Writes: 4, Failed: 4, Refused: 3}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
	})
}

func TestStorageFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{fail: fmt.Errorf("the disk is gone: %w", errors.New("really"))}
		s := newStorage(t, engine.StorageConfig{Store: store})
		v1, v0 := dial(t, s.Declaration(), codec.V1), dial(t, s.Declaration(), codec.V0)
		for i, args := range [][]any{{"c", "k"}, {"c", "k", "blob"}, {"c", "k"}, {"c", []string{"t"}}} {
			v1.call(t, uint64(i+1), uint64(i), args...)
			v1.wantAnswers(t, fmt.Sprintf(`%d 1 [[12,5],"the disk is gone: really"]`, i+1))
		}
		v0.call(t, 1, read, "c", "k")
		v0.wantAnswers(t, `1 5 [1,"the disk is gone: really"]`, `1 6 []`)

		store.mu.Lock()
		store.fail = toldError{}
		store.mu.Unlock()
		v1.call(t, 9, write, "c", "k", "blob")
		v1.wantAnswers(t, `9 1 [[12,28],"/store/c/k: No space left on device"]`)
	})
}

// toldError is an error with a number and a text for clients.
type toldError struct{}

func (toldError) Error() string        { return "full" }
func (toldError) Errno() syscall.Errno { return 28 }
func (toldError) Text() string         { return "/store/c/k: No space left on device" }

// TestStorageAnswers bounds what is read for clients, all of them together.
func TestStorageAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{values: map[string]string{"c/big": strings.Repeat("x", 2000), "c/small": "v"}}
		s := newStorage(t, engine.StorageConfig{Store: store, MaxPendingBytes: 1000})
		w := dial(t, s.Declaration(), codec.V1)
		w.call(t, 1, read, "c", "big")
		w.wantAnswers(t, `1 1 [[12,105],"2004 bytes more than the 1000 that may wait for the disk or for clients to read; try again later"]`)
		w.call(t, 2, read, "c", "small")
		w.wantAnswers(t, `2 0 ["v"]`)
		synctest.Wait()
		if got := s.Stats(); got.PendingBytes != 0 || got.Reads != 1 || got.Failed != 1 {
			t.Errorf("Stats() = %+v, want one read, one failed, and no bytes", got)
		}
	})
}

// TestStorageMissing wants the text of the live runtime behind the path of the store.
func TestStorageMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage(t, engine.StorageConfig{Store: openStore(t)})
		w := dial(t, s.Declaration(), codec.V1)
		w.call(t, 1, read, "cap", "none")
		if got := w.answer(t); !strings.HasPrefix(got, `1 1 [[12,2],"/`) || !strings.HasSuffix(got, `/cap/none: No such file or directory"]`) {
			t.Errorf("a missing key was answered by %s", got)
		}
	})
}

// TestStorageClose has a client leave and the service close while calls are at the store.
func TestStorageClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		s := newStorage(t, engine.StorageConfig{Store: store, MaxConcurrent: 1})
		w := dial(t, s.Declaration(), codec.V1)
		w.call(t, 1, write, "c", "k1", "v")
		w.call(t, 2, write, "c", "k2", "v")
		w.call(t, 3, read, "c", "k1")
		synctest.Wait()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "3 calls") {
			t.Errorf("Close() = %v, want that 3 calls are not answered", err)
		}
		v := dial(t, s.Declaration(), codec.V1)
		v.call(t, 1, read, "c", "k1")
		v.wantAnswers(t, `1 1 [[12,125],"the storage is being closed"]`)
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if got := strings.Join(store.calls, ", "); got != "write k1, write k2" {
			t.Errorf("the store was asked to %s, want the writes of a client that left, and not its read", got)
		}
	})
}

func TestStorageConfig(t *testing.T) {
	if _, err := engine.NewStorageService(engine.StorageConfig{}); err == nil {
		t.Error("NewStorageService() = nil, want an error without a Store")
	}
}
