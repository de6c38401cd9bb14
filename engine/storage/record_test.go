package storage

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// What version 1 wrote must be readable for ever.
const (
	formatRecord = "736c756963655301" + "0000001a" + "0000000000000004" + "4f67b30c" + "ec350e56" + "fb1a8718" +
		"00000003" + "636170" + "00000001" + "6b" + "00000002" + "00000001" + "61" + "00000001" + "62" +
		"626c6f62"
	formatFile = "adeb8382cc24f4f6dd624f5bf35db8296a1e19863c3e6101120544ae1a489b7c.rec"
)

func TestFormat(t *testing.T) {
	r := newRecord("cap", "k", []string{"b", "a", "b"})
	got := append(r.appendHead(nil, []byte("blob")), "blob"...)
	if hex.EncodeToString(got) != formatRecord {
		t.Errorf("record = %x, want %s", got, formatRecord)
	}
	if got := idOf("cap", "k").file(); got != formatFile {
		t.Errorf("file = %q, want %q", got, formatFile)
	}
}

// newRecord returns a record as it is in a file.
func newRecord(collection, key string, tags []string) *record {
	r := &record{collection, key, tags}
	r.sortTags()
	return r
}

// parse parses a whole file.
func parse(b []byte) (*record, []byte, error) {
	if len(b) < headerSize {
		return nil, nil, corrupt("short")
	}
	h, err := parseHeader((*[headerSize]byte)(b), int64(len(b)))
	if err != nil {
		return nil, nil, err
	}
	r, err := h.parseNames(b[headerSize : headerSize+h.namesLen])
	if err != nil {
		return nil, nil, err
	}
	blob := b[headerSize+h.namesLen:]
	return r, blob, h.checkBlob(blob)
}

// TestDamage changes every bit of a record, and its length.
func TestDamage(t *testing.T) {
	blob := []byte("some blob")
	whole := append(newRecord("c", "key", []string{"t", "u"}).appendHead(nil, blob), blob...)
	if _, got, err := parse(whole); err != nil || !bytes.Equal(got, blob) {
		t.Fatalf("parse = %q, %v", got, err)
	}
	for bit := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		if _, _, err := parse(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d of byte %d turned: %v, want ErrCorrupt", bit%8, bit/8, err)
		}
	}
	for n := range len(whole) {
		if _, _, err := parse(whole[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v, want ErrCorrupt", n, err)
		}
	}
	if _, _, err := parse(append(whole, 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte more: %v, want ErrCorrupt", err)
	}
}

// TestHugeLengths has headers that are whole and lie.
func TestHugeLengths(t *testing.T) {
	for _, names := range []uint32{0, 1, 12, 13, math.MaxInt32, math.MaxUint32} {
		for _, blob := range []uint64{0, 1, math.MaxUint32, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64 - 43, math.MaxUint64} {
			b := sealed(make([]byte, 12), names, blob+12-uint64(names))
			_, _, err := parse(b)
			if want := names == 12 && blob == 0; (err == nil) != want { // the sum is right as soon as blob is 0
				t.Errorf("header of %d and %d bytes: %v", names, blob, err)
			}
		}
	}
	for _, size := range []int64{0, headerSize - 1, math.MaxInt64} {
		if _, err := parseHeader((*[headerSize]byte)(sealed(nil, 0, 0)), size); !errors.Is(err, ErrCorrupt) {
			t.Errorf("parseHeader of a file of %d = %v, want ErrCorrupt", size, err)
		}
	}
}

// sealed returns names behind a header with any lengths and the right checksums.
func sealed(names []byte, namesLen uint32, blobLen uint64) []byte {
	b := (&record{}).appendHead(nil, nil)[:headerSize]
	put := func(at, n int, v uint64) {
		for i := range n {
			b[at+i] = byte(v >> (8 * (n - 1 - i)))
		}
	}
	put(8, 4, uint64(namesLen))
	put(12, 8, blobLen)
	put(20, 4, uint64(checksum(names)))
	put(28, 4, uint64(checksum(b[:28])))
	return append(b, names...)
}

func TestIDs(t *testing.T) {
	files := make(map[string]name)
	for _, n := range []name{
		{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"", "abc"}, {"A", "bc"}, {"a", "bC"},
		{"a/b", "c"}, {"a", "b/c"}, {"\x00\x00\x00\x01a", ""}, {"", "\x00\x00\x00\x01a"},
	} {
		file := idOf(n.collection, n.key).file()
		if !isRecord(file) {
			t.Errorf("isRecord(%q) is false", file)
		}
		if other, ok := files[file]; ok {
			t.Errorf("%q and %q have one file", n, other)
		}
		files[file] = n
	}
	hash := strings.Repeat("0f", 32)
	for _, file := range []string{"", ".rec", "lock", "tmp-1", hash, hash + ".REC", hash[1:] + ".rec", "F" + hash[1:] + ".rec", "/" + hash[1:] + ".rec"} {
		if isRecord(file) {
			t.Errorf("isRecord(%q) is true", file)
		}
	}
}

// FuzzRecord has any bytes be a file, and be the names of one that is otherwise whole.
func FuzzRecord(f *testing.F) {
	for _, r := range []*record{newRecord("c", "k", nil), newRecord("\x00", "\xff/..", []string{"a", "", "b"})} {
		head := r.appendHead(nil, []byte("blob"))
		f.Add(append(head, "blob"...))
		f.Add(head[headerSize:])
		f.Add(append(head[headerSize:], 0))
	}
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, b := range [][]byte{data, sealed(data, uint32(len(data)), 0)} {
			r, blob, err := parse(b)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("error %v is not ErrCorrupt", err)
				}
				continue
			}
			again := append(r.appendHead(nil, blob), blob...)
			if !bytes.Equal(again, b) {
				t.Fatalf("%x was parsed, and made again is %x", b, again)
			}
			if r2, _, err := parse(again); err != nil || !reflect.DeepEqual(r, r2) {
				t.Fatalf("%+v, %v, want %+v", r2, err, r)
			}
		}
	})
}
