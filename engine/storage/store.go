package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// keyLocks is how many locks the keys share.
const keyLocks = 256

// Store is an open directory. All methods are safe from any goroutine; a Store starts
// none. A context bounds the wait for a turn at the disk: what has begun there is
// finished, so that its outcome is known.
type Store struct {
	// immutable
	path           string // as given to Open
	cfg            Config
	dir            directory
	log            *slog.Logger
	swept, corrupt int             // what Open found
	locks          [keyLocks]slots // held by who changes a key, by a byte of its recordID
	readers        slots
	writers        slots

	// each guards itself
	index    index
	names    *dirSync
	temps    atomic.Uint64 // names given to temporary files
	counters counters
	logged   atomic.Int64 // when a corrupt record was logged last, in Unix nanoseconds

	closing chan struct{} // closed by Close
	calls   sync.WaitGroup
	mu      sync.Mutex // guards closed, and calls from below
	closed  bool
}

// Open opens the store in a directory, and makes that, but not its parents, if it is
// missing. It takes away what a crash left, and reads the names of every record. If
// another Store has it, here or in another process, that is ErrLocked.
func Open(dir string, cfg Config) (*Store, error) {
	d, err := openDir(dir)
	if err != nil {
		return nil, &Error{Op: "open", Err: err, dir: dir}
	}
	return open(dir, d, cfg)
}

// open is Open with a directory that is open, which it owns.
func open(path string, d directory, cfg Config) (*Store, error) {
	cfg.setDefaults()
	s := &Store{
		path: path, cfg: cfg, dir: d, log: cfg.Logger.With("storage", path),
		closing: make(chan struct{}),
		readers: newSlots(cfg.MaxConcurrent), writers: newSlots(cfg.MaxConcurrent),
	}
	for i := range s.locks {
		s.locks[i] = newSlots(1)
	}
	s.names = newDirSync(func() error {
		err := d.Sync()
		if err != nil { // at most once
			s.log.Error("the directory could not be synced; no changes any more", "err", err)
		}
		return err
	})
	if err := s.scan(); err != nil {
		_ = d.Close()
		return nil, &Error{Op: "open", Err: err, dir: path}
	}
	return s, nil
}

// Read returns the blob under a key; it is the caller's. If there is none, the error is
// ErrNotFound.
func (s *Store) Read(ctx context.Context, collection, key string) ([]byte, error) {
	blob, err := s.read(ctx, collection, key)
	return blob, s.settle("read", collection, key, &s.counters.reads, err)
}

// Write puts a blob and tags under a key, in place of what was there. When it returns nil
// the disk has them. It does not keep blob or tags; they must not change until it returns.
func (s *Store) Write(ctx context.Context, collection, key string, blob []byte, tags []string) error {
	err := s.write(ctx, &record{collection, key, tags}, blob)
	return s.settle("write", collection, key, &s.counters.writes, err)
}

// Remove takes away what is under a key. If there is nothing, all is well. When it returns
// nil the disk has it so.
func (s *Store) Remove(ctx context.Context, collection, key string) error {
	err := s.change(ctx, idOf(collection, key), func(file string) error {
		err := s.dir.Remove(file)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err == nil {
			s.index.drop(collection, key)
		}
		return err
	})
	return s.settle("remove", collection, key, &s.counters.removes, err)
}

// Find returns the keys of a collection that have all of the tags, sorted. If there is no
// such key or collection, or there are no tags, it returns none. It needs no disk.
func (s *Store) Find(ctx context.Context, collection string, tags []string) ([]string, error) {
	keys, err := s.find(ctx, collection, tags)
	return keys, s.settle("find", collection, "", &s.counters.finds, err)
}

// Close waits for the calls that are at the disk, fails those that wait for it with
// ErrClosed, and gives up the directory. The second one does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.closing)
	s.mu.Unlock()
	s.calls.Wait()
	return s.dir.Close()
}

// settle counts a call and makes its error.
func (s *Store) settle(op, collection, key string, well *atomic.Uint64, err error) error {
	c := &s.counters
	switch {
	case err == nil:
		well.Add(1)
		return nil
	case errors.Is(err, ErrNotFound):
		c.notFound.Add(1)
	case errors.Is(err, ErrCorrupt):
		c.corruptReads.Add(1)
		if now, last := time.Now().UnixNano(), s.logged.Load(); now-last > int64(time.Second) && s.logged.CompareAndSwap(last, now) {
			s.log.Error("corrupt record", "collection", collection, "key", key, "file", idOf(collection, key).file(), "err", err)
		}
	default:
		c.failures.Add(1)
	}
	return &Error{Op: op, Collection: collection, Key: key, Err: err, dir: s.path}
}

// enter begins a call. If it returns nil, s.calls.Done ends it.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.calls.Add(1)
	return nil
}

func (s *Store) read(ctx context.Context, collection, key string) ([]byte, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	if err := s.readers.acquire(ctx, s.closing); err != nil {
		return nil, err
	}
	defer s.readers.release()

	f, r, h, err := s.openRecord(idOf(collection, key).file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if r.collection != collection || r.key != key {
		return nil, corrupt(fmt.Sprintf("it is of %q in %q", r.key, r.collection))
	}
	blob := make([]byte, h.blobLen)
	if err := readFull(f, blob); err != nil {
		return nil, err
	}
	if err := h.checkBlob(blob); err != nil {
		return nil, err
	}
	return blob, nil
}

func (s *Store) find(ctx context.Context, collection string, tags []string) ([]string, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	if err := s.cfg.checkTags(tags); err != nil {
		return nil, err
	}
	return s.index.find(collection, tags), nil
}

func (s *Store) write(ctx context.Context, r *record, blob []byte) error {
	if err := s.cfg.check(r, blob); err != nil {
		return err
	}
	r.sortTags()
	return s.change(ctx, idOf(r.collection, r.key), func(file string) error {
		if !s.index.fits(r, s.cfg.MaxIndexBytes) {
			return errIndexFull
		}
		temp := fmt.Sprint(tempPrefix, s.temps.Add(1))
		if err := s.writeFile(temp, r.appendHead(nil, blob), blob); err != nil {
			return err
		}
		if err := s.dir.Rename(temp, file); err != nil {
			_ = s.dir.Remove(temp)
			return err
		}
		s.index.put(r)
		return nil
	})
}

// change runs f, which changes the record in file and the index, and returns when the
// disk has the change. One key's changes come one after the other.
func (s *Store) change(ctx context.Context, id recordID, f func(file string) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.calls.Done()
	// The lock first: many who wait for one key shall not keep others from the disk.
	lock := s.locks[int(id[0])%keyLocks]
	if err := lock.acquire(ctx, s.closing); err != nil {
		return err
	}
	defer lock.release()
	if err := s.writers.acquire(ctx, s.closing); err != nil {
		return err
	}
	defer s.writers.release()
	if err := s.names.failure(); err != nil {
		return err
	}
	if err := f(id.file()); err != nil {
		return err
	}
	return s.names.wait()
}

// slots are places that a number of goroutines may hold at once; nil: any number.
type slots chan struct{}

func newSlots(n int) slots {
	if n < 0 {
		return nil
	}
	return make(slots, n)
}

// acquire waits for a place. One that is free beats a context that is done.
func (s slots) acquire(ctx context.Context, closing <-chan struct{}) error {
	if s == nil {
		return nil
	}
	select {
	case s <- struct{}{}:
		return nil
	default:
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closing:
		return ErrClosed
	}
}

func (s slots) release() {
	if s != nil {
		<-s
	}
}

// readFull fills b from a file that is long enough by its header.
func readFull(f file, b []byte) error {
	_, err := io.ReadFull(f, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return corrupt("it ends too early")
	}
	return err
}
