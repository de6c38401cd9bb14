package engine_test

import (
	"fmt"
	"os"

	"github.com/sluice-rpc/sluice/codec"
)

// recordVar names the file where a recorded worker writes what it gets, if it is to.
const recordVar = "ENGINE_TEST_RECORD"

// serveRecorded behaves as the worker of the captures: it echoes, answers ping with pong,
// and the client's error with one that repeats it. A terminate it answers by its end.
func serveRecorded(w *rawWorker) {
	record := func([]byte) error { return nil }
	if name := os.Getenv(recordVar); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		record = func(frame []byte) error {
			_, err := fmt.Fprintf(f, "%x\n", frame)
			return err
		}
	}
	events := map[uint64]string{}
	for {
		frame, m, err := w.next()
		if err == nil {
			err = record(frame)
		}
		control := m.Session == codec.V1ControlSession
		if err == nil && !control {
			err = w.send(recordedAnswer(events, &m)...)
		}
		if err != nil {
			fmt.Println("recorded:", err)
			os.Exit(1)
		}
		if control && m.NumArgs == 2 {
			_ = w.Close()
			return
		}
	}
}

// recordedAnswer returns what the worker sends for a frame of a session.
func recordedAnswer(events map[uint64]string, m *codec.Message) []codec.Frame {
	f := codec.Frame{Session: m.Session}
	event, open := events[m.Session]
	switch {
	case !open:
		events[m.Session] = string(m.Payload)
		if string(m.Payload) != "ping" {
			return nil
		}
		f.Kind, f.Payload = codec.KindChunk, []byte("pong")
		return []codec.Frame{f, {Kind: codec.KindChoke, Session: m.Session}}
	case event == "ping":
		return nil
	case m.Type == codec.V1Error:
		category, code, text, _ := codec.DecodeError(m)
		f.Kind, f.Category, f.Code, f.Text = codec.KindError, category, 999, fmt.Sprintf("[%d] [%d] %s", category, code, text)
	case m.Type == codec.V1Close:
		f.Kind = codec.KindChoke
	default:
		f.Kind, f.Payload = codec.KindChunk, m.Payload
	}
	return []codec.Frame{f}
}
