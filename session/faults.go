package session

import "strings"

const (
	faultsAtOnce    = 16      // errors that are made with one allocation
	faultTextAtOnce = 1 << 10 // bytes of their texts that are
	faultTextShort  = 256     // an error with a longer text shares nothing
)

// faults makes the errors that a peer sends, so that those of many sessions cost no
// allocation each: they share one with their neighbours. Whoever keeps one keeps these, a
// few KiB, from the collector. Owned by the loop.
type faults struct {
	list []Error         // still to be handed out
	text strings.Builder // never more than its capacity: what it gave out stays where it is
}

// remote returns the error of a peer. message is copied.
func (f *faults) remote(category, code int64, message []byte) *Error {
	if len(message) > faultTextShort {
		return &Error{Category: category, Code: code, Message: string(message), Remote: true}
	}
	if len(f.list) == 0 {
		f.list = make([]Error, faultsAtOnce)
	}
	e := &f.list[0]
	f.list = f.list[1:]
	*e = Error{Category: category, Code: code, Message: f.keep(message), Remote: true}
	return e
}

func (f *faults) keep(p []byte) string {
	if f.text.Cap()-f.text.Len() < len(p) {
		f.text.Reset()
		f.text.Grow(faultTextAtOnce)
	}
	from := f.text.Len()
	f.text.Write(p)
	return f.text.String()[from:]
}
