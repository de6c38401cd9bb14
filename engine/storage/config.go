package storage

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"syscall"
)

// Config sets up a Store. Of each limit a zero field means its default and a negative one
// none. The limits are on what is written: what is there already can be read.
type Config struct {
	// MaxNameBytes is the longest name of a collection, and the longest key. If zero,
	// 1 KiB.
	MaxNameBytes int
	// MaxBlobBytes is the longest blob. If zero, 16 MiB.
	MaxBlobBytes int
	// MaxTags is how many tags a Write may give to a key, and a Find may ask for, the
	// same one twice counting as two. If zero, 64.
	MaxTags int
	// MaxTagBytes is the longest tag. If zero, 1 KiB.
	MaxTagBytes int
	// MaxIndexBytes is how much memory the index of tags may take; see Stats. A Write
	// that would need more fails with ENOSPC. Writes that are under way together may
	// pass it together. What Open finds is indexed whatever it takes. If zero, 256 MiB.
	MaxIndexBytes int64
	// MaxConcurrent is how many Reads may be at the disk at once, and as many Writes
	// and Removes: each holds a thread there. More of them wait. If zero, 64.
	MaxConcurrent int

	// Logger. If nil, slog.Default().
	Logger *slog.Logger
}

func (c *Config) setDefaults() {
	orLimit(&c.MaxNameBytes, 1<<10)
	orLimit(&c.MaxBlobBytes, 16<<20)
	orLimit(&c.MaxTags, 64)
	orLimit(&c.MaxTagBytes, 1<<10)
	orLimit(&c.MaxIndexBytes, 256<<20)
	c.MaxConcurrent = cmp.Or(c.MaxConcurrent, 64)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func orLimit[T int | int64](p *T, def int) {
	switch {
	case *p == 0:
		*p = T(def)
	case *p < 0:
		*p = T(math.MaxInt)
	}
}

// check returns what is wrong with a record and a blob that are to be written.
func (c *Config) check(r *record, blob []byte) error {
	if err := c.checkName("collection", r.collection); err != nil {
		return err
	}
	if err := c.checkName("key", r.key); err != nil {
		return err
	}
	if len(blob) > c.MaxBlobBytes {
		return fmt.Errorf("a blob of %d bytes, the limit is %d: %w", len(blob), c.MaxBlobBytes, syscall.EFBIG)
	}
	if err := c.checkTags(r.tags); err != nil {
		return err
	}
	if n := r.namesLen(); n > math.MaxInt32 {
		return fmt.Errorf("names and tags of %d bytes, the format has room for %d: %w", n, math.MaxInt32, syscall.E2BIG)
	}
	return nil
}

func (c *Config) checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the %s is empty: %w", what, syscall.EINVAL)
	case len(name) > c.MaxNameBytes:
		return fmt.Errorf("a %s of %d bytes, the limit is %d: %w", what, len(name), c.MaxNameBytes, syscall.ENAMETOOLONG)
	}
	return nil
}

func (c *Config) checkTags(tags []string) error {
	if len(tags) > c.MaxTags {
		return fmt.Errorf("%d tags, the limit is %d: %w", len(tags), c.MaxTags, syscall.E2BIG)
	}
	if slices.Contains(tags, "") {
		return fmt.Errorf("a tag is empty: %w", syscall.EINVAL)
	}
	for _, tag := range tags {
		if len(tag) > c.MaxTagBytes {
			return fmt.Errorf("a tag of %d bytes, the limit is %d: %w", len(tag), c.MaxTagBytes, syscall.ENAMETOOLONG)
		}
	}
	return nil
}
