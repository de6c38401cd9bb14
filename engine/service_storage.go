package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine/storage"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// Store is what a [StorageService] stores in; a *storage.Store is one. All methods are
// for any goroutine. An error that has the methods Errno and Text, as a *storage.Error
// does, is told to the client with these.
type Store interface {
	// Read returns what is under a key; it is the caller's.
	Read(ctx context.Context, collection, key string) ([]byte, error)
	// Write puts a blob and tags under a key. It keeps neither.
	Write(ctx context.Context, collection, key string, blob []byte, tags []string) error
	// Remove takes away what is under a key. If there is nothing, all is well.
	Remove(ctx context.Context, collection, key string) error
	// Find returns the keys that have all of the tags, sorted.
	Find(ctx context.Context, collection string, tags []string) ([]string, error)
}

// StorageConfig sets up a [StorageService]. A zero field means its default, a negative one
// no limit.
type StorageConfig struct {
	// Store is required. It outlives the service.
	Store Store
	// MaxConcurrent calls of the store at a time, each in a goroutine. If zero, 64.
	MaxConcurrent int
	// MaxPending calls of clients that are not answered yet. If zero, 4096. One more is
	// answered with EAGAIN.
	MaxPending int
	// MaxPendingPerClient is that for one connection. If zero, 512.
	MaxPendingPerClient int
	// MaxPendingBytes of what these calls carry, and of the answers that wait for a client
	// to read. If zero, 256 MiB. A call that would need more is answered with ENOBUFS.
	MaxPendingBytes int64
	// MaxFindKeys and MaxFindBytes bound the answer of a find: clients refuse frames of
	// more than 65536 elements, or of more than 16 MiB. If zero, 65000 and 16 MiB. If there
	// are more keys the answer is EMSGSIZE.
	MaxFindKeys  int
	MaxFindBytes int
}

func (c *StorageConfig) setDefaults() error {
	if c.Store == nil {
		return errors.New("engine: StorageConfig.Store is required")
	}
	c.MaxConcurrent = orLimit(c.MaxConcurrent, 64)
	c.MaxPending = orLimit(c.MaxPending, 4096)
	c.MaxPendingPerClient = orLimit(c.MaxPendingPerClient, 512)
	c.MaxFindKeys = orLimit(c.MaxFindKeys, 65000)
	c.MaxFindBytes = orLimit(c.MaxFindBytes, codec.DefaultMaxPayloadBytes)
	switch {
	case c.MaxPendingBytes == 0:
		c.MaxPendingBytes = 256 << 20
	case c.MaxPendingBytes < 0:
		c.MaxPendingBytes = 1<<63 - 1
	}
	return nil
}

// StorageService serves a [Store] as the service "storage" of the live runtime. The disk is
// never waited for on a loop. What is read or found shows all changes that came before it,
// and calls of one client about one key are done and answered in order, so that it need
// not wait for one answer before it sends the next call. Other calls overtake each other.
type StorageService struct {
	cfg StorageConfig // immutable

	done            [opFind + 1]atomic.Uint64 // by operation
	failed, refused atomic.Uint64

	mu      sync.Mutex                  // no other lock is taken under it
	closed  bool                        // guarded by mu, as the rest
	running int                         // at the store
	ready   []*storageCall              // may run when another one is done
	changed map[storageKey]*storageCall // the last change of each key that is not done
	asked   map[askedKey]*storageCall   // the last call that is not answered
	clients map[*session.Table]int      // their pending calls
	pending int                         // all of these
	bytes   int64                       // see MaxPendingBytes
	idle    chan struct{}               // made by Close; closed when nothing is pending
}

// NewStorageService returns a service that is not served yet. It is to be closed before
// its Store.
func NewStorageService(cfg StorageConfig) (*StorageService, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &StorageService{
		cfg:     cfg,
		changed: make(map[storageKey]*storageCall),
		asked:   make(map[askedKey]*storageCall),
		clients: make(map[*session.Table]int),
	}, nil
}

// Declaration returns the service in the numbers and names of the live runtime, which both
// dialects share (protocol: storage).
func (s *StorageService) Declaration() service.Declaration {
	text := func(name string) service.Arg { return service.Arg{Name: name, Kind: service.StringArg} }
	tags := service.Arg{Name: "tags", Kind: service.StringsArg}
	optional := tags
	optional.Optional = true
	method := func(id uint64, name string, op storageOp, args ...service.Arg) service.Handled {
		return service.Handled{
			Method: service.Method{ID: id, Name: name, Rx: session.Primitive},
			Args:   args,
			OnLoop: func(c *service.Call) { s.accept(op, c) },
		}
	}
	return service.Declaration{Name: "storage", Version: 1, Methods: []service.Handled{
		method(0, "read", opRead, text("collection"), text("key")),
		method(1, "write", opWrite, text("collection"), text("key"), text("blob"), optional),
		method(2, "remove", opRemove, text("collection"), text("key")),
		method(3, "find", opFind, text("collection"), tags),
	}}
}

// storageOp is one of the four methods.
type storageOp uint8

const (
	opRead storageOp = iota
	opWrite
	opRemove
	opFind
)

// do runs a call at the store and returns the argument array of its answer.
func (s *StorageService) do(c *storageCall) ([]byte, error) {
	ctx := context.Background() // what a client was let in with is done, whether it waits or not
	if c.op == opRead && c.call.Session().Err() != nil {
		return nil, context.Canceled // nobody to tell
	}
	switch c.op {
	case opRead:
		blob, err := s.cfg.Store.Read(ctx, c.collection, c.key)
		if err != nil {
			return nil, err
		}
		dst := codec.AppendArrayHeader(make([]byte, 0, len(blob)+8), 1)
		return codec.AppendRaw(dst, blob), nil
	case opWrite:
		return nil, s.cfg.Store.Write(ctx, c.collection, c.key, c.blob, c.tags)
	case opRemove:
		return nil, s.cfg.Store.Remove(ctx, c.collection, c.key)
	default:
		keys, err := s.cfg.Store.Find(ctx, c.collection, c.tags)
		if err != nil {
			return nil, err
		}
		return s.appendKeys(keys, c.collection)
	}
}

// appendKeys returns the answer of a find, or an error if it would not fit in a frame.
func (s *StorageService) appendKeys(keys []string, collection string) ([]byte, error) {
	size := 16
	for _, key := range keys {
		size += len(key) + 5
	}
	if len(keys) > s.cfg.MaxFindKeys || size > s.cfg.MaxFindBytes {
		return nil, &storageRefusal{syscall.EMSGSIZE, fmt.Sprintf(
			"find in %q: %d keys of %d bytes do not fit in one answer, limits %d and %d; ask for more tags",
			collection, len(keys), size, s.cfg.MaxFindKeys, s.cfg.MaxFindBytes)}
	}
	dst := codec.AppendArrayHeader(make([]byte, 0, size), 1)
	dst = codec.AppendArrayHeader(dst, len(keys))
	for _, key := range keys {
		dst = codec.AppendString(dst, key)
	}
	return dst, nil
}

// storageRefusal is an error of the service itself.
type storageRefusal struct {
	errno syscall.Errno
	text  string
}

func (e *storageRefusal) Error() string        { return e.text }
func (e *storageRefusal) Errno() syscall.Errno { return e.errno }
func (e *storageRefusal) Text() string         { return e.text }

// fail tells a client why its call failed: in v1 a number of the system, with its text, in
// v0 the text alone (protocol: services in v0).
func (s *StorageService) fail(c *service.Call, collection, key string, err error) {
	s.failed.Add(1)
	var told interface {
		Errno() syscall.Errno
		Text() string
	}
	errno, text := syscall.EIO, err.Error()
	if errors.As(err, &told) {
		errno, text = told.Errno(), told.Text()
	}
	if c.Dialect() == codec.V1 {
		_ = c.Fail(service.CategoryGeneric, int64(errno), text)
		return
	}
	if errors.Is(err, storage.ErrNotFound) {
		text = fmt.Sprintf("object '%s' has not been found in '%s'", key, collection)
	}
	_ = c.Fail(service.CategoryV0, service.V0Invocation, text)
}

// read fills the arguments from a call's, which the server has checked; they are copied.
func (c *storageCall) read(args []byte) {
	r := codec.NewReader(bytes.Clone(args))
	c.collection = r.String()
	if c.op != opFind {
		c.key = r.String()
	}
	if c.op == opWrite {
		c.blob = r.Bytes()
	}
	if (c.op == opWrite || c.op == opFind) && r.Len() > 0 {
		c.tags = make([]string, r.ArrayLen())
		for i := range c.tags {
			c.tags[i] = r.String()
		}
	}
}

// StorageStats is a snapshot of a StorageService.
type StorageStats struct {
	Reads, Writes, Removes, Finds uint64 // that ended well
	Failed                        uint64 // answered with an error
	Refused                       uint64 // of these, for want of room

	Running      int   // at the store now
	Pending      int   // not answered yet
	PendingBytes int64 // of these
}

// Stats returns a snapshot. Any goroutine.
func (s *StorageService) Stats() StorageStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return StorageStats{
		Reads: s.done[opRead].Load(), Writes: s.done[opWrite].Load(),
		Removes: s.done[opRemove].Load(), Finds: s.done[opFind].Load(),
		Failed: s.failed.Load(), Refused: s.refused.Load(),
		Running: s.running, Pending: s.pending, PendingBytes: s.bytes,
	}
}
