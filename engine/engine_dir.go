package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluice-rpc/sluice/engine/storage"
)

const (
	tempPrefix = "sluice-engine-"
	// sweepAge is how old a temporary directory that is not finished must be to be taken
	// for what a crash left: no Engine takes that long to make one.
	sweepAge = time.Hour
	// sweepSocketAge is that for the directory of a socket at which nobody listens.
	sweepSocketAge = time.Minute
	maxDial        = time.Second
	// sweepPause is long enough for a sweep to see that a directory is not abandoned.
	sweepPause = 100 * time.Millisecond
)

// place is where an Engine keeps things. It belongs to one Engine at a time: the lock of
// the store sees to that.
type place struct {
	dir   string // has storage and spool
	run   string // for sockets; made anew at each start
	temp  bool   // dir goes with the Engine
	store *storage.Store
}

// openPlace makes the directories, opens the store, and clears away what a crash left.
func openPlace(cfg *Config) (*place, error) {
	p := &place{dir: cfg.Dir}
	var err error
	sweep(cfg.Storage)
	sweepSockets()
	if p.dir == "" {
		p.temp = true
		p.dir, err = os.MkdirTemp("", tempPrefix)
	} else if p.dir, err = filepath.Abs(p.dir); err == nil {
		err = os.MkdirAll(p.dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("engine: directory of the state: %w", err)
	}
	if p.store, err = storage.Open(filepath.Join(p.dir, "storage"), cfg.Storage); err != nil {
		if errors.Is(err, storage.ErrLocked) {
			err = fmt.Errorf("another engine runs there; stop it, or give this one a directory of its own: %w", err)
		}
		return nil, errors.Join(fmt.Errorf("engine: %s: %w", p.dir, err), p.removeTemp())
	}
	p.run = filepath.Join(p.dir, "run")
	if cfg.RuntimeDir != "" {
		sum := sha256.Sum256([]byte(p.dir))
		p.run = filepath.Join(cfg.RuntimeDir, "sluice-"+hex.EncodeToString(sum[:4]))
	}
	if err := p.clear(); err != nil {
		return nil, errors.Join(fmt.Errorf("engine: %w", err), p.store.Close(), p.removeTemp())
	}
	return p, nil
}

// clear makes the directories for sockets and for applications, both empty: what is in
// them is of an Engine that was killed, since ours is the store.
func (p *place) clear() error {
	for _, dir := range []string{p.run, p.spool("")} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// spool returns the directory of an application.
func (p *place) spool(app string) string { return filepath.Join(p.dir, "spool", app) }

// close gives all up, and removes what is of no use to the next Engine.
func (p *place) close() error {
	return errors.Join(os.RemoveAll(p.run), os.RemoveAll(p.spool("")), p.store.Close(), p.removeTemp())
}

func (p *place) removeTemp() error {
	if !p.temp {
		return nil
	}
	err := os.RemoveAll(p.dir)
	if err != nil { // the sweep of another Engine may be looking into it, without a lock to keep it out
		time.Sleep(sweepPause)
		err = os.RemoveAll(p.dir)
	}
	return err
}

// sweep removes the temporary directories of Engines that were killed: those whose store
// nobody has open. It does what it can; the rest is left to the system.
func sweep(cfg storage.Config) {
	list, _ := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*"))
	for _, dir := range list {
		if !abandoned(dir, cfg) {
			continue
		}
		_ = os.RemoveAll(dir)
	}
}

func abandoned(dir string, cfg storage.Config) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return false
	}
	// It is made last, by who has the lock, and is gone before that is given up.
	if _, err := os.Lstat(filepath.Join(dir, "spool")); err != nil {
		return time.Since(info.ModTime()) > sweepAge
	}
	store, err := storage.Open(filepath.Join(dir, "storage"), cfg)
	if err != nil {
		return false // it is in use, or not ours
	}
	return store.Close() == nil
}

// sweepSockets removes directories that channel.PrivateDir made for the sockets of an
// Engine that was killed; they are there only if those of Config were too long.
func sweepSockets() {
	list, _ := filepath.Glob(filepath.Join(os.TempDir(), "sluice-[0-9]*"))
	for _, dir := range list {
		socket := filepath.Join(dir, "engine.sock")
		info, err := os.Lstat(socket)
		if err != nil || info.Mode()&os.ModeSocket == 0 || time.Since(info.ModTime()) < sweepSocketAge {
			continue
		}
		conn, err := net.DialTimeout("unix", socket, maxDial)
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			continue
		}
		if os.Remove(socket) == nil {
			_ = os.Remove(dir) // or there is something else in it
		}
	}
}
