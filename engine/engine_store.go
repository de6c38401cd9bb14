package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine/storage"
)

// Collections of the storage, as the live runtimes and their tools have them.
const (
	collManifests = "manifests" // msgpack map, tag "app"
	collApps      = "apps"      // archive, tag "app"
	collProfiles  = "profiles"  // msgpack map, tag "profile"
	collRunlists  = "runlists"  // msgpack map of applications to profiles, tag "runlist"
	collCrashlogs = "crashlogs" // "microseconds:uuid" to a list of lines, tags name and day
)

const (
	runlistKey     = "default"
	defaultProfile = "default"
	storeTimeout   = 10 * time.Second // for what nobody waits for
	maxCrashlogs   = 100              // of one application in the storage
)

// library reads and writes what the storage has of applications.
type library struct {
	store *storage.Store
}

// manifest returns the manifest of an application.
func (l *library) manifest(ctx context.Context, name string) (Manifest, error) {
	raw, err := l.store.Read(ctx, collManifests, name)
	if err != nil {
		return Manifest{}, err
	}
	return ParseManifest(collManifests+"/"+name, raw)
}

// profile returns a profile by name, and its keys that mean nothing here.
func (l *library) profile(ctx context.Context, name string) (Profile, []string, error) {
	raw, err := l.store.Read(ctx, collProfiles, name)
	if err != nil {
		return Profile{}, nil, err
	}
	p, unknown, err := parseProfile(collProfiles+"/"+name, raw)
	p.Name = name
	return p, unknown, err
}

// archive returns the files of an application; nil if it has none.
func (l *library) archive(ctx context.Context, name string) ([]byte, error) {
	raw, err := l.store.Read(ctx, collApps, name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	return unpacked(raw), err
}

// unpacked returns the bytes of a blob that is one packed string, which is how tools of
// the live runtimes store archives.
func unpacked(blob []byte) []byte {
	r := codec.NewValueReader(blob)
	if r.Peek() != codec.RawValue {
		return blob
	}
	if b := r.Bytes(); r.Err() == nil && len(r.Rest()) == 0 {
		return b
	}
	return blob
}

// put stores a package. The manifest comes last: without it there is no application.
func (l *library) put(ctx context.Context, name string, p *Package) error {
	tags := []string{"app"}
	if err := l.store.Write(ctx, collApps, name, p.ArchiveBlob, tags); err != nil {
		return err
	}
	if p.ProfileBlob != nil {
		if err := l.store.Write(ctx, collProfiles, name, p.ProfileBlob, []string{"profile"}); err != nil {
			return err
		}
	}
	return l.store.Write(ctx, collManifests, name, p.ManifestBlob, tags)
}

// runlist returns the applications that are to run, with their profiles.
func (l *library) runlist(ctx context.Context) (map[string]string, error) {
	raw, err := l.store.Read(ctx, collRunlists, runlistKey)
	if errors.Is(err, storage.ErrNotFound) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	list := make(map[string]string)
	r := codec.NewValueReader(raw)
	for n := r.MapLen(); n > 0 && r.Err() == nil; n-- {
		name := r.String()
		list[name] = r.String()
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%s/%s: %w", collRunlists, runlistKey, err)
	}
	return list, nil
}

func (l *library) putRunlist(ctx context.Context, list map[string]string) error {
	raw := codec.AppendMapHeader(nil, len(list))
	for _, name := range slices.Sorted(maps.Keys(list)) {
		raw = codec.AppendString(codec.AppendString(raw, name), list[name])
	}
	return l.store.Write(ctx, collRunlists, runlistKey, raw, []string{"runlist"})
}

// crash stores the last lines of a worker, and removes the oldest ones of the application
// if there are too many.
func (l *library) crash(ctx context.Context, c *Crash) error {
	key := strconv.FormatInt(c.Time.UnixMicro(), 10) + ":" + c.UUID
	lines := crashLines(c)
	raw := codec.AppendArrayHeader(nil, len(lines))
	for _, line := range lines {
		raw = codec.AppendString(raw, line)
	}
	tags := []string{c.Name, "cocaine-" + c.Time.UTC().Format(time.DateOnly)}
	if err := l.store.Write(ctx, collCrashlogs, key, raw, tags); err != nil {
		return err
	}
	keys, err := l.store.Find(ctx, collCrashlogs, []string{c.Name})
	if err != nil {
		return err
	}
	for ; len(keys) > maxCrashlogs; keys = keys[1:] { // sorted, so the oldest comes first
		if err := l.store.Remove(ctx, collCrashlogs, keys[0]); err != nil {
			return err
		}
	}
	return nil
}

// crashLines are what the worker wrote and, last, why it is gone.
func crashLines(c *Crash) []string {
	why := c.Code.String()
	if c.Reason != "" {
		why += ": " + c.Reason
	}
	if c.Status != "" {
		why += " (" + c.Status + ")"
	}
	return append(slices.Clone(c.Lines), why)
}

// keepCrash stores the last lines of a worker.
func (e *Engine) keepCrash(c Crash) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := e.lib.crash(ctx, &c); err != nil {
		e.log.Error("engine: a crash log cannot be stored", "app", c.Name, "slave", c.UUID, "err", err)
	}
}

// want writes down that an application is to run, so that the next Engine starts it;
// unless it was paused meanwhile, since unwant comes after pause.
func (e *Engine) want(t *tenant) error {
	e.runlist.Lock()
	defer e.runlist.Unlock()
	if err := t.spooling.Err(); err != nil {
		return err
	}
	return e.rewrite(func(list map[string]string) bool {
		was, ok := list[t.name]
		list[t.name] = t.profile
		return !ok || was != t.profile
	})
}

// unwant writes down that an application is not to run.
func (e *Engine) unwant(name string) error {
	e.runlist.Lock()
	defer e.runlist.Unlock()
	return e.rewrite(func(list map[string]string) bool {
		_, ok := list[name]
		delete(list, name)
		return ok
	})
}

// rewrite changes the list if change says that it did. The lock runlist is held.
func (e *Engine) rewrite(change func(list map[string]string) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	list, err := e.lib.runlist(ctx)
	if err != nil || !change(list) {
		return err
	}
	return e.lib.putRunlist(ctx, list)
}
