package storage

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
)

// memDir is a directory in memory that keeps apart what programs see and what the disk
// has. crash says what is left after a power loss: of contents that were not synced
// anything, and of changes of names that were not synced any.
type memDir struct {
	mu    sync.Mutex
	files map[string]*inode // as programs see them
	disk  map[string]*inode // the names that the disk has for certain
	ops   []nameOp          // the changes of names since
	steps int               // how many operations there were

	// fault, if set, is asked before every operation. It may block.
	fault func(step int, op string) fault
}

type inode struct {
	data   []byte // as programs see it
	synced []byte // what the disk has for certain
	lost   bool   // a sync has failed: later ones do not write what that one had to
}

// nameOp is one atomic change of names: remove, set, or both.
type nameOp struct {
	remove, set string
	inode       *inode
	synced      bool
	lost        bool // a sync has failed on it
}

// fault is what goes wrong in an operation. If err is nil, nothing does.
type fault struct {
	err     error
	done    bool // the operation has its effect nevertheless
	partial int  // of a write: this many bytes have
}

// errPower says that nothing is done any more: the power is gone, or the process killed.
var errPower = errors.New("no power")

func newMemDir() *memDir {
	return &memDir{files: make(map[string]*inode), disk: make(map[string]*inode)}
}

// begin counts an operation and returns with the lock held.
func (d *memDir) begin(op string) fault {
	d.mu.Lock()
	d.steps++
	if d.fault == nil {
		return fault{}
	}
	step, ask := d.steps, d.fault
	d.mu.Unlock()
	f := ask(step, op)
	d.mu.Lock()
	return f
}

func (d *memDir) changeLocked(op nameOp) {
	op.apply(d.files)
	d.ops = append(d.ops, op)
}

func (op nameOp) apply(names map[string]*inode) {
	delete(names, op.remove)
	if op.set != "" {
		names[op.set] = op.inode
	}
}

func (d *memDir) Names(f func(name string) error) error {
	flt := d.begin("list")
	names := slices.Collect(maps.Keys(d.files))
	d.mu.Unlock()
	if flt.err != nil {
		return flt.err
	}
	for _, name := range names {
		if err := f(name); err != nil {
			return err
		}
	}
	return nil
}

func (d *memDir) Open(name string) (file, int64, error) {
	flt := d.begin("open")
	defer d.mu.Unlock()
	if flt.err != nil {
		return nil, 0, flt.err
	}
	n := d.files[name]
	if n == nil {
		return nil, 0, fs.ErrNotExist
	}
	return &memFile{dir: d, inode: n}, int64(len(n.data)), nil
}

func (d *memDir) Create(name string) (file, error) {
	flt := d.begin("create")
	defer d.mu.Unlock()
	if flt.err != nil && !flt.done {
		return nil, flt.err
	}
	if d.files[name] != nil {
		return nil, fs.ErrExist
	}
	n := &inode{}
	d.changeLocked(nameOp{set: name, inode: n})
	return &memFile{dir: d, inode: n}, flt.err
}

func (d *memDir) Rename(from, to string) error {
	flt := d.begin("rename")
	defer d.mu.Unlock()
	if flt.err != nil && !flt.done {
		return flt.err
	}
	if d.files[from] == nil {
		return fs.ErrNotExist
	}
	d.changeLocked(nameOp{remove: from, set: to, inode: d.files[from]})
	return flt.err
}

func (d *memDir) Remove(name string) error {
	flt := d.begin("remove")
	defer d.mu.Unlock()
	if flt.err != nil && !flt.done {
		return flt.err
	}
	if d.files[name] == nil {
		return fs.ErrNotExist
	}
	d.changeLocked(nameOp{remove: name})
	return flt.err
}

func (d *memDir) Sync() error {
	flt := d.begin("syncdir")
	defer d.mu.Unlock()
	whole := true
	for i := range d.ops {
		op := &d.ops[i]
		if flt.err != nil && flt.err != errPower && !op.synced {
			op.lost = true
		}
		op.synced = op.synced || !op.lost && (flt.err == nil || flt.done)
		whole = whole && op.synced
	}
	if whole {
		d.disk, d.ops = maps.Clone(d.files), nil
	}
	return flt.err
}

func (d *memDir) Close() error { return nil }

// crash returns what is left after a power loss.
func (d *memDir) crash(rng *rand.Rand) *memDir {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := maps.Clone(d.disk)
	for _, op := range d.ops {
		if op.synced || rng.IntN(2) == 0 {
			op.apply(names)
		}
	}
	left := newMemDir()
	for _, name := range slices.Sorted(maps.Keys(names)) { // in one order, for the sake of rng
		b := names[name].torn(rng)
		left.files[name] = &inode{data: b, synced: b}
	}
	left.disk = maps.Clone(left.files)
	return left
}

// torn returns contents that the disk may have.
func (n *inode) torn(rng *rand.Rand) []byte {
	if bytes.Equal(n.data, n.synced) {
		return n.synced
	}
	switch rng.IntN(4) {
	case 0:
		return n.synced
	case 1:
		return bytes.Clone(n.data[:rng.IntN(len(n.data)+1)])
	case 2: // its length, but not its bytes
		b := make([]byte, len(n.data))
		copy(b, n.data[:rng.IntN(len(n.data)+1)])
		return b
	}
	return bytes.Clone(n.data)
}

type memFile struct {
	dir   *memDir
	inode *inode
	at    int
}

func (f *memFile) Read(b []byte) (int, error) {
	flt := f.dir.begin("read")
	defer f.dir.mu.Unlock()
	if flt.err != nil {
		return 0, flt.err
	}
	n := copy(b, f.inode.data[f.at:])
	if f.at += n; n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (f *memFile) Write(b []byte) (int, error) {
	flt := f.dir.begin("write")
	defer f.dir.mu.Unlock()
	n := len(b)
	if flt.err != nil && !flt.done {
		n = min(flt.partial, n)
	}
	f.inode.data = append(f.inode.data, b[:n]...)
	if flt.err == errShort {
		flt.err = nil
	}
	return n, flt.err
}

// errShort has a write write less and tell nothing but how much.
var errShort = errors.New("short")

func (f *memFile) Sync() error {
	flt := f.dir.begin("sync")
	defer f.dir.mu.Unlock()
	if flt.err == nil && !f.inode.lost {
		f.inode.synced = bytes.Clone(f.inode.data)
	}
	f.inode.lost = f.inode.lost || flt.err != nil && flt.err != errPower
	return flt.err
}

func (f *memFile) Close() error {
	flt := f.dir.begin("close")
	defer f.dir.mu.Unlock()
	return flt.err
}

// faultsOf are what can go wrong in an operation besides the power.
func faultsOf(op string) []fault {
	switch op {
	case "write":
		return []fault{
			{err: syscall.ENOSPC}, {err: syscall.ENOSPC, partial: 7}, {err: syscall.EIO, partial: 1 << 20}, {err: errShort, partial: 3},
		}
	case "create", "remove":
		return []fault{{err: syscall.ENOSPC}, {err: syscall.EIO}}
	case "rename":
		return []fault{{err: syscall.ENOSPC}, {err: syscall.EIO, done: true}}
	case "sync":
		return []fault{{err: syscall.EIO}, {err: syscall.ENOSPC}}
	case "syncdir":
		return []fault{{err: syscall.EIO}, {err: syscall.EIO, done: true}}
	}
	return []fault{{err: syscall.EIO}}
}
