//go:build unix

package engine_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
)

// difference is a line of a capture where we are not to do what the live runtime did, and
// why. One that is not needed fails the test.
type difference struct {
	file string // of the captures; empty for any
	line string // part of the line's text

	mask masks  // makes the runtime's frame and ours the same
	ours string // behind a line of the client: what we answer, in hex. An end is then not ours.

	reason string
}

// masks takes out of the runtime's frame and of ours what may differ.
type masks func(theirs, ours []byte) ([]byte, []byte)

// differences are all there are. PROTOCOL.md has the reasons in the same words.
var differences = []difference{
	{line: "<the 3 trace headers, all zero>", mask: untraced, reason: "no trace is no header, not three of zeros"},

	{file: "core-locator.txt", line: `[[["127.0.0.1", 100`, mask: bothOf(anyPort), reason: "free ports"},
	{file: "core-locator.txt", line: "value channel 8", mask: bothOf(anyUUID), reason: "the node's own uuid"},
	{file: "core-locator.txt", line: "discard channel 1", ours: "9401029090", reason: "a stream that is discarded is ended by close"},

	{file: "core-logging.txt", line: "set_verbosity channel 5", ours: "9405009090", reason: "set_verbosity works, there its slot is not bound"},

	{file: "core-storage.txt", line: "left out: the answer to storage.read", mask: anyErrno, reason: "name a file of the recorded host the capture has not the text"},
	{file: "core-storage.txt", line: "left out: the answer to storage.write channel 20", mask: only("9414009090"), reason: "any bytes are a key, there one with a slash is in a directory that is missing"},

	{file: "core-app-service.txt", line: `value channel 5: [5, 0, [{"load"`, mask: bothOf(shapeOfValue), reason: "times, rates and the slave's uuid, of which the keys and types are the same"},
	{file: "core-app-service.txt", line: "stream close channel 6", ours: "9406009090", reason: "the end of control is answered, there it costs the connection"},

	{file: "core-app-headers.txt", line: `[false, "trace_id"`, mask: untraced, reason: "the caller knows the trace of its request: answers do not repeat it"},

	{file: "core-node-worker-headers.txt", line: `invoke session 3`, mask: untraced, reason: "no trace is no header, not three of zeros"},
	{file: "core-node-worker-headers.txt", line: `invoke session 4`, mask: untraced, reason: "no trace is no header, not three of zeros"},
	{file: "core-node-worker-headers.txt", line: `invoke session 5`, mask: untraced, reason: "no trace is no header, not three of zeros"},
	{file: "core-node-worker-headers.txt", line: `chunk session 2`, mask: untraced, reason: "the invoke has the trace: what follows does not repeat it"},
	{file: "core-node-worker-headers.txt", line: `choke session 2`, mask: untraced, reason: "the invoke has the trace: what follows does not repeat it"},
}

// TestCapturesWhole replays what clients said to the live runtime to a whole engine, and
// wants what that answered, frame by frame, and the ends of connections where it ended
// them. Then it holds what a worker got against what one got there.
func TestCapturesWhole(t *testing.T) {
	table := &differenceTable{t: t, needed: make([]bool, len(differences))}

	emptyTemp(t)
	r := run(t, engine.Config{Apps: []engine.Source{echoSource("echo", "recorded")}})
	for _, file := range []string{
		"core-locator.txt", "core-storage.txt", "core-edge.txt", "core-storage-static-headers.txt",
		"core-logging.txt", "core-app-service.txt",
	} {
		table.replayFile(r, file)
	}
	if err := r.stop(); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}

	log := filepath.Join(t.TempDir(), "worker")
	app := echoSource("echo", "recorded")
	app.Env = append(app.Env, recordVar+"="+log)
	r = run(t, engine.Config{Apps: []engine.Source{app}})
	table.replayFile(r, "core-app-headers.txt")
	table.ping(r)
	if err := r.stop(); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	table.compareWorker("core-node-worker-headers.txt", log)

	text, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	protocol := strings.Join(strings.Fields(string(text)), " ")
	for i, d := range differences {
		if !table.needed[i] {
			t.Errorf("the difference %q of %q is not needed any more", d.line, d.file)
		}
		if !strings.Contains(protocol, d.reason) {
			t.Errorf("PROTOCOL.md does not say %q", d.reason)
		}
	}
}

// captured is one line of a capture.
type captured struct {
	file, text string
	from       string // "client>storage"; empty if the frame was left out
	frame      []byte // nil if it was left out
	asked      []byte // what the client sent before a frame that was left out
}

func (l captured) ofClient() bool { return strings.HasPrefix(l.from, "client>") }

// recorded is one connection of a capture.
type recorded struct {
	service string
	lines   []captured
	ended   bool // by the runtime
}

// recordings returns the connections of a capture and the number of the client's lines.
func recordings(t *testing.T, file string) (list []recorded, requests int) {
	t.Helper()
	var now recorded
	var request captured
	next := func() {
		if len(now.lines) > 0 {
			list = append(list, now)
		}
		now = recorded{}
	}
	for _, l := range capturedLines(t, file) {
		switch {
		case strings.HasPrefix(l.text, "# ---"):
			next()
		case strings.Contains(l.text, "closed the connection"):
			now.ended = strings.HasSuffix(l.text, "EOF")
			next()
		case strings.Contains(l.text, "left out here"):
			l.text, l.asked = "left out: the answer to "+request.text, request.frame
			now.lines = append(now.lines, l)
		case l.ofClient():
			request, now.service = l, strings.TrimPrefix(l.from, "client>")
			requests++
			fallthrough
		case l.from != "":
			now.lines = append(now.lines, l)
		}
	}
	next()
	return list, requests
}

// capturedLines returns the lines of a capture; those that are not frames have no from.
func capturedLines(t *testing.T, file string) (list []captured) {
	t.Helper()
	text, err := os.ReadFile("../codec/testdata/golden/captures/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for row := range strings.Lines(string(text)) {
		l := captured{file: file, text: strings.TrimSuffix(row, "\n")}
		if f := strings.SplitN(l.text, "\t", 3); len(f) == 3 {
			l.from, l.text = f[0], f[2]
			if l.frame, err = hex.DecodeString(f[1]); err != nil {
				t.Fatal(err)
			}
		}
		list = append(list, l)
	}
	return list
}

// differenceTable compares, and counts which differences are needed.
type differenceTable struct {
	t      *testing.T
	needed []bool
}

// replayFile replays all connections of a capture.
func (d *differenceTable) replayFile(r *running, file string) {
	d.t.Helper()
	list, requests := recordings(d.t, file)
	sent := 0
	for _, c := range list {
		at := r.Endpoint()
		if c.service != "locator" {
			s, ok := r.find(d.t, c.service)
			if !ok {
				d.t.Fatalf("there is no service %q", c.service)
			}
			at = s.Endpoints[0]
		}
		sent += d.replay(at, c)
	}
	if sent != requests || sent == 0 {
		d.t.Errorf("%s: %d frames of the client were sent, want %d", file, sent, requests)
	}
}

// replay replays a connection and returns how many lines of the client it has sent.
func (d *differenceTable) replay(at service.Endpoint, c recorded) (sent int) {
	d.t.Helper()
	client := dialRaw(d.t, at)
	defer client.Close()
	ended := c.ended
	for lines := c.lines; len(lines) > 0; {
		first := lines[0]
		if !first.ofClient() {
			n := slices.IndexFunc(lines, captured.ofClient)
			if n < 0 {
				n = len(lines)
			}
			d.compare(client, lines[:n])
			lines = lines[n:]
			continue
		}
		lines = lines[1:]
		sent++
		_, _ = client.Write(first.frame) // if the engine has closed, reading tells
		if i := d.answer(first); i >= 0 {
			ended = false
			if got := mustNext(d.t, client, first); hex.EncodeToString(got) == differences[i].ours {
				d.needed[i] = true
			} else {
				d.t.Errorf("%s: %s: the engine sent %x, want %s", c.lines[0].file, first.text, got, differences[i].ours)
			}
		}
	}
	last := c.lines[len(c.lines)-1]
	if !ended {
		d.wantOpen(client, last)
	} else if got, _, err := client.next(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		d.t.Errorf("%s: %s: the engine sent %x, %v, want the end of the connection", last.file, last.text, got, err)
	}
	return sent
}

// dialRaw connects to a service, for a minute.
func dialRaw(t *testing.T, at service.Endpoint) *rawWorker {
	t.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return newRaw(conn, codec.V1)
}

// wantOpen fails the test unless the connection is open and nothing more comes: the next
// frame is the answer to a ping, and behind it there is none for a while.
func (d *differenceTable) wantOpen(client *rawWorker, last captured) {
	d.t.Helper()
	const fresh, ping = 1 << 40, 65533
	if err := client.send(codec.Frame{Kind: codec.KindCall, Session: fresh, Type: ping, Args: []byte{0x90}}); err != nil {
		d.t.Errorf("%s: behind %s: %v, want an open connection", last.file, last.text, err)
		return
	}
	pong := codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindCall, Session: fresh, Type: codec.V1Value, Args: []byte{0x90}})
	if got, _, err := client.next(); err != nil || !bytes.Equal(got, pong) {
		d.t.Errorf("%s: behind %s the engine sent %x, %v, want nothing but the answer to a ping", last.file, last.text, got, err)
		return
	}
	_ = client.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if got, _, err := client.next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		d.t.Errorf("%s: behind %s the engine sent %x, %v, want nothing", last.file, last.text, got, err)
	}
}

func mustNext(t *testing.T, client *rawWorker, l captured) []byte {
	t.Helper()
	got, _, err := client.next()
	if err != nil {
		t.Fatalf("%s: %s: %v, want a frame", l.file, l.text, err)
	}
	return got
}

// compare reads as many frames as were captured. Those of one session are in their order.
func (d *differenceTable) compare(client *rawWorker, want []captured) {
	d.t.Helper()
	var got [][]byte
	for _, l := range want {
		got = append(got, mustNext(d.t, client, l))
	}
	d.bySession(want, got)
}

// bySession compares the frames of each session in their order.
func (d *differenceTable) bySession(want []captured, got [][]byte) {
	d.t.Helper()
	for _, l := range want {
		known := l.frame
		if known == nil {
			known = l.asked
		}
		id := sessionOf(d.t, known)
		i := slices.IndexFunc(got, func(frame []byte) bool { return sessionOf(d.t, frame) == id })
		if i < 0 {
			d.t.Errorf("%s: there is no frame for %s", l.file, l.text)
			continue
		}
		d.same(l, got[i])
		got = slices.Delete(got, i, i+1)
	}
	for _, frame := range got {
		d.t.Errorf("%s: %x is too much", want[0].file, frame)
	}
}

func sessionOf(t *testing.T, frame []byte) uint64 {
	t.Helper()
	var m codec.Message
	if n, err := codec.NewScanner(codec.V1, codec.Limits{}).Next(frame, &m); n == 0 {
		t.Fatalf("%x is no frame: %v", frame, err)
	}
	return m.Session
}

// same compares two frames behind the masks of the differences of their line. A mask is
// needed if the frames would not be the same without it.
func (d *differenceTable) same(l captured, got []byte) {
	d.t.Helper()
	if !d.equal(l, got, -1) {
		d.t.Errorf("%s: %s\nthe engine sent %x\nwant            %x", l.file, l.text, got, l.frame)
		return
	}
	for i := range differences {
		if !d.needed[i] && differences[i].of(l) && !d.equal(l, got, i) {
			d.needed[i] = true
		}
	}
}

// equal reports whether the frames are the same behind all masks but one.
func (d *differenceTable) equal(l captured, got []byte, without int) bool {
	want := l.frame
	for i := range differences {
		if i != without && differences[i].mask != nil && differences[i].of(l) {
			want, got = differences[i].mask(want, got)
		}
	}
	return bytes.Equal(want, got)
}

// of reports whether a difference is about a line.
func (d *difference) of(l captured) bool {
	return (d.file == "" || d.file == l.file) && strings.Contains(l.text, d.line)
}

// answer returns the difference that has our answer to a line of the client, or -1.
func (d *differenceTable) answer(l captured) int {
	return slices.IndexFunc(differences, func(d difference) bool { return d.ours != "" && d.of(l) })
}

// ping has the worker handle the event that the capture of a worker has behind those of
// the capture of a client.
func (d *differenceTable) ping(r *running) {
	d.t.Helper()
	echo := r.service(d.t, "echo")
	defer echo.Close()
	id := echo.open(0, "ping")
	echo.want(d.t, codec.Frame{Kind: codec.KindChunk, Session: id, Payload: []byte("pong")})
	echo.want(d.t, codec.Frame{Kind: codec.KindChoke, Session: id})
	if err := echo.send(codec.Frame{Kind: codec.KindChoke, Session: id}); err != nil {
		d.t.Fatal(err)
	}
	echo.wantOK(1) // behind it the choke is with the worker, or on its way
}

// compareWorker holds what a worker got against what one got in a capture.
func (d *differenceTable) compareWorker(file, log string) {
	d.t.Helper()
	var want []captured
	for _, l := range capturedLines(d.t, file) {
		if l.from == "engine>worker" {
			want = append(want, l)
		}
	}
	text, err := os.ReadFile(log)
	if err != nil {
		d.t.Fatal(err)
	}
	var got [][]byte
	for row := range strings.Lines(string(text)) {
		frame, err := hex.DecodeString(strings.TrimSpace(row))
		if err != nil {
			d.t.Fatal(err)
		}
		got = append(got, frame)
	}
	d.bySession(want, got)
}

// bothOf makes masks of what is done to both frames alike.
func bothOf(mask func([]byte) []byte) masks {
	return func(theirs, ours []byte) ([]byte, []byte) { return mask(theirs), mask(ours) }
}

// untraced takes the three headers of a trace out of the runtime's frame.
func untraced(theirs, ours []byte) ([]byte, []byte) {
	const first, size = "\x93\xc2\xa8trace_id\xa8", 20 + 19 + 21
	i := bytes.Index(theirs, []byte(first))
	if i < 1 || len(theirs) < i+size ||
		!bytes.HasPrefix(theirs[i+20:], []byte("\x93\xc2\xa7span_id\xa8")) ||
		!bytes.HasPrefix(theirs[i+39:], []byte("\x93\xc2\xa9parent_id\xa8")) {
		return theirs, ours
	}
	theirs = slices.Delete(bytes.Clone(theirs), i, i+size)
	theirs[i-1] -= 3 // how many headers there are
	return theirs, ours
}

// anyPort has all ports of this host be 0.
func anyPort(frame []byte) []byte { return blank(frame, "\xa9127.0.0.1\xcd", 2) }

// anyUUID has all uuids be blank.
func anyUUID(frame []byte) []byte { return blank(frame, "\xda\x00\x24", 36) }

// blank puts zeros for the n bytes behind each prefix.
func blank(frame []byte, prefix string, n int) []byte {
	frame = bytes.Clone(frame)
	for rest := frame; ; rest = rest[n:] {
		_, found, ok := bytes.Cut(rest, []byte(prefix))
		if !ok || len(found) < n {
			return frame
		}
		clear(found[:n])
		rest = found
	}
}

// shapeOfValue has the first argument be its keys and types.
func shapeOfValue(frame []byte) []byte {
	var m codec.Message
	if n, _ := codec.NewScanner(codec.V1, codec.Limits{}).Next(frame, &m); n == 0 {
		return frame
	}
	r := m.Reader()
	return bytes.Replace(frame, m.Args, []byte(fmt.Sprint(shape("", &r))), 1)
}

// only takes a frame of ours, in hex, for one that is not known.
func only(want string) masks {
	return func(theirs, ours []byte) ([]byte, []byte) {
		if theirs == nil && hex.EncodeToString(ours) == want {
			return nil, nil
		}
		return theirs, ours
	}
}

// anyErrno takes any answer that is an error of the system for a frame that is not known.
func anyErrno(theirs, ours []byte) ([]byte, []byte) {
	var m codec.Message
	if n, _ := codec.NewScanner(codec.V1, codec.Limits{}).Next(ours, &m); n == len(ours) && theirs == nil {
		if category, code, text, ok := codec.DecodeError(&m); ok && category == service.CategoryGeneric && code > 0 && len(text) > 0 {
			return nil, nil
		}
	}
	return theirs, ours
}
