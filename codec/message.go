package codec

// Message is one decoded frame. Its slices are borrowed: they lie in the buffer
// that was given to Scanner.Next, are good for as long as that is, and cannot be
// appended to in place (their capacity is their length).
type Message struct {
	// Session is the number of the conversation; 0 (V0) or 1 (V1) for the
	// connection itself.
	Session uint64
	// Type is the message or method number, 0..2^32-1.
	Type uint64
	// Args is the argument array as it lies, with its array header. Every value in
	// it is whole and well formed.
	Args []byte
	// NumArgs is the number of arguments.
	NumArgs int
	// Payload is the bytes of the first argument if that is a raw, str or bin
	// value (not nil then, even if empty), else nil.
	Payload []byte
	// Headers is the header array as it lies, for HeaderDecoder.Decode; nil if it
	// is missing, nil or empty, and always in V0.
	Headers []byte
	// Extra is the number of elements behind those that the dialect knows. They
	// were skipped.
	Extra int
}

// Reader returns a Reader at the first argument.
func (m *Message) Reader() Reader { return NewReader(m.Args) }

// Clone returns a copy of m that borrows nothing.
func (m *Message) Clone() Message {
	c := *m
	own := make([]byte, 0, len(m.Args)+len(m.Headers))
	own = append(append(own, m.Args...), m.Headers...)
	c.Args = cut(own, 0, len(m.Args))
	if m.Headers != nil {
		c.Headers = cut(own, len(m.Args), len(own))
	}
	if m.Payload != nil {
		r := c.Reader()
		c.Payload = r.Bytes()
	}
	return c
}

// Reset empties m, so that it holds on to no buffer.
func (m *Message) Reset() { *m = Message{} }

// cut returns b[from:to] with no capacity beyond.
func cut(b []byte, from, to int) []byte { return b[from:to:to] }
