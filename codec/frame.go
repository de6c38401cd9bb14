package codec

import "strconv"

// Kind says what a Frame to be sent is, and with that which of its fields count.
type Kind uint8

// The kinds of frames. The zero Kind is none of them.
const (
	KindHandshake Kind = iota + 1 // Text: the uuid of the worker
	KindHeartbeat                 //
	KindTerminate                 // Code, Text: the reason
	KindInvoke                    // Session, Text: the event
	KindChunk                     // Session, Payload; in V1 a write
	KindError                     // Session, Category (V1 only), Code, Text: the reason
	KindChoke                     // Session; in V1 a close
	KindCall                      // Session, Type, Args
)

var kindNames = [...]string{
	KindHandshake: "handshake",
	KindHeartbeat: "heartbeat",
	KindTerminate: "terminate",
	KindInvoke:    "invoke",
	KindChunk:     "chunk",
	KindError:     "error",
	KindChoke:     "choke",
	KindCall:      "call",
}

// String returns the name of the kind, for example "invoke".
func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return "Kind(" + strconv.Itoa(int(k)) + ")"
	}
	return kindNames[k]
}

// Frame describes one frame to be sent. Kind says which fields count; the others
// are ignored. A Frame that is encoded is not kept and not changed.
type Frame struct {
	Kind     Kind
	Session  uint64   // ignored for handshake, heartbeat and terminate (0 in V0, 1 in V1)
	Type     uint64   // call: the number of the method or message, 0..2^32-1
	Payload  []byte   // chunk: the data, may be empty
	Text     string   // handshake: uuid; terminate, error: reason; invoke: event
	Category int64    // error, V1 only
	Code     int64    // terminate, error
	Args     []byte   // call: a whole encoded argument array, as of Args; nil is the empty one
	Headers  []Header // any kind, V1 only; V0 has none
}

// frameOverhead is more than a frame takes beside its strings, arguments and
// headers: 7 heads of arrays and strings of 5 bytes, 4 numbers of 9 bytes.
const frameOverhead = 7*5 + 4*9

// headerOverhead is more than a header takes beside name and value.
const headerOverhead = 1 + 1 + 2*5

// MaxSize returns a number of bytes that the encoded frame does not exceed, in
// either dialect. It is cheap, for the reservation of budgets; fields that do not
// count for the kind are counted.
func (f *Frame) MaxSize() int {
	n := frameOverhead + len(f.Payload) + len(f.Text) + len(f.Args)
	for i := range f.Headers {
		n += headerOverhead + len(f.Headers[i].Name) + len(f.Headers[i].Value)
	}
	return n
}

// AppendFrame appends f in dialect d, and copies all that it refers to. Shapes and
// numbers are those of the C++ runtime, but a frame without headers says so with
// an empty array where that runtime sends a trace of zeros. It does not allocate
// if dst has room for f.MaxSize bytes.
//
// The caller keeps sizes within what the peer accepts. AppendFrame panics on a Kind
// that does not exist, and on strings of more than 2^32-1 bytes.
func AppendFrame(dst []byte, d Dialect, f *Frame) []byte {
	switch f.Kind {
	case KindHandshake:
		dst = appendFrameHead(dst, d, controlSession(d), typeIn(d, V0Handshake, V1Handshake))
		dst = AppendString(append(dst, 0x91), f.Text)
	case KindHeartbeat:
		dst = appendFrameHead(dst, d, controlSession(d), typeIn(d, V0Heartbeat, V1Heartbeat))
		dst = append(dst, 0x90)
	case KindTerminate:
		dst = appendFrameHead(dst, d, controlSession(d), typeIn(d, V0Terminate, V1Terminate))
		dst = AppendString(AppendInt(append(dst, 0x92), f.Code), f.Text)
	case KindInvoke:
		dst = appendFrameHead(dst, d, f.Session, typeIn(d, V0Invoke, V1Invoke))
		dst = AppendString(append(dst, 0x91), f.Text)
	case KindChunk:
		dst = append(AppendChunkHead(dst, d, f.Session, len(f.Payload)), f.Payload...)
	case KindError:
		dst = appendFrameHead(dst, d, f.Session, typeIn(d, V0Error, V1Error))
		dst = append(dst, 0x92)
		if d != V0 {
			dst = AppendInt(append(dst, 0x92), f.Category)
		}
		dst = AppendString(AppendInt(dst, f.Code), f.Text)
	case KindChoke:
		dst = appendFrameHead(dst, d, f.Session, typeIn(d, V0Choke, V1Close))
		dst = append(dst, 0x90)
	case KindCall:
		dst = appendFrameHead(dst, d, f.Session, f.Type)
		if f.Args == nil {
			dst = append(dst, 0x90)
		} else {
			dst = append(dst, f.Args...)
		}
	default:
		panic("codec: no frame of " + f.Kind.String())
	}
	return AppendFrameTail(dst, d, f.Headers)
}

// AppendChunkHead appends what comes before the n bytes of data in a chunk (V1: a
// write), for a caller who sends large data from where it lies. After the data
// comes AppendFrameTail. Both together are what AppendFrame appends.
func AppendChunkHead(dst []byte, d Dialect, session uint64, n int) []byte {
	dst = appendFrameHead(dst, d, session, typeIn(d, V0Chunk, V1Write))
	return appendRawHead(append(dst, 0x91), n)
}

// AppendFrameTail appends what comes behind the arguments of a frame: in V1 the
// headers, 90 if there are none; in V0 nothing.
func AppendFrameTail(dst []byte, d Dialect, headers []Header) []byte {
	if d == V0 {
		return dst
	}
	dst = AppendArrayHeader(dst, len(headers))
	for i := range headers {
		dst = append(dst, 0x93, 0xc2)
		dst = AppendRaw(dst, headers[i].Name)
		dst = AppendRaw(dst, headers[i].Value)
	}
	return dst
}

// appendFrameHead appends what comes before the arguments.
func appendFrameHead(dst []byte, d Dialect, session, typ uint64) []byte {
	if d == V0 {
		return AppendUint(AppendUint(append(dst, 0x93), typ), session)
	}
	return AppendUint(AppendUint(append(dst, 0x94), session), typ)
}

// controlSession returns the session that stands for the connection itself.
func controlSession(d Dialect) uint64 { return typeIn(d, 0, V1ControlSession) }

// typeIn returns the message type in dialect d.
func typeIn(d Dialect, v0, v1 uint64) uint64 {
	if d == V0 {
		return v0
	}
	return v1
}
