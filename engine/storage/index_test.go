package storage

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestIndexMemory compares what the index says it takes with what it does.
func TestIndexMemory(t *testing.T) {
	for _, tt := range []struct {
		what string
		keys int
		of   func(i int) *record
	}{
		{"one collection, 2 of 10 tags", 100_000, func(i int) *record {
			return newRecord("c", fmt.Sprintf("key-%010d", i), []string{fmt.Sprint("tag-", i%5), fmt.Sprint("tag-", 5+i%7%5)})
		}},
		{"one collection, a tag of its own", 20_000, func(i int) *record {
			return newRecord("c", fmt.Sprintf("key-%010d", i), []string{fmt.Sprintf("tag-%010d", i)})
		}},
		{"one collection, 16 of 100 tags", 20_000, func(i int) *record {
			var tags []string
			for j := range 16 {
				tags = append(tags, fmt.Sprint("tag-", (i+j*6)%100))
			}
			return newRecord("c", fmt.Sprintf("key-%010d", i), tags)
		}},
		{"a collection of its own", 20_000, func(i int) *record {
			return newRecord(fmt.Sprintf("c-%010d", i), "key", []string{"tag"})
		}},
		{"no tags", 20_000, func(i int) *record { return newRecord("c", fmt.Sprintf("key-%010d", i), nil) }},
	} {
		before := heap()
		x := new(index)
		for i := range tt.keys {
			x.put(tt.of(i))
		}
		took := heap() - before
		n, tags, said := x.size()
		t.Logf("%-34s %6d keys, %6d tags: %5.1f MB, said %5.1f MB", tt.what, n, tags, float64(took)/1e6, float64(said)/1e6)
		if took > said+1<<20 || said > 4*took+1<<20 {
			t.Errorf("%s: it takes %d bytes and says %d", tt.what, took, said)
		}
		for i := range tt.keys {
			r := tt.of(i)
			x.drop(r.collection, r.key)
		}
		if n, tags, said := x.size(); n != 0 || tags != 0 || said != 0 {
			t.Errorf("%s: %d keys, %d tags, %d bytes are left", tt.what, n, tags, said)
		}
		runtime.KeepAlive(x)
	}
}

// TestIndexFull reaches MaxIndexBytes.
func TestIndexFull(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, Config{MaxIndexBytes: 10_000})
	long := strings.Repeat("t", 1000)
	var e *Error
	n := 0
	for ; n < 100; n++ {
		if err := s.Write(bg, "c", fmt.Sprint(n), nil, []string{fmt.Sprint(long, n)[1:]}); err != nil {
			if !errors.As(err, &e) || e.Errno() != syscall.ENOSPC || !strings.Contains(err.Error(), "MaxIndexBytes") {
				t.Errorf("Write() = %v, want ENOSPC", err)
			}
			break
		}
	}
	if size := s.Stats().IndexBytes; n != 6 || size > 10_000 {
		t.Errorf("%d keys and %d bytes were let in", n, size)
	}
	if _, err := s.Read(bg, "c", fmt.Sprint(n)); !errors.Is(err, ErrNotFound) {
		t.Errorf("Read of what was refused = %v, want ErrNotFound", err)
	}
	// What needs no more is let in: no tags, the same tags, fewer.
	for key, tags := range map[string][]string{"untagged": nil, "0": {long[1:] + "0"}, "1": nil} {
		if err := s.Write(bg, "c", key, []byte("new"), tags); err != nil {
			t.Errorf("Write(%s) = %v", key, err)
		}
	}
	// So is what was removed, and more than the limit if it is there at Open.
	if err := s.Write(bg, "c", "1", nil, []string{long}); err != nil {
		t.Error(err)
	}
	_ = s.Close()
	s = openAt(t, dir, Config{MaxIndexBytes: 1000})
	if got := s.Stats().IndexKeys; got != 6 {
		t.Errorf("%d keys after Open, want 6", got)
	}
	if err := s.Write(bg, "c", "more", nil, []string{long}); err == nil {
		t.Error("Write was let in")
	}
	if err := s.Write(bg, "c", "0", nil, []string{long[1:] + "0"}); err != nil {
		t.Errorf("Write of the same tags = %v", err)
	}
	if err := s.Write(bg, "c", "1", nil, nil); err != nil {
		t.Errorf("Write of none = %v", err)
	}
}
