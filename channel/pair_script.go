package channel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

const defaultPairCapacity = 64 << 10

// A Script says how a [Pair] behaves. The zero value is a perfect link.
type Script struct {
	AtoB, BtoA Path
}

// A Path is one direction of a Pair. Offsets count the bytes that were delivered, that
// is read, in this direction. What stops delivery holds back the end of the stream too.
type Path struct {
	// CapacityBytes is how much is written and not yet read before a writer waits. If
	// zero, 64 KiB. If negative, no limit.
	CapacityBytes int
	// Latency passes before a written byte, or a close, is seen at the other end.
	Latency time.Duration
	// SliceBytes are the most that successive reads get, over and over. A zero is a
	// read without limit.
	SliceBytes []int
	// Stalls are times without delivery, in any order. Those at one offset follow one
	// another.
	Stalls []Stall
	// Cut ends the link. A stall at the same offset comes first.
	Cut Cut
}

// A Stall stops delivery when At bytes were delivered, from that moment (for the first
// byte: from the making of the pair) and For that long. If For is negative, for ever.
type Stall struct {
	At  int64
	For time.Duration
}

// A Cut ends a path, or the link, when exactly At bytes were delivered on the path,
// whatever was written.
type Cut struct {
	Kind CutKind
	At   int64
}

// CutKind is what happens at a Cut.
type CutKind uint8

// The kinds of cut.
const (
	NoCut  CutKind = iota
	CutFIN         // the reading end gets io.EOF; what the other end still writes fills the path
	CutRST         // both ends get syscall.ECONNRESET at once, and unread bytes are lost
)

var cutNames = [...]string{"none", "fin", "rst"}

// String returns "none", "fin" or "rst".
func (k CutKind) String() string {
	if int(k) < len(cutNames) {
		return cutNames[k]
	}
	return fmt.Sprintf("CutKind(%d)", uint8(k))
}

// String returns the script in the form that [ParseScript] reads.
func (s Script) String() string {
	var parts []string
	if t := s.AtoB.String(); t != "" {
		parts = append(parts, "a>b "+t)
	}
	if t := s.BtoA.String(); t != "" {
		parts = append(parts, "b>a "+t)
	}
	return strings.Join(parts, " ")
}

// String returns the settings of the path that are not zero, e.g.
// "capacity=1024 latency=5ms".
func (p Path) String() string {
	var b strings.Builder
	set := func(key, value string) { b.WriteString(" " + key + "=" + value) }
	if p.CapacityBytes != 0 {
		set("capacity", strconv.Itoa(p.CapacityBytes))
	}
	if p.Latency != 0 {
		set("latency", p.Latency.String())
	}
	for i, n := range p.SliceBytes {
		if i == 0 {
			set("slice", strconv.Itoa(n))
			continue
		}
		b.WriteString("," + strconv.Itoa(n))
	}
	for _, st := range p.Stalls {
		lasting := "forever"
		if st.For >= 0 {
			lasting = st.For.String()
		}
		set("stall", fmt.Sprintf("%d:%s", st.At, lasting))
	}
	if p.Cut.Kind != NoCut {
		set("cut", fmt.Sprintf("%d:%v", p.Cut.At, p.Cut.Kind))
	}
	return strings.TrimPrefix(b.String(), " ")
}

// ParseScript reads a script from words. "a>b", "b>a" or "a<>b" (both) says which
// paths the settings after it are for:
//
//	a>b capacity=1024 latency=5ms slice=1,7,1448 stall=4096:2s stall=8192:forever
//	b>a cut=100:rst
//
// A capacity of -1 is no limit. Stalls add up, every other setting replaces the one
// before. Line ends are white space.
func ParseScript(text string) (Script, error) {
	var s Script
	var paths []*Path
	for word := range strings.FieldsSeq(text) {
		switch word {
		case "a>b":
			paths = []*Path{&s.AtoB}
			continue
		case "b>a":
			paths = []*Path{&s.BtoA}
			continue
		case "a<>b":
			paths = []*Path{&s.AtoB, &s.BtoA}
			continue
		}
		if paths == nil {
			return Script{}, fmt.Errorf("script: %q stands before a>b, b>a or a<>b", word)
		}
		for _, p := range paths {
			if err := p.parse(word); err != nil {
				return Script{}, fmt.Errorf("script: %q: %w", word, err)
			}
		}
	}
	return s, nil
}

var errNegative = errors.New("negative")

// parse adds one key=value.
func (p *Path) parse(word string) (err error) {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "capacity":
		p.CapacityBytes, err = strconv.Atoi(value)
	case "latency":
		p.Latency, err = parseDelay(value)
	case "slice":
		p.SliceBytes = nil
		for size := range strings.SplitSeq(value, ",") {
			n, err := strconv.ParseUint(size, 10, 31)
			if err != nil {
				return err
			}
			p.SliceBytes = append(p.SliceBytes, int(n))
		}
	case "stall":
		st := Stall{For: -1}
		at, lasting, _ := strings.Cut(value, ":")
		if st.At, err = parseOffset(at); err == nil && lasting != "forever" {
			st.For, err = parseDelay(lasting)
		}
		p.Stalls = append(p.Stalls, st)
	case "cut":
		at, kind, _ := strings.Cut(value, ":")
		p.Cut.At, err = parseOffset(at)
		i := slices.Index(cutNames[:], kind)
		if i <= int(NoCut) {
			return errors.New("want OFFSET:fin or OFFSET:rst")
		}
		p.Cut.Kind = CutKind(i)
	default:
		return errors.New("want capacity, latency, slice, stall or cut, then = and a value")
	}
	return err
}

func parseOffset(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err
}

func parseDelay(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = errNegative
	}
	return d, err
}

// RandomScript draws a script from a seed, always the same one for the same seed. In
// each direction half of the scripts have latency (up to 50 ms), half slices, a quarter
// stalls (up to 5 s, few of them for ever) and a quarter a cut. Small offsets and
// capacities are as likely as large ones, up to 64 KiB.
func RandomScript(seed uint64) Script {
	r := rand.New(rand.NewPCG(seed, 0))
	return Script{AtoB: randomPath(r), BtoA: randomPath(r)}
}

func randomPath(r *rand.Rand) Path {
	var p Path
	scaled := func() int64 { return r.Int64N(1 << r.IntN(17)) }
	oneIn := func(n int) bool { return r.IntN(n) == 0 }
	if oneIn(2) {
		p.CapacityBytes = 1 + int(scaled())
	}
	if oneIn(2) {
		p.Latency = time.Duration(r.Int64N(int64(50 * time.Millisecond)))
	}
	if oneIn(2) {
		for range 1 + r.IntN(4) {
			p.SliceBytes = append(p.SliceBytes, int(r.Int64N(1<<r.IntN(12))))
		}
	}
	if oneIn(4) {
		for range 1 + r.IntN(2) {
			st := Stall{At: scaled(), For: time.Duration(r.Int64N(int64(5 * time.Second)))}
			if oneIn(16) {
				st.For = -1
			}
			p.Stalls = append(p.Stalls, st)
		}
	}
	if oneIn(4) {
		p.Cut = Cut{Kind: CutFIN + CutKind(r.IntN(2)), At: scaled()}
	}
	return p
}
