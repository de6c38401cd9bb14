package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
)

const (
	magic      = "sluiceS"
	version    = 1
	headerSize = 32
	recordExt  = ".rec"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// recordID is what a key's file is named for.
type recordID [sha256.Size]byte

func idOf(collection, key string) recordID {
	b := make([]byte, 0, 128)
	b = appendString(b, collection)
	b = append(b, key...)
	return sha256.Sum256(b)
}

// file returns the name of the record's file.
func (id recordID) file() string { return hex.EncodeToString(id[:]) + recordExt }

// isRecord reports whether a file has a name that recordID.file makes.
func isRecord(file string) bool {
	digits, ok := strings.CutSuffix(file, recordExt)
	return ok && len(digits) == hex.EncodedLen(sha256.Size) && strings.Trim(digits, "0123456789abcdef") == ""
}

// record is what a file holds besides its blob.
type record struct {
	collection, key string
	tags            []string // sorted, each once, in a file
}

// sortTags has the tags be as they are in a file. Its slice is a new one.
func (r *record) sortTags() {
	r.tags = slices.Clone(r.tags)
	slices.Sort(r.tags)
	r.tags = slices.Compact(r.tags)
}

// namesLen returns the length of what appendHead adds after the header.
func (r *record) namesLen() int {
	n := 4 + len(r.collection) + 4 + len(r.key) + 4
	for _, tag := range r.tags {
		n += 4 + len(tag)
	}
	return n
}

// appendHead appends all that comes before the blob.
func (r *record) appendHead(dst, blob []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, headerSize)...)
	dst = appendString(dst, r.collection)
	dst = appendString(dst, r.key)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.tags)))
	for _, tag := range r.tags {
		dst = appendString(dst, tag)
	}
	names := dst[start+headerSize:]
	b := append(dst[:start], magic...)
	b = append(b, version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(names)))
	b = binary.BigEndian.AppendUint64(b, uint64(len(blob)))
	b = binary.BigEndian.AppendUint32(b, checksum(names))
	b = binary.BigEndian.AppendUint32(b, checksum(blob))
	binary.BigEndian.AppendUint32(b, checksum(b[start:]))
	return dst
}

func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// header is the fixed part of a file. Its lengths add up to the size of the file.
type header struct {
	namesLen, blobLen int
	namesSum, blobSum uint32
}

// parseHeader checks the header of a file of a size. All it returns can be believed.
func parseHeader(b *[headerSize]byte, size int64) (header, error) {
	const end = headerSize - 4
	switch {
	case string(b[:len(magic)]) != magic:
		return header{}, corrupt("it does not begin as a record does")
	case b[len(magic)] != version:
		return header{}, corrupt(fmt.Sprintf("its version is %d, not %d", b[len(magic)], version))
	case binary.BigEndian.Uint32(b[end:]) != checksum(b[:end]):
		return header{}, corrupt("the header's checksum is wrong")
	}
	names, blob := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint64(b[12:])
	// rest - names does not overflow, whatever the two are.
	if rest := size - headerSize; rest < int64(names) || uint64(rest-int64(names)) != blob || int64(int(rest)) != rest {
		return header{}, corrupt(fmt.Sprintf("a header for %d and %d bytes in a file of %d", names, blob, size))
	}
	return header{
		namesLen: int(names), blobLen: int(blob),
		namesSum: binary.BigEndian.Uint32(b[20:]), blobSum: binary.BigEndian.Uint32(b[24:]),
	}, nil
}

// parseNames returns the record that a file begins with; it keeps nothing of b.
func (h header) parseNames(b []byte) (*record, error) {
	if checksum(b) != h.namesSum {
		return nil, corrupt("the checksum of its names is wrong")
	}
	r := new(record)
	p := parser{rest: b}
	r.collection, r.key = p.string(), p.string()
	count := p.uint32()
	for ; count > 0 && !p.short; count-- {
		r.tags = append(r.tags, p.string())
	}
	if p.short || len(p.rest) > 0 {
		return nil, corrupt("its names have another length")
	}
	return r, nil
}

// checkBlob compares a blob with its checksum.
func (h header) checkBlob(b []byte) error {
	if checksum(b) != h.blobSum {
		return corrupt("the blob's checksum is wrong")
	}
	return nil
}

// parser takes values off the front of rest. Once it is short of bytes it stays so and
// returns zeros.
type parser struct {
	rest  []byte
	short bool
}

func (p *parser) take(n uint32) []byte {
	if p.short || uint64(len(p.rest)) < uint64(n) {
		p.short = true
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) uint32() uint32 {
	b := p.take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (p *parser) string() string { return string(p.take(p.uint32())) }
