package compress

import "fmt"

// Algorithm is how a chunk was encoded. The values may be sent to a peer: they do not change.
type Algorithm uint8

const (
	// None is plain bytes.
	None Algorithm = 0
	// S2 is an S2 block, which begins with the decoded length and has no checksum. Snappy blocks are S2 blocks.
	S2 Algorithm = 1
	// Zstd is one Zstandard frame (RFC 8878) with Frame_Content_Size and without Dictionary_ID.
	Zstd Algorithm = 2
)

// String returns the algorithm's name in lower case, and the number of one that has none.
func (a Algorithm) String() string {
	switch a {
	case None:
		return "none"
	case S2:
		return "s2"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("algorithm(%d)", uint8(a))
}
