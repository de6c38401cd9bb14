package service_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
)

// conversation is one connection of a capture.
type conversation struct {
	name  string
	steps []step
	eof   bool // the runtime closed it
}

type step struct {
	frame []byte
	ours  bool // the client's; else the runtime's
	any   bool // the runtime's, whatever it was
}

// conversations reads the connections of a capture: each ends with a line that says who
// closed it.
func conversations(t *testing.T, file string) []conversation {
	t.Helper()
	text, err := os.ReadFile(goldenDir + "/captures/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var list []conversation
	var c conversation
	flush := func() {
		if len(c.steps) > 0 {
			list = append(list, c)
		}
		c = conversation{}
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		f := strings.SplitN(line, "\t", 3)
		switch {
		case strings.HasPrefix(line, "# --- "):
			flush()
			c.name = line[6:]
		case strings.Contains(line, "closed the connection"):
			c.eof = strings.HasSuffix(line, "EOF")
			flush()
		case strings.Contains(line, "left out here"):
			c.steps = append(c.steps, step{any: true})
		case !strings.HasPrefix(line, "#") && len(f) >= 2:
			c.steps = append(c.steps, step{frame: unhex(t, f[1]), ours: strings.HasPrefix(f[0], "client>")})
		}
	}
	flush()
	return list
}

// replay plays the client of a connection against srv, and compares what comes back. Our
// frames have no headers where those of 0.12 have a trace of zeros.
func (c conversation) replay(t *testing.T, srv *service.Server, d codec.Dialect) {
	t.Helper()
	client := dial(t, srv, d)
	defer client.close()
	want := map[uint64]codec.Message{} // answers that may come in any order
	for i, s := range c.steps {
		var m codec.Message
		switch {
		case s.any:
			if _, err := client.next(); err != nil {
				t.Fatalf("%s: next() = %v, want a frame", c.name, err)
			}
			continue
		case s.ours:
			client.write(s.frame)
			continue
		}
		if n, err := codec.NewScanner(d, codec.Limits{}).Next(s.frame, &m); n == 0 {
			t.Fatalf("%s: Next(%x) = %v", c.name, s.frame, err)
		}
		if d == codec.V0 { // two frames are one answer
			c.compare(t, client, m)
			continue
		}
		if want[m.Session] = m; i+1 < len(c.steps) && !c.steps[i+1].ours {
			continue
		}
		for range len(want) {
			got, err := client.next()
			if err != nil {
				t.Fatalf("%s: next() = %v", c.name, err)
			}
			c.same(t, got, want[got.Session])
		}
		clear(want)
	}
	if c.eof {
		client.wantEnd()
	} else {
		client.wantNothing()
	}
}

func (c conversation) compare(t *testing.T, client *rawClient, want codec.Message) {
	t.Helper()
	got, err := client.next()
	if err != nil {
		t.Fatalf("%s: next() = %v", c.name, err)
	}
	c.same(t, got, want)
}

func (c conversation) same(t *testing.T, got, want codec.Message) {
	t.Helper()
	if got.Session != want.Session || got.Type != want.Type || !bytes.Equal(got.Args, want.Args) {
		t.Fatalf("%s: next() = [%d, %d, %q], want [%d, %d, %q]", c.name,
			got.Session, got.Type, got.Args, want.Session, want.Type, want.Args)
	}
}

// TestStorageCaptures answers recorded clients of live runtimes as those did: values,
// errors, and the connections that they closed.
func TestStorageCaptures(t *testing.T) {
	for file, connections := range map[string]int{
		"core-storage.txt": 1, "core-edge.txt": 30, "core11-storage-edge.txt": 9,
	} {
		t.Run(file, func(t *testing.T) {
			list := conversations(t, file)
			if len(list) != connections {
				t.Errorf("%d connections, want %d", len(list), connections)
			}
			v0 := strings.HasPrefix(file, "core11")
			d := codec.V1
			if v0 {
				d = codec.V0
			}
			data := newMemory()
			if file == "core-edge.txt" {
				data.data["cap/k2"] = "newblob"
			}
			bubble(t, service.ServerConfig{Declaration: data.declaration(), V0: v0}, func(t *testing.T, srv *service.Server) {
				for _, c := range list {
					c.replay(t, srv, d)
				}
			})
		})
	}
}
