package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// directory is what a store needs of its directory. Names are of files in it.
type directory interface {
	// Names calls f with each name in the directory until f fails.
	Names(f func(name string) error) error
	// Open opens a file for reading and returns its size.
	Open(name string) (file, int64, error)
	// Create makes a file, which must not exist, for writing.
	Create(name string) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	// Sync returns when the disk has every name as it is now.
	Sync() error
	Close() error
}

type file interface {
	io.ReadWriteCloser
	// Sync returns when the disk has the contents.
	Sync() error
}

// osDir is a directory of the system, held by its descriptor and locked.
type osDir struct {
	*os.Root
	self *os.File // for Sync
	lock *os.File
}

// openDir makes the directory if it is missing, and locks it.
func openDir(path string) (_ *osDir, err error) {
	if err := makeDir(path); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &osDir{Root: root}
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	if d.self, err = root.Open("."); err != nil {
		return nil, err
	}
	if d.lock, err = root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	return d, lockFile(d.lock)
}

// makeDir makes a directory, and has its parent keep it. It does so too if the directory
// is there: who made it may have been killed before the sync.
func makeDir(path string) error {
	made := os.Mkdir(path, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return made
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(path))
	if errors.Is(err, fs.ErrPermission) && made != nil {
		return nil // it is not ours to sync, and most likely not of our making
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

func (d *osDir) Names(f func(name string) error) error {
	dir, err := d.Root.Open(".") // one with a position of its own
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if err := f(name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (d *osDir) Open(name string) (file, int64, error) {
	f, err := d.Root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (d *osDir) Create(name string) (file, error) {
	return d.Root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (d *osDir) Sync() error { return d.self.Sync() }

// Close gives up the lock, last of all.
func (d *osDir) Close() error {
	err := d.Root.Close()
	for _, f := range []*os.File{d.self, d.lock} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
