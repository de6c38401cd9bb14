package codec

import "math/bits"

// Most traffic has one shape:
//
//	93|94 session type 90               no arguments
//	93|94 session type 91 raw           one string
//
// followed in V1 by no headers, by the empty array, or by a trace of zeros. For
// that Scanner.Next is written, with what is here; the rest of Scanner reads
// everything else, several times slower.

// What the limits must leave room for: the values of the richest frame of that
// shape, and their depth.
const (
	plainElements = 4 + 1 + 3 + 9
	plainDepth    = 3
)

// plainWindow is how many bytes must be there to begin with: at most 7 in front of
// the arguments, and more than the head of a string behind.
const plainWindow = 16

// plainV0 returns the session of a frame in V0 whose first 8 bytes are lead, and
// what begins with the arguments; nil if it has another shape.
func plainV0(lead uint64, buf []byte) (session uint64, args []byte) {
	switch {
	case lead&0xfe_0000_ff_80_ff == 0x90_0000_cd_00_00:
		return uint64(bits.ReverseBytes16(uint16(lead >> 24))), buf[5:]
	case lead&0xfe_80_80_ff == 0x90_00_00_00:
		return lead >> 16 & 0xff, buf[3:]
	case lead&0xfe_00_ff_80_ff == 0x90_00_cc_00_00:
		return lead >> 24 & 0xff, buf[4:]
	case lead&0xfe_00000000_ff_80_ff == 0x90_00000000_ce_00_00:
		return uint64(bits.ReverseBytes32(uint32(lead >> 24))), buf[7:]
	}
	return 0, nil
}

// plainV1 is plainV0 for V1, but returns what begins with the type.
func plainV1(lead uint64, buf []byte) (session uint64, rest []byte) {
	switch {
	case lead&0xfe_80_0000_ff_fe == 0x90_00_0000_cd_00:
		return uint64(bits.ReverseBytes16(uint16(lead >> 16))), buf[4:]
	case lead&0xfe_80_80_fe == 0x90_00_00_00:
		return lead >> 8 & 0xff, buf[2:]
	case lead&0xfe_80_00_ff_fe == 0x90_00_00_cc_00:
		return lead >> 16 & 0xff, buf[3:]
	case lead&0xfe_80_00000000_ff_fe == 0x90_00_00000000_ce_00:
		return uint64(bits.ReverseBytes32(uint32(lead >> 16))), buf[6:]
	}
	return 0, nil
}

// plainRest is the rest of Next for a frame without arguments, or with a trace of
// zeros. The arguments are args[:end], the payload is args[from:end], unless from
// is 0.
func (s *Scanner) plainRest(buf, args []byte, from, end uint, m *Message) (int, error) {
	size := uint(len(buf)-len(args)) + end
	m.Headers = nil
	if buf[0] == 0x94 {
		switch h := args[end:]; {
		case len(h) > 0 && h[0] == 0x90:
			size++
		case len(h) >= len(noTrace) && string(h[:len(noTrace)]) == noTrace:
			size += uint(len(noTrace))
			m.Headers = cut(h, 0, len(noTrace))
		default:
			return s.general(buf, m)
		}
	}
	if size > s.plainMax {
		return s.general(buf, m)
	}
	m.NumArgs, m.Payload = 0, nil
	if from > 0 {
		m.NumArgs, m.Payload = 1, args[from:end:end]
	}
	m.Extra = 0
	m.Args = args[:end:end]
	s.offset += int64(size)
	return int(size), nil
}
