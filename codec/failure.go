package codec

// DecodeError reads the arguments of an error frame. Peers of different age send
// [[category, code], reason], [[category, code]], [code, reason] and [code]; the
// last two have category 0. The reason is borrowed, and nil if there is none.
// Anything else is not ok, with zeros: the session has failed all the same, but
// nobody knows why.
func DecodeError(m *Message) (category, code int64, message []byte, ok bool) {
	r := m.Reader()
	if r.Peek() == ArrayValue {
		if r.ArrayLen() != 2 {
			return 0, 0, nil, false
		}
		category = r.Int64()
	}
	code = r.Int64()
	if r.Len() > 0 {
		message = r.Bytes()
	}
	if r.err != nil || r.Len() > 0 {
		return 0, 0, nil, false
	}
	return category, code, message, true
}
