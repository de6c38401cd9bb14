package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/worker"
)

// roleVar says what this test program is when it is started by one of its tests.
const roleVar = "SLUICE_TEST_ROLE"

var roles = map[string]func(){
	"sluice":   main,
	"patient":  patient,
	"mute":     func() { time.Sleep(time.Hour) },
	"stubborn": func() { signal.Ignore(syscall.SIGTERM); serve() },
	"serve":    serve,
	"exit":     func() { fmt.Println("no such module"); os.Exit(4) },
}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVar)]; role != nil {
		os.Unsetenv(roleVar) // not for the worker
		role()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// patient is the program, but for its worker's time to end: only a second signal shortens it.
func patient() {
	p, soft := ofProcess()
	p.terminate, p.kill = time.Hour, time.Hour
	os.Exit(p.run(soft, os.Args[1:]))
}

// serve is a worker for what examples/echo has no event for.
func serve() {
	w, err := worker.New(worker.FromArgs(os.Args[1:]))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	w.Handle("headers", func(_ context.Context, s *worker.Session) error {
		for _, h := range s.Headers() {
			if _, err := fmt.Fprintf(s, "%s=%s;", h.Name, h.Value); err != nil {
				return err
			}
		}
		return nil
	})
	w.Handle("app", func(_ context.Context, s *worker.Session) error {
		_, err := fmt.Fprintf(s, "%s %v\n", w.App(), w.Locators())
		return err
	})
	w.Handle("die", func(context.Context, *worker.Session) error {
		fmt.Println("going down")
		os.Exit(5)
		return nil
	})
	w.Handle("hang", func(context.Context, *worker.Session) error {
		time.Sleep(time.Hour) // whatever its context says
		return nil
	})
	w.Handle("linger", func(_ context.Context, s *worker.Session) error {
		_, _ = s.Write([]byte("done"))
		_ = s.Close()
		time.Sleep(time.Hour)
		return nil
	})
	w.Handle("flood", func(_ context.Context, s *worker.Session) error {
		for {
			if _, err := s.Write(make([]byte, 64<<10)); err != nil {
				return err
			}
		}
	})
	_ = w.Run(context.Background())
}

// asRole is a command line that runs this program as a worker.
func asRole(role string) string {
	return fmt.Sprintf("env GORACE=atexit_sleep_ms=0 %s=%s '%s'", roleVar, role, os.Args[0])
}

// result is what a run of the program did.
type result struct {
	exit     int
	out, err string
}

// sluice runs the program in this process.
func sluice(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return program{}.test(t, stdin, args...)
}

// test runs the program in this process, with nothing of its surroundings.
func (p program) test(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	p.in, p.out, p.err, p.hard = strings.NewReader(stdin), &out, &lockedWriter{w: &errs}, t.Context()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r := result{exit: p.run(ctx, args)}
	r.out, r.err = out.String(), errs.String()
	return r
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // in what is printed on stderr
	}{
		{[]string{"no-such-command"}, "unknown command"},
		{[]string{"invoke"}, "requires at least 1 arg"},
		{[]string{"invoke", "echo"}, `"worker" not set`},
		{[]string{"invoke", "--worker", " ", "echo"}, "--worker is empty"},
		{[]string{"invoke", "--worker", "x", "--no-such-flag", "echo"}, "unknown flag"},
		{[]string{"invoke", "--worker", "x", "--protocol", "2", "echo"}, "want 0 or 1"},
		{[]string{"invoke", "--worker", "x", "--timeout", "soon", "echo"}, "invalid duration"},
		{[]string{"invoke", "--worker", "x", "--timeout", "-1s", "echo"}, "has to be positive"},
		{[]string{"invoke", "--worker", "x", "--header", "novalue", "echo"}, "want NAME=VALUE"},
		{[]string{"invoke", "--worker", "x", "--header", "a=b", "--protocol", "0", "echo"}, "needs --protocol 1"},
		{[]string{"decode"}, "accepts 1 arg(s)"},
		{[]string{"decode", "--protocol", "7", "-"}, "want 0 or 1"},
		{[]string{"version", "x"}, "unknown command"},
		{[]string{"ping", "--count", "0"}, "have to be positive"},
		{[]string{"ping", "--interval", "-1s"}, "have to be positive"},
		{[]string{"tail", "--recent", "-1"}, "invalid argument"},
		{[]string{"ls", "--locator", ""}, "--locator is empty"},
		{[]string{"ls", "--locator", ", ,"}, "--locator is empty"},
		{[]string{"call", "echo"}, "call needs a SERVICE and a METHOD"},
	} {
		r := sluice(t, "", c.args...)
		if r.exit != exitUsage || !strings.Contains(r.err, c.want) || !strings.Contains(r.err, "--help' for usage") || r.out != "" {
			t.Errorf("sluice %q = %+v, want exit status 2 and %q", c.args, r, c.want)
		}
	}
}

// What cannot be printed is no mistake of the user's.
func TestOutputFails(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"version"}, {"completion", "bash"}} {
		var errs bytes.Buffer
		p := program{out: out, err: &errs, hard: t.Context()}
		if got := p.run(t.Context(), args); got != exitLocal || !strings.Contains(errs.String(), "file already closed") {
			t.Errorf("sluice %q = %d, %q, want exit status 3 and why", args, got, &errs)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--help", "invoke"},
		{"", "decode"},
		{"invoke --help", "sluice invoke --worker 'go run ./examples/echo' echo hello"},
		{"decode --help", "sluice decode --protocol 0"},
		{"version", "sluice "},
		{"completion bash", "__start_sluice"},
		{"__complete invoke --protocol ''", "0\n1\n"},
	} {
		args := strings.Fields(strings.ReplaceAll(c.args, "''", ""))
		if strings.HasSuffix(c.args, "''") {
			args = append(args, "")
		}
		if r := sluice(t, "", args...); r.exit != 0 || !strings.Contains(r.out, c.want) {
			t.Errorf("sluice %s = %+v, want %q", c.args, r, c.want)
		}
	}
}
