package compress

import "fmt"

// Reason is why a chunk was not decoded. Count by it.
type Reason uint8

const (
	// Corrupt is bytes that are not an encoded form: damaged, cut short, of a length other than declared, without a
	// declared length, or made with a dictionary.
	Corrupt Reason = iota + 1
	// TooLarge is a declared length over [Limits.MaxOutputBytes].
	TooLarge
	// Ratio is a declared length over [Limits.MaxRatio] times the encoded one.
	Ratio
	// UnknownAlgorithm is an algorithm that this package does not have.
	UnknownAlgorithm
)

// String returns the reason as a word for counters: "corrupt", "too_large", "ratio" or "unknown_algorithm".
func (r Reason) String() string {
	switch r {
	case Corrupt:
		return "corrupt"
	case TooLarge:
		return "too_large"
	case Ratio:
		return "ratio"
	case UnknownAlgorithm:
		return "unknown_algorithm"
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Error is why one chunk was not decoded. The decoder stays usable: what the chunk's session or channel makes of it is
// the caller's affair.
type Error struct {
	// Algorithm is the one that the chunk was said to be encoded with.
	Algorithm Algorithm
	// Reason is why it was refused.
	Reason Reason
	// EncodedBytes is the chunk's length as it came.
	EncodedBytes int
	// DeclaredBytes is the decoded length that it declares, where that was read.
	DeclaredBytes uint64
	// Err is the library's error, if it gave one.
	Err error
}

// Error says what was refused and why.
func (e *Error) Error() string {
	s := fmt.Sprintf("compress: %v: %v: %d bytes, %d declared", e.Algorithm, e.Reason, e.EncodedBytes, e.DeclaredBytes)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the library's error, or nil.
func (e *Error) Unwrap() error { return e.Err }
