package storage

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func openAt(t testing.TB, dir string, cfg Config) *Store {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet.Logger
	}
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return s
}

// operation is a call of a store, and what comes of it.
type operation struct {
	op, collection, key string
	blob                string
	tags                []string
	want                string // keys, or errno
}

// do calls s and returns the blob that was read or written, and the keys or the errno.
func (o operation) do(s *Store) (blob []byte, got string, err error) {
	var keys []string
	switch o.op {
	case "read":
		blob, err = s.Read(bg, o.collection, o.key)
	case "write":
		blob = []byte(o.blob)
		err = s.Write(bg, o.collection, o.key, blob, o.tags)
	case "remove":
		err = s.Remove(bg, o.collection, o.key)
	case "find":
		keys, err = s.Find(bg, o.collection, o.tags)
	}
	if errors.Is(err, ErrNotFound) {
		return blob, "ENOENT", nil
	}
	return blob, strings.Join(keys, " "), err
}

// TestBehaviour does what a recorded client of the live runtime did, and wants what that
// answered.
func TestBehaviour(t *testing.T) {
	s := openAt(t, t.TempDir(), Config{})
	for i, step := range []operation{
		{op: "write", collection: "cap", key: "k", blob: "blob", tags: []string{"t1", "t2"}},
		{op: "write", collection: "cap", key: "k2", blob: "blob2"},
		{op: "write", collection: "cap", key: "k3", blob: "\x00\xff\xc0\x80", tags: []string{}},
		{op: "read", collection: "cap", key: "k", blob: "blob"},
		{op: "read", collection: "cap", key: "k3", blob: "\x00\xff\xc0\x80"},
		{op: "read", collection: "cap", key: "none", want: "ENOENT"},
		{op: "read", collection: "nocol", key: "none", want: "ENOENT"},
		{op: "find", collection: "cap", tags: []string{"t1"}, want: "k"},
		{op: "find", collection: "cap", tags: []string{"t1", "t2"}, want: "k"},
		{op: "find", collection: "cap", tags: []string{"zz"}},
		{op: "find", collection: "cap", tags: []string{}},
		{op: "find", collection: "nocol", tags: []string{"t"}},
		{op: "remove", collection: "cap", key: "k"},
		{op: "remove", collection: "cap", key: "none"},
		{op: "find", collection: "cap", tags: []string{"t1"}},
		{op: "find", collection: "cap", tags: []string{"t1", "t2"}},
		{op: "write", collection: "cap", key: "k2", blob: "newblob", tags: []string{"t9"}},
		{op: "read", collection: "cap", key: "k2", blob: "newblob"},
		{op: "read", collection: "../x", key: "y", want: "ENOENT"},
		{op: "read", collection: "", key: "y", want: "ENOENT"},
		// From here on it is ours.
		{op: "remove", collection: "", key: ""},
		{op: "write", collection: "cap", key: "a/b", blob: "v"},
		{op: "read", collection: "cap", key: "a/b", blob: "v"},
		{op: "write", collection: "cap", key: "k4", tags: []string{"t1", "t9", "t9"}},
		{op: "read", collection: "cap", key: "k4"},
		{op: "find", collection: "cap", tags: []string{"t9"}, want: "k2 k4"},
		{op: "find", collection: "cap", tags: []string{"t9", "t1", "t9"}, want: "k4"}, // all of them
		{op: "find", collection: "cap", tags: []string{"t9", "zz"}},
		{op: "write", collection: "cap", key: "k2", blob: "untagged"}, // takes the old tags away
		{op: "find", collection: "cap", tags: []string{"t9"}, want: "k4"},
	} {
		blob, got, err := step.do(s)
		if got != step.want || string(blob) != step.blob || err != nil {
			t.Errorf("step %d, %s %q in %q: %q, %q, %v, want %q, %q", i, step.op, step.key, step.collection, blob, got, err, step.blob, step.want)
		}
	}
	want := Stats{Reads: 5, Writes: 7, Removes: 3, Finds: 11, NotFound: 4, DirSyncs: 10, IndexKeys: 1, IndexTags: 2}
	got := s.Stats()
	if got.IndexBytes == 0 {
		t.Error("Stats().IndexBytes = 0")
	}
	if got.IndexBytes = 0; got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
}

// TestErrors wants the number and the text that the live runtime has.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir+"/", Config{MaxBlobBytes: 3, MaxNameBytes: 4, MaxTags: 2, MaxTagBytes: 5})
	_, missing := s.Read(bg, "col", "none")
	write := func(collection, key, blob string, tags ...string) error {
		return s.Write(bg, collection, key, []byte(blob), tags)
	}
	_, manyTags := s.Find(bg, "col", []string{"a", "a", "a"})
	late, cancel := context.WithTimeout(bg, -1)
	defer cancel()
	_, tooLate := s.Read(late, "col", "none")
	closed := openAt(t, t.TempDir(), Config{})
	_ = closed.Close()
	path := dir + "/col/none: "
	for _, tt := range []struct {
		err   error
		errno syscall.Errno
		is    error
		text  string // "" to let it be
		msg   string
	}{
		{missing, syscall.ENOENT, ErrNotFound, path + "No such file or directory", `storage: read "none" in "col": not found`},
		{write("col", "none", "1234"), syscall.EFBIG, nil, path + "File too large", `storage: write "none" in "col": a blob of 4 bytes, the limit is 3: file too large`},
		{write("", "none", ""), syscall.EINVAL, nil, "", `storage: write "none" in "": the collection is empty: invalid argument`},
		{write("col", "", ""), syscall.EINVAL, nil, dir + "/col: Invalid argument", `storage: write "" in "col": the key is empty: invalid argument`},
		{write("12345", "none", ""), syscall.ENAMETOOLONG, nil, "", ""},
		{write("col", "12345", ""), syscall.ENAMETOOLONG, nil, "", ""},
		{write("col", "none", "", "a", "b", "c"), syscall.E2BIG, nil, "", ""},
		{write("col", "none", "", "a", ""), syscall.EINVAL, nil, "", ""},
		{write("col", "none", "", "a", "123456"), syscall.ENAMETOOLONG, nil, "", ""},
		{manyTags, syscall.E2BIG, nil, dir + "/col: Argument list too long", `storage: find in "col": 3 tags, the limit is 2: argument list too long`},
		{tooLate, syscall.ETIMEDOUT, context.DeadlineExceeded, "", ""},
		{closed.Remove(bg, "c", "k"), syscall.ECANCELED, ErrClosed, "", ""},
	} {
		var e *Error
		if !errors.As(tt.err, &e) {
			t.Errorf("%v is %T, want *Error", tt.err, tt.err)
			continue
		}
		if e.Errno() != tt.errno || tt.is != nil && !errors.Is(e, tt.is) {
			t.Errorf("%v: Errno() = %v, want %v and %v", e, e.Errno(), tt.errno, tt.is)
		}
		if tt.text != "" && e.Text() != tt.text {
			t.Errorf("Text() = %q, want %q", e.Text(), tt.text)
		}
		if tt.msg != "" && e.Error() != tt.msg {
			t.Errorf("Error() = %q, want %q", e.Error(), tt.msg)
		}
	}
	if err := write("1234", "1234", "123", "a", "12345"); err != nil {
		t.Errorf("a write at every limit: %v", err)
	}
}

func TestUnlimited(t *testing.T) {
	s := openAt(t, t.TempDir(), Config{MaxNameBytes: -1, MaxBlobBytes: -1, MaxTags: -1, MaxTagBytes: -1, MaxIndexBytes: -1, MaxConcurrent: -1})
	key, blob := strings.Repeat("k", 100<<10), bytes.Repeat([]byte("b"), 17<<20)
	var tags []string
	for i := range 100 {
		tags = append(tags, fmt.Sprintf("%02d", i)+strings.Repeat("t", 2000))
	}
	if err := s.Write(bg, key, key, blob, tags); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Read(bg, key, key); err != nil || !bytes.Equal(got, blob) {
		t.Errorf("Read() = %d bytes, %v", len(got), err)
	}
	if keys, err := s.Find(bg, key, tags); err != nil || len(keys) != 1 {
		t.Errorf("Find() = %d keys, %v", len(keys), err)
	}
}

// hardNames are bad as names of files.
var hardNames = []string{
	"a/../b", "../x", "..", ".", "/", "/etc/passwd", "a\x00b", "\x00", "\xff\xfe", "a", "A", "a.", "a ", " a", "CON", "con", "nul.txt",
	"COM1", "a:b", `a\b`, "é", "e\u0301", "lock", "tmp-1", "\n", "*", "-rf", idOf("c", "k").file(), "%00",
	strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat("/", 1024), strings.Repeat("\xf0\x9f\x98\x80", 256),
}

// TestNames: any bytes are a name, and none leaves the directory.
func TestNames(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "store")
	for round := range 2 { // the second finds what the first wrote
		s := openAt(t, dir, Config{})
		for i, n := range hardNames {
			if round == 0 {
				if err := s.Write(bg, n, "k", fmt.Append(nil, "c", i), []string{n}); err != nil {
					t.Errorf("Write(%q, k) = %v", n, err)
				}
				if err := s.Write(bg, "c", n, fmt.Append(nil, "k", i), []string{"t", n}); err != nil {
					t.Errorf("Write(c, %q) = %v", n, err)
				}
			}
		}
		for i, n := range hardNames {
			if got, err := s.Read(bg, n, "k"); string(got) != fmt.Sprint("c", i) {
				t.Errorf("Read(%q, k) = %q, %v", n, got, err)
			}
			if got, err := s.Read(bg, "c", n); string(got) != fmt.Sprint("k", i) {
				t.Errorf("Read(c, %q) = %q, %v", n, got, err)
			}
			if got, err := s.Find(bg, "c", []string{n}); !slices.Equal(got, []string{n}) {
				t.Errorf("Find(c, %q) = %q, %v", n, got, err)
			}
			if got, err := s.Find(bg, n, []string{n}); !slices.Equal(got, []string{"k"}) {
				t.Errorf("Find(%q, %q) = %q, %v", n, n, got, err)
			}
		}
		want := slices.Sorted(slices.Values(hardNames))
		if got, err := s.Find(bg, "c", []string{"t"}); !slices.Equal(got, want) {
			t.Errorf("Find(c, t) = %q, %v, want %q", got, err, want)
		}
		_ = s.Close()
	}
	above, _ := os.ReadDir(parent)
	inside, _ := os.ReadDir(dir)
	if len(above) != 1 || len(inside) != 2*len(hardNames)+1 {
		t.Errorf("%d files beside the store and %d in it, want 1 and %d", len(above), len(inside), 2*len(hardNames)+1)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, Config{})
	_, err := Open(dir, quiet)
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrLocked) || e.Errno() != syscall.EBUSY {
		t.Fatalf("Open() = %v, want ErrLocked", err)
	}
	if want := fmt.Sprintf("storage: open %q: in use by another store", dir); err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close() = %v", err)
	}
	openAt(t, dir, Config{})
}

// TestOpen has directories that are not as they should be.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", filepath.Join(dir, "none", "store"), file, file + "/store"} {
		var e *Error
		if s, err := Open(path, quiet); !errors.As(err, &e) || e.Op != "open" || s != nil {
			t.Errorf("Open(%q) = %v", path, err)
		}
	}
	// Files of others, and directories, are let be; what a crash left is swept.
	store := filepath.Join(dir, "store")
	s := openAt(t, store, Config{})
	_ = s.Close()
	for _, name := range []string{"README", "cap", tempPrefix + "7", tempPrefix + "8"} {
		if err := os.WriteFile(filepath.Join(store, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	odd := filepath.Join(store, idOf("c", "k").file())
	if err := os.Mkdir(odd, 0o700); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, store, Config{})
	if st := s.Stats(); st.Swept != 2 || st.Corrupt != 1 {
		t.Errorf("Stats() = %+v, want 2 swept and 1 corrupt", st)
	}
	var names []string
	entries, _ := os.ReadDir(store)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	if want := []string{"README", "cap", filepath.Base(odd), "lock"}; !slices.Equal(names, want) {
		t.Errorf("directory has %q, want %q", names, want)
	}
	// It is an error to those who want that key, with the system's number.
	var e *Error
	if _, err := s.Read(bg, "c", "k"); !errors.As(err, &e) || e.Errno() != syscall.EISDIR {
		t.Errorf("Read() = %v, want EISDIR", err)
	}
	if err := s.Write(bg, "c", "k", nil, nil); !errors.As(err, &e) || e.Errno() != syscall.EISDIR && e.Errno() != syscall.EEXIST {
		t.Errorf("Write() = %v, want EISDIR", err)
	}
}

// damages are what can happen to a record behind the store's back, by the key that it
// happens to.
var damages = map[string]func(b []byte) []byte{
	"whole": func(b []byte) []byte { return b },
	"head":  func(b []byte) []byte { return flip(b, 10) },
	"names": func(b []byte) []byte { return flip(b, headerSize+5) },
	"blob":  func(b []byte) []byte { return flip(b, len(b)-1) },
	"cut":   func(b []byte) []byte { return b[:len(b)-1] },
	"long":  func(b []byte) []byte { return append(b, 0) },
	"empty": func([]byte) []byte { return nil },
	"moved": func([]byte) []byte {
		blob := []byte("the blob")
		return append(newRecord("c", "other", []string{"t"}).appendHead(nil, blob), blob...)
	},
}

func flip(b []byte, at int) []byte { b[at] ^= 4; return b }

// wantDamaged reads all keys of damages: one is whole.
func wantDamaged(t *testing.T, s *Store) {
	t.Helper()
	for key := range damages {
		blob, err := s.Read(bg, "c", key)
		var e *Error
		if key == "whole" {
			if err != nil || string(blob) != "the blob" {
				t.Errorf("Read(%s) = %q, %v", key, blob, err)
			}
		} else if !errors.Is(err, ErrCorrupt) || !errors.As(err, &e) || e.Errno() != syscall.EIO || blob != nil {
			t.Errorf("Read(%s) = %q, %v, want ErrCorrupt", key, blob, err)
		}
	}
	if got := s.Stats().CorruptReads; got != uint64(len(damages)-1) {
		t.Errorf("Stats().CorruptReads = %d, want %d", got, len(damages)-1)
	}
}

// TestCorrupt damages records while a store is open, and opens it again.
func TestCorrupt(t *testing.T) {
	dir := t.TempDir()
	var logged bytes.Buffer
	wantLines := func(n int) {
		t.Helper()
		if got := strings.Count(logged.String(), "level=ERROR"); got != n {
			t.Errorf("%d lines were logged, want %d:\n%s", got, n, &logged)
		}
	}
	cfg := Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))}
	s := openAt(t, dir, cfg)
	for key, damage := range damages {
		if err := s.Write(bg, "c", key, []byte("the blob"), []string{"t"}); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, idOf("c", key).file())
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, damage(b), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	wantDamaged(t, s)
	wantLines(1) // in one second
	_ = s.Close()
	logged.Reset()
	s = openAt(t, dir, cfg)
	if got := s.Stats(); got.Corrupt != 6 || got.IndexKeys != 2 { // the damaged blob has not been read
		t.Errorf("Stats() = %+v, want 6 corrupt and 2 keys", got)
	}
	wantLines(6)
	wantDamaged(t, s)
	for i, key := range slices.Sorted(maps.Keys(damages)) {
		if err := s.Remove(bg, "c", key); err != nil {
			t.Errorf("Remove(%s) = %v", key, err)
		}
		if i%2 == 0 {
			if err := s.Write(bg, "c", key, []byte("new"), nil); err != nil {
				t.Errorf("Write(%s) = %v", key, err)
			}
		}
	}
	_ = s.Close()
	if got := openAt(t, dir, cfg).Stats().Corrupt; got != 0 {
		t.Errorf("Stats().Corrupt = %d after all was written or removed", got)
	}
}

// TestOldRecord opens a directory that version 1 wrote.
func TestOldRecord(t *testing.T) {
	dir := t.TempDir()
	b, _ := hex.DecodeString(formatRecord)
	if err := os.WriteFile(filepath.Join(dir, formatFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, dir, Config{})
	if got := observe(t, s, name{"cap", "k"}); got != (value{true, "blob", "a b"}) {
		t.Errorf("it has %v", got)
	}
}
