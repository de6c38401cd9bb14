package storage

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	crashes      = 60
	crashWriters = 6
	crashKeys    = 3 // of each writer
)

// crashValue is what a key has after its change number n. Zero is before the first.
func crashValue(key string, n int) value {
	if n%5 == 0 {
		return value{}
	}
	blob := strings.Repeat(fmt.Sprintf("%s %d ", key, n), n*7919%3000) // up to some 30 KiB
	return value{true, fmt.Sprintf("%d %s", n, blob), allTags[n%3]}
}

func crashKey(writer, i int) string { return fmt.Sprintf("%d.%d", writer, i) }

// writeForever is the child: it has each key go on from the change that it finds, and
// prints "key number" once a change is acknowledged.
func writeForever(dir string) error {
	s, err := Open(dir, quiet)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for w := range crashWriters {
		go func() {
			next := make([]int, crashKeys)
			for i := range next {
				n, err := strconv.Atoi(os.Getenv(crashKey(w, i)))
				if err != nil {
					failed <- err
				}
				next[i] = n + 1
			}
			for i := 0; ; i = (i + 1) % crashKeys {
				key := crashKey(w, i)
				if err := (oracle{}).change(s, name{"c", key}, crashValue(key, next[i])); err != nil {
					failed <- err
				}
				fmt.Printf("%s %d\n", key, next[i])
				next[i]++
			}
		}()
	}
	return <-failed
}

// TestKill kills a process that writes, again and again, on the same directory.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	at := make(map[string]int) // the change that each key has
	acked, swept, late := 0, 0, 0
	for round := range crashes {
		seen := runAndKill(t, dir, at, rng)
		if len(seen) > 0 {
			late++
		}
		s, err := Open(dir, quiet)
		if err != nil {
			t.Fatalf("round %d: Open() = %v", round, err)
		}
		swept += s.Stats().Swept
		for w := range crashWriters {
			for i := range crashKeys {
				key := crashKey(w, i)
				last := max(at[key], seen[key])
				acked += last - at[key]
				at[key] = checkCrashed(t, s, key, last)
			}
		}
		if st := s.Stats(); st.Corrupt != 0 {
			t.Fatalf("round %d: %d records are corrupt", round, st.Corrupt)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d acknowledged changes, %d files swept", crashes, acked, swept)
	if late < crashes/4 { // how many changes a round has is up to the disk
		t.Errorf("%d of %d kills came behind an acknowledged change, which are too few to tell", late, crashes)
	}
}

// checkCrashed fails the test unless a key has its last acknowledged change or the next
// one. It returns which.
func checkCrashed(t *testing.T, s *Store, key string, last int) int {
	t.Helper()
	got := observe(t, s, name{"c", key})
	for n := last; n <= last+1; n++ {
		if got == crashValue(key, n) {
			return n
		}
	}
	t.Fatalf("%s has %v, want change %d, %v, or the next", key, got, last, crashValue(key, last))
	return 0
}

// runAndKill runs a writer for a while, kills it, and returns the last change of each key
// that it has acknowledged.
func runAndKill(t *testing.T, dir string, at map[string]int, rng *rand.Rand) map[string]int {
	t.Helper()
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), roleVar+"=writer", "GORACE=atexit_sleep_ms=0")
	for w := range crashWriters {
		for i := range crashKeys {
			key := crashKey(w, i)
			cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", key, at[key]))
		}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	acks := bufio.NewReader(out)
	early := rng.IntN(4) == 0 // maybe while it opens the store
	if !early {
		if _, err := acks.Peek(1); err != nil {
			t.Fatalf("the writer failed: %v, %s", err, &stderr)
		}
		if _, err := Open(dir, quiet); !errors.Is(err, ErrLocked) {
			t.Fatalf("Open() while another process has it = %v, want ErrLocked", err)
		}
	}
	time.Sleep(time.Duration(rng.IntN(30_000)) * time.Microsecond)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	seen := readAcks(t, acks)
	_ = cmd.Wait()
	if stderr.Len() > 0 {
		t.Fatalf("the writer failed: %s", &stderr)
	}
	return seen
}

func readAcks(t *testing.T, acks io.Reader) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	lines := bufio.NewScanner(acks)
	for lines.Scan() {
		key, number, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(number)
		if err != nil || n <= seen[key] {
			t.Fatalf("acknowledgement %q after %d", lines.Text(), seen[key])
		}
		seen[key] = n
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return seen
}
