package chaos

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// beClient is a client under load. It says what it does on stdout, so that all of it that
// counts is known when it is killed, and ends when its stdin does.
func beClient() int {
	seed, _ := strconv.ParseUint(os.Getenv(seedVar), 10, 64)
	callers, _ := strconv.Atoi(os.Getenv(callersVar))
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	t, known := newTally(), newLedger()
	t.fault = func(text string) { say("fault %s", strings.ReplaceAll(text, "\n", " ")) }
	note := func(key string, n int, acked bool) {
		known.note(key, n, acked)
		say("note %s %d %t", key, n, acked)
	}
	l, err := startLoad(os.Getenv(addrVar), os.Getenv(v0Var) != "", t, callers, seed, os.Getenv(prefixVar), note, known.entry)
	if err != nil {
		say("fault %v", err)
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	l.rest()
	if err := l.finish(); err != nil {
		say("fault %v", err)
	}
	for kind, n := range t.counts {
		if kind != "faults" {
			say("count %d %s", n, kind)
		}
	}
	return 0
}

// child is a client in a process of its own.
type child struct {
	proc *exec.Cmd
	in   io.WriteCloser
	err  *bytes.Buffer // stderr, to be read when it has ended
	done chan error    // gets the end, when all that it said is noted

	acked int // writes; to be read when it has ended
}

func startChild(t *testing.T, c *cloud, ta *tally, known *ledger, seed uint64, prefix string) *child {
	t.Helper()
	p := exec.Command(os.Args[0])
	p.Env = append(os.Environ(), roleVar+"=client", runVar+"="+c.run, addrVar+"="+c.addr, callersVar+"=3",
		seedVar+"="+strconv.FormatUint(seed, 10), prefixVar+"="+prefix, v0Var+"="+c.dialect(), "GORACE=atexit_sleep_ms=0")
	ch := &child{proc: p, err: new(bytes.Buffer), done: make(chan error, 1)}
	p.Stderr = ch.err
	out, err := p.StdoutPipe()
	if err == nil {
		ch.in, err = p.StdinPipe()
	}
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for scan := bufio.NewScanner(out); scan.Scan(); {
			ch.heard(scan.Text(), ta, known)
		}
		ch.done <- p.Wait()
	}()
	return ch
}

// heard takes a line of a client. The last one of a client that was killed may be short.
func (ch *child) heard(line string, ta *tally, known *ledger) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "note":
		var key string
		var n int
		var acked bool
		if _, err := fmt.Sscanf(rest, "%s %d %t", &key, &n, &acked); err == nil {
			known.note(key, n, acked)
			if acked {
				ch.acked++
			}
		}
	case "count":
		number, kind, _ := strings.Cut(rest, " ")
		n, _ := strconv.Atoi(number)
		ta.add("in clients that were not killed: "+kind, n)
	case "fault":
		ta.wrong("a client says: %s", rest)
	}
}

// kill ends the client at once, and returns when all that it said is noted.
func (ch *child) kill(ta *tally) {
	_ = ch.proc.Process.Kill()
	err := <-ch.done
	_ = ch.in.Close()
	if text := bugIn(ch.err.String()); text != "" {
		ta.wrong("a client ended with %v: %s", err, text)
	}
}

// finish ends the client in good order.
func (ch *child) finish(t *testing.T) {
	t.Helper()
	_ = ch.in.Close()
	late := time.AfterFunc(callTimeout+patience, func() { _ = ch.proc.Process.Kill() })
	defer late.Stop()
	if err := <-ch.done; err != nil {
		t.Errorf("a client ended with %v, want nil; stderr: %.3000s", err, ch.err)
	}
}
