package session

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// Extensions says what a table agrees on with a peer of our kind beyond plain Cocaine (v1
// only, PROTOCOL.md: extensions). A peer that is none gets not one byte of it.
type Extensions struct {
	// Offer says that the peer is known to be ours, so that Table.Offer may begin. The
	// side that accepts an offer needs no word of it.
	Offer bool
	// NoCredit, NoCancel, NoDeadline and NoCompression switch one off for both directions.
	NoCredit, NoCancel, NoDeadline, NoCompression bool
	// SessionWindow is how many bytes of chunks the peer may send on one session before
	// they were read here, and at most one chunk more. If zero, 4 MiB.
	SessionWindow int
	// ChannelWindow bounds all sessions together, likewise. If zero, 16 MiB.
	ChannelWindow int
	// Compress says to whom chunks are sent compressed that shrink. If zero,
	// CompressRemote. What the peer compresses is taken in any case.
	Compress Compress
	// MinCompress is how long a chunk must be to be compressed, in bytes. If zero, 1 KiB.
	// If negative, 256, under which nothing is gained.
	MinCompress int
	// MaxCompressed is the longest chunk that is taken compressed, or compressed to be
	// sent, in bytes before compression: longer ones go plain. It bounds how long one chunk
	// holds up the loop. If zero, 1 MiB. If negative, the channel's MaxPayloadBytes, which
	// bounds it in any case.
	MaxCompressed int
}

// offerName is the header that carries an offer. Runtimes take headers that they do not
// know without harm.
const offerName = "sluice"

// extensionSession carries what was agreed on. No runtime uses it (protocol: channels).
const extensionSession = 0

// Types on it.
const (
	extHello  = 0 // [offer]: what the sender is ready for; the answer to an offer, and to that
	extCredit = 1 // [session, bytes, …]: that much more may be sent; session 0 is the channel
	extCancel = 2 // [session, category, code, reason]: the session is over in both directions
)

// terms are one side's part of an agreement.
type terms struct {
	credit, cancel   bool
	deadline         bool  // it takes the time that is left with every call
	session, channel int64 // its windows, for what it receives
	s2               int64 // the longest chunk that it takes compressed, decompressed; 0 is none
}

// terms returns what this side is ready for.
func (t *Table) terms() terms {
	e := &t.cfg.Extensions
	ours := terms{
		credit: !e.NoCredit, cancel: !e.NoCancel, deadline: !e.NoDeadline,
		session: min(int64(e.SessionWindow), maxWindow), channel: min(int64(e.ChannelWindow), maxWindow),
	}
	if !e.NoCompression {
		ours.s2 = min(int64(e.MaxCompressed), int64(t.ch.MaxPayloadBytes()), maxWindow)
	}
	return ours
}

// none reports whether there is nothing to agree on.
func (t terms) none() bool { return !t.credit && !t.cancel && !t.deadline && t.s2 == 0 }

// text is for example "1 credit=4194304/16777216 cancel deadline s2=1048576": the version,
// then what it offers.
func (t terms) text() string {
	s := "1"
	if t.credit {
		s += fmt.Sprintf(" credit=%d/%d", t.session, t.channel)
	}
	if t.cancel {
		s += " cancel"
	}
	if t.deadline {
		s += " deadline"
	}
	if t.s2 > 0 {
		s += fmt.Sprintf(" s2=%d", t.s2)
	}
	return s
}

// parseTerms reads an offer; false if it is none that we understand. Words that are not
// known are of the future.
func parseTerms(text []byte) (t terms, ok bool) {
	words := bytes.Fields(text)
	if len(text) > 1<<10 || len(words) == 0 || string(words[0]) != "1" {
		return terms{}, false
	}
	for _, w := range words[1:] {
		name, value, _ := bytes.Cut(w, []byte("="))
		switch string(name) {
		case "credit":
			a, b, _ := bytes.Cut(value, []byte("/"))
			t.session, t.channel = window(a), window(b)
			t.credit = t.session > 0 && t.channel > 0
		case "cancel":
			t.cancel = true
		case "deadline":
			t.deadline = true
		case "s2":
			t.s2 = window(value)
		}
	}
	return t, true
}

// window reads a number of bytes; 0 if it is none.
func window(text []byte) int64 {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n < 0 || n > maxWindow {
		return 0
	}
	return n
}

// mode is how far an agreement has come.
type mode uint32

const (
	plain    mode = iota // Cocaine as it is
	offering             // we have offered; what we send is counted, and not held back
	agreed
)

// extension is what a table has agreed on.
type extension struct {
	ours, peer terms // immutable once agreed
	credit     ledger
	cancel     atomic.Bool
	deadline   atomic.Bool
	s2         compression

	// owned by the loop
	mode      mode
	greeted   bool // our word that we keep to the terms was sent
	confirmed bool // the peer knows, so what it sends keeps to the terms
}

// Offer returns the header of an offer, for the first frame of this side that no runtime
// forwards: a worker's handshake, a client's ping. It is nil if there is nothing to offer.
// Before the channel is open, or on the loop.
func (t *Table) Offer() []codec.Header {
	ours := t.terms()
	if !t.cfg.Extensions.Offer || t.ch.Dialect() == codec.V0 || t.ext.mode != plain || ours.none() {
		return nil
	}
	t.ext.ours, t.ext.mode = ours, offering
	t.ext.credit.begin(ours.credit)
	return []codec.Header{{Name: []byte(offerName), Value: []byte(ours.text())}}
}

// Withdraw ends an offer that the peer did not take: it has answered, and not with terms.
// On the loop.
func (t *Table) Withdraw() {
	if t.ext.mode == offering {
		t.ext.mode = plain
		t.ext.credit.end()
	}
}

// Agreed reports whether the peer is ours and has taken or made an offer. On the loop.
func (t *Table) Agreed() bool { return t.ext.mode == agreed }

// Deadlines reports whether the peer is of our kind and takes the time that is left to a
// call with every one, in the header request_timeout; runtimes look for it with an
// application's requests only (protocol: headers). Any goroutine.
func (t *Table) Deadlines() bool { return t.ext.deadline.Load() }

// offered looks for an offer among the headers of a peer's first frame, and takes it.
func (t *Table) offered(headers []codec.Header) {
	ours := t.terms()
	if t.ch.Dialect() == codec.V0 || t.ext.mode != plain || ours.none() {
		return
	}
	for i := range headers {
		if string(headers[i].Name) != offerName {
			continue
		}
		if peer, ok := parseTerms(headers[i].Value); ok {
			t.ext.ours = ours
			t.agree(peer)
			t.hello()
		}
		return
	}
}

// agree puts into force what both sides are ready for.
func (t *Table) agree(peer terms) {
	e := &t.ext
	e.peer, e.mode = peer, agreed
	e.cancel.Store(e.ours.cancel && peer.cancel)
	e.deadline.Store(e.ours.deadline && peer.deadline)
	e.s2.agree(e.ours.s2, peer.s2)
	if !e.ours.credit || !peer.credit {
		e.credit.end()
		return
	}
	t.openLedger()
}

// confirm notes that the peer knows our terms, so that what it sends keeps to them, and what
// we send may make use of them.
func (t *Table) confirm() {
	t.ext.confirmed = true
	t.startCompressing()
}

// greet says, to the answer to our offer, that we keep to the terms from now on. What was
// paid for before we knew them comes first, or the peer would take it for an overdraft.
func (t *Table) greet() {
	if c := &t.ext.credit; !t.ext.greeted && (!c.on || c.early.Load() == 0) {
		t.ext.greeted = true
		t.hello()
	}
}

// hello keeps its place among the frames: it comes before the answer to a ping.
func (t *Table) hello() {
	t.inOrder(codec.Frame{Type: extHello, Args: codec.Args(t.ext.ours.text()).Bytes()})
}

// inOrder sends a frame of ours behind what was sent before it; it owns f.Args.
func (t *Table) inOrder(f codec.Frame) {
	f.Kind, f.Session = codec.KindCall, extensionSession
	if t.ch.SendOf(nil, &f, 0) == channel.ErrFull {
		t.owe(owed{f: f})
	}
}

// urgent sends a frame of ours ahead of all data. A peer that takes none of them does not
// read at all.
func (t *Table) urgent(f codec.Frame) {
	f.Kind, f.Session = codec.KindCall, extensionSession
	if t.ch.SendUrgent(&f) == channel.ErrFull {
		t.flood("control frames that were not read")
	}
}

// extended takes a frame of the extension session, or one that only peers of ours send;
// false if it is none of that.
func (t *Table) extended(m *codec.Message) bool {
	if t.ext.mode == plain {
		return false
	}
	if m.Session != extensionSession {
		return m.Type == typeCompressed && t.ext.s2.taken && t.decompress(m)
	}
	switch r := m.Reader(); {
	case m.Type == extHello && t.ext.mode == offering:
		peer, ok := parseTerms(m.Payload)
		if !ok {
			t.Withdraw()
			return true
		}
		t.agree(peer)
		t.confirm()
		t.greet()
	case m.Type == extHello:
		t.confirm()
	case m.Type == extCredit && t.ext.credit.open.Load():
		t.granted(&r)
	case m.Type == extCancel && t.ext.cancel.Load():
		t.cancelledBy(&r)
	default:
		t.stray()
	}
	return true
}

// cancelledBy ends a session because the peer did, in both directions and without an
// answer. One that is over is no mistake: the two ends have crossed.
func (t *Table) cancelledBy(r *codec.Reader) {
	id := r.Uint64()
	e := &Error{Category: r.Int64(), Code: r.Int64(), Message: string(r.Bytes()), Remote: true}
	if r.Err() != nil {
		t.bad(channel.CodeBadFrame, "a cancel without a session and a reason")
		return
	}
	if s := t.ids.get(id); s != nil {
		t.cancelled(s)
		t.endBoth(s, e) // it may have overtaken what was sent before it
	}
}

// endBoth ends both directions of a session without a frame of it; what the peer has sent
// meanwhile comes late.
func (t *Table) endBoth(s *Session, e *Error) {
	t.lenient = true
	s.tx.Close()
	s.sentAll()
	s.peerAt(nil)
	s.cutOff(e)
	t.settle(s)
}

// maxReasonBytes of a cancel. Many may wait for a peer that is slow.
const maxReasonBytes = 512

// Cancels reports whether Cancel overtakes what the session has sent: the peer is of our
// kind and has agreed on it. Any goroutine.
func (s *Session) Cancels() bool { return s.t.ext.cancel.Load() }

// Cancel gives a session up: the peer's side ends, too, with the given error as remote
// cause, and whoever reads here gets it as a local one. What we have sent of it and what
// still waits may or may not be seen. A peer of ours is told in a frame of its own, which
// overtakes the session's chunks; a plain one gets the error as the end of our direction,
// if that is open. On the loop.
func (s *Session) Cancel(category, code int64, message string) {
	t := s.t
	if !s.installed {
		return
	}
	if !t.ext.cancel.Load() || s.openedAt >= t.ch.Written() { // the cancel must not overtake what opened it
		s.Cut(category, code, message)
		return
	}
	reason := message
	if len(reason) > maxReasonBytes {
		reason = strings.ToValidUTF8(reason[:maxReasonBytes], "")
	}
	f := codec.Frame{Kind: codec.KindCall, Session: extensionSession, Type: extCancel, Args: codec.Args(s.id, category, code, reason).Bytes()}
	if t.ch.SendUrgent(&f) == channel.ErrFull {
		s.Cut(category, code, message)
		return
	}
	t.counts.failed.inc()
	t.endBoth(s, &Error{Category: category, Code: code, Message: message})
}
