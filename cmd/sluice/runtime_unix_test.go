//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/engine/enginetest"
)

// patience is how long a test waits for what should come soon.
const patience = 60 * time.Second

// await tries again and again until there is what is wanted. Other processes have to get
// there, whose time is the wall clock's.
func await(t *testing.T, want string, try func() (got any, ok bool)) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		got, ok := try()
		if ok {
			return
		}
		if time.Since(begin) > patience {
			t.Fatalf("there is %+v, want %s", got, want)
		}
	}
}

// cloud is sluice up in a process of its own, which has said that it is ready.
type cloud struct {
	*exec.Cmd
	t       *testing.T
	stdout  io.Reader
	err     *bytes.Buffer // to be read after stop
	out     []string      // the lines before "ready"
	locator string
	temp    string
	stopped bool
}

// up starts a runtime on free ports. It ends with the test, which fails if anything of it is
// left.
func up(t *testing.T, args ...string) *cloud {
	t.Helper()
	r := launch(t, args...)
	r.awaitReady()
	return r
}

// launch is up without waiting for anything.
func launch(t *testing.T, args ...string) *cloud {
	t.Helper()
	r := prepare(t, args...)
	r.begin()
	return r
}

// prepare returns what begin starts.
func prepare(t *testing.T, args ...string) *cloud {
	t.Helper()
	temp, err := os.MkdirTemp("/tmp", "u")
	if err != nil {
		t.Fatal(err)
	}
	r := &cloud{t: t, temp: temp, err: new(bytes.Buffer)}
	r.Cmd = exec.Command(os.Args[0], append([]string{"up", "--listen", "127.0.0.1:0"}, args...)...)
	r.Env = append(os.Environ(), roleVar+"=sluice", "TMPDIR="+temp, "GORACE=atexit_sleep_ms=0")
	r.Stderr = r.err
	if r.stdout, err = r.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *cloud) begin() {
	r.t.Helper()
	if err := r.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.stop(syscall.SIGTERM, 0) })
}

// awaitReady reads what is printed up to "ready".
func (r *cloud) awaitReady() {
	r.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = r.Process.Kill() })
	defer timer.Stop()
	lines := bufio.NewScanner(r.stdout)
	for lines.Scan() && lines.Text() != "ready" {
		r.out = append(r.out, lines.Text())
		if name, addr, _ := strings.Cut(lines.Text(), " "); name == "locator" {
			r.locator = strings.TrimSpace(addr)
		}
	}
	if lines.Text() != "ready" || r.locator == "" {
		r.stop(syscall.SIGKILL, -1)
		r.t.Fatalf("sluice up printed %q, want the locator and ready; stderr: %s", r.out, r.err)
	}
}

// stop sends a signal and waits for the end, once. Nothing may be left.
func (r *cloud) stop(sig syscall.Signal, want int) {
	r.t.Helper()
	if r.stopped {
		return
	}
	_ = r.Process.Signal(sig)
	r.wait(want)
}

// wait waits for the end, which a signal has been sent for.
func (r *cloud) wait(want int) {
	r.t.Helper()
	r.stopped = true
	timer := time.AfterFunc(patience, func() { _ = r.Process.Kill() })
	defer timer.Stop()
	_ = r.Wait()
	if code := r.ProcessState.ExitCode(); code != want {
		r.t.Errorf("sluice up ended with %v, want exit status %d; stderr: %s", r.ProcessState, want, r.err)
	}
	if left, _ := filepath.Glob(filepath.Join(r.temp, "*")); len(left) > 0 && want >= 0 {
		r.t.Errorf("sluice up left %v", left)
	}
	if err := os.RemoveAll(r.temp); err != nil {
		r.t.Error(err)
	}
}

func echoProgram(t *testing.T) string {
	return "env GORACE=atexit_sleep_ms=0 '" + enginetest.Build(t, "../../examples/echo") + "'"
}

// step is one run of the program against a runtime.
type step struct {
	args  []string
	stdin string
	exit  int
	out   string // all of stdout; a * at the end or in front stands for anything
	err   string // in stderr
}

func (s step) check(t *testing.T) {
	t.Helper()
	r := sluice(t, s.stdin, s.args...)
	if r.exit != s.exit || !matches(r.out, s.out) || !strings.Contains(r.err, s.err) {
		t.Errorf("sluice %q = %.2000v, want %.2000v", s.args, r, s)
	}
}

// matches compares with a want that may have stars for anything.
func matches(got, want string) bool {
	parts := strings.Split(want, "*")
	if len(parts) == 1 {
		return got == want
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(got) < len(first)+len(last) || !strings.HasPrefix(got, first) || !strings.HasSuffix(got, last) {
		return false
	}
	got = got[len(first) : len(got)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(got, p)
		if i < 0 {
			return false
		}
		got = got[i+len(p):]
	}
	return true
}

func words(line string) []string { return strings.Fields(line) }

// callSteps: what call does, by which an application is used as well as a service.
func callSteps(random string) []step {
	return []step{
		{args: words("call echo echo hello"), out: "hello\n"},
		{args: words("call echo echo hel lo"), out: "hello\n"},
		{args: words("call echo echo 42"), out: "42\n"},
		{args: words("call echo echo"), out: ""},
		{args: words("call echo echo -"), stdin: random, out: random},
		{args: words("call echo echo a b --json"), out: "*\n"},
		{args: words("call echo ping x y z"), out: "pong\n"},
		{args: words("call echo enqueue ping"), out: "pong\n"},
		{args: words("call echo enqueue echo -"), stdin: "through a method", out: "through a method"},
		{args: words("call echo control -"), stdin: "1\n0\n", out: ""},
		{args: words("call echo control"), out: ""},
		{args: words("call node control echo -"), stdin: "0", out: ""},
		{args: words("call node control nobody"), exit: exitRemote, err: "[20991, 6]"},
		{args: words("call locator routing r -"), exit: exitUsage, err: "routing takes no stream"},
		{args: []string{"call", "locator", "publish", "x", `[["127.0.0.1",1]]`, "--json"}, out: "null\n"},
		{args: words("call echo --event info"), exit: exitRemote, err: "[42, 200]"},
		{args: words("call echo fail"), exit: exitRemote, err: "sluice: [42, 7] told to fail\n"},
		{args: words("call nobody x"), exit: exitRemote, err: "'sluice ls' shows what there is"},
		{args: words("call storage read"), exit: exitLocal, err: "the service has ended, or refused what it was sent"},
		{args: words("call storage write users x 1e999"), exit: exitUsage, err: "the number 1e999 is too large"},
		{args: words("call storage nothing"), exit: exitLocal, err: "has no method nothing"},
		{args: words("call locator uuid"), out: "*\n"},
		{args: words("call logging emit 1 test hello"), out: ""},
	}
}

// storageSteps: what storage does; random is any bytes.
func storageSteps(random string) []step {
	return []step{
		{args: words("storage write users alice secret --tag user --tag admin")},
		{args: words("storage read users alice"), out: "secret"},
		{args: words("storage read users alice --json"), out: "\"secret\"\n"},
		{args: words("storage find users admin user"), out: "alice\n"},
		{args: words("storage find users nobody"), out: ""},
		{args: words("storage find users admin --json"), out: "[\"alice\"]\n"},
		{args: words("call storage read users alice"), out: "secret\n"},
		{args: words(`call storage find users ["admin"]`), out: "[\"alice\"]\n"},
		{args: words("storage write users bin -"), stdin: random},
		{args: words("storage read users bin"), out: random},
		{args: words("storage write users big -"), stdin: strings.Repeat("x", maxBlobBytes)},
		{args: words("storage read users big"), out: strings.Repeat("x", maxBlobBytes)},
		{args: words("storage write users big -"), stdin: strings.Repeat("x", maxBlobBytes+1), exit: exitLocal, err: "stdin has more than 16 MiB"},
		{args: words(`storage write --pack users doc {"a":1}`)},
		{args: words("storage read --unpack users doc"), out: "{\"a\":1}\n"},
		{args: words("storage rm users alice bin big doc nobody")},
		{args: words("storage read users alice"), exit: exitRemote, err: "[12, 2]"},
	}
}

// nodeSteps: what tells of services and applications, and changes them.
func nodeSteps() []step {
	return []step{
		{args: words("ls"), out: "SERVICE*echo*locator*logging*node*storage*\n"},
		{args: words("info storage"), out: "service:   storage\nversion:   1\nendpoints: 127.0.0.1:*METHOD*read*value*\n"},
		{args: words("info echo"), out: "service:   echo\n*enqueue*stream*stream*pool:*queue:*\n"},
		{args: words("info"), out: "APP *STATE *\necho *running *0 *0 *1 *10 *0 *\n"},
		{args: words("app control echo 3")},
		{args: words("app control echo many"), exit: exitUsage, err: "no number of workers"},
		{args: words("app control storage 1"), exit: exitLocal, err: "no method"},
		{args: words("call node info echo"), out: "*\"total:spawned\":3*\n"},
		{args: words("info nobody"), exit: exitRemote, err: "[10, 1]"},
		{args: words("app list"), out: "APP *STATE*UPLOADED\necho*running*no\n"},
		{args: words("group set any echo=3 nobody=0")},
		{args: words("group list"), out: "any\n"},
		{args: words("group view any"), out: "echo: 3\nnobody: 0\n"},
		{args: words("call any echo hello"), out: "hello\n"},
		{args: words("group rm any")},
		{args: words("call any echo hello"), exit: exitRemote, err: "[10, 1]"},
		{args: words("group set any echo"), exit: exitUsage, err: "want SERVICE=WEIGHT"},
		{args: words("ping --count 2 --interval 1ms"), out: "locator *"},
		{args: words("ping echo --count 1"), out: "echo *"},
	}
}

// TestRuntime starts a runtime and does all that the program can with it, in this order.
func TestRuntime(t *testing.T) {
	r := up(t, "--app", "echo="+echoProgram(t))
	t.Setenv(locatorVar, r.locator)
	if got := fmt.Sprint(r.out); !strings.Contains(got, "storage") || !strings.Contains(got, "echo") || !strings.Contains(got, "node") {
		t.Errorf("sluice up printed %q, want a line for each service", r.out)
	}
	random := strings.Repeat("\x00\xff\n\x80", 50_000)
	for _, s := range slices.Concat(callSteps(random), storageSteps(random), nodeSteps()) {
		s.check(t)
	}
	// We, the runtime and the worker know of the deadline, and any may be the first to tell.
	for _, args := range []string{"call echo --timeout 100ms sleep 1h", "call locator routing r --timeout 100ms --json"} {
		cut := sluice(t, "", words(args)...)
		ours := cut.exit == exitLocal && strings.Contains(cut.err, "no whole answer within 100ms")
		theirs := cut.exit == exitRemote && (strings.Contains(cut.err, "timed out") || strings.Contains(cut.err, "deadline exceeded"))
		if !ours && !theirs {
			t.Errorf("sluice %s = %+v, want that it has timed out", args, cut)
		}
	}
	for _, args := range []string{"ls --json", "info echo --json", "info --json", "app list --json", "ping --count 1 --json"} {
		if r := sluice(t, "", words(args)...); r.exit != 0 || !json.Valid([]byte(r.out)) {
			t.Errorf("sluice %s = %+v, want JSON", args, r)
		}
	}
}

// The old protocol: what it has works, what it lacks says so.
func TestRuntimeV0(t *testing.T) {
	r := up(t, "--protocol", "0", "--app", "echo="+echoProgram(t))
	t.Setenv(locatorVar, r.locator)
	for _, s := range []step{
		{args: words("call echo echo hel lo"), out: "hello\n"},
		{args: words("call echo echo"), out: ""},
		{args: words("call echo echo -"), stdin: "bytes\x00", out: "bytes\x00"},
		{args: words("call echo enqueue ping x"), out: "pong\n"},
		{args: words("call echo fail x"), exit: exitRemote, err: "sluice: [7] told to fail\n"},
		{args: words("call nobody x"), exit: exitRemote, err: "sluice: [1] service"},
		{args: words("storage write users alice secret --tag user")},
		{args: words("storage read users alice"), out: "secret"},
		{args: words("storage find users user"), out: "alice\n"},
		{args: words(`call storage find users ["user"]`), out: "[\"alice\"]\n"},
		{args: words("storage read users bob"), exit: exitRemote, err: "sluice: [1] "},
		{args: words("ls"), out: "SERVICE*echo *locator *logging *node *storage *\n"},
		{args: words("info echo"), out: "service:   echo\n*enqueue *queue:*\n"},
		{args: words("info"), out: "APP *STATE *\necho *running *0 *0 *1 *10 *0 *\n"},
		{args: words("app list"), out: "APP *\necho*started*no\n"},
		{args: words("app pause echo")},
		{args: words("app list --json"), out: "[]\n"},
		{args: words("ping"), exit: exitLocal, err: "not in this version of the protocol"},
		{args: words("tail"), exit: exitUsage, err: "needs --protocol 1"},
	} {
		s.args = append(s.args, "--protocol", "0")
		s.check(t)
	}
}

// An application in the storage, from its upload to its end.
func TestApplications(t *testing.T) {
	dir := t.TempDir()
	program := enginetest.Build(t, "../../examples/echo")
	for name, text := range map[string]string{
		"manifest.json": `{"slave": "run.sh", "environment": {"X": "1"}}`,
		"profile.json":  `{"pool-limit": 3}`,
		"run.sh":        "#!/bin/sh\nexec '" + program + "' \"$@\"\n",
		"bad.json":      `{"pool-limit": "many"}`,
		"good.yaml":     "pool-limit: 2\nconcurrency: 5\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := up(t)
	t.Setenv(locatorVar, r.locator)
	for _, s := range []step{
		{args: words("app list --json"), out: "[]\n"},
		{args: words("app upload shop /no/such/dir"), exit: exitLocal, err: "/no/such/dir"},
		{args: []string{"app", "upload", "shop", dir}},
		{args: words("app list"), out: "APP*\nshop*-*yes\n"},
		{args: words("app view shop"), out: "environment:\n  X: 1\nslave: run.sh\n"},
		{args: words("app profile list"), out: "shop\n"},
		{args: words("app profile view shop"), out: "pool-limit: 3\n"},
		{args: []string{"app", "profile", "upload", "bad", "--file", filepath.Join(dir, "bad.json")}, exit: exitLocal, err: "pool-limit"},
		{args: []string{"app", "profile", "upload", "good", "--file", filepath.Join(dir, "good.yaml")}},
		{args: words("app profile view good --json"), out: "{\"concurrency\":5,\"pool-limit\":2}\n"},
		{args: words("app start nobody"), exit: exitRemote, err: "nobody"},
		{args: words("app list"), out: "APP*\nshop*-*yes\n"},
		{args: words("app start shop --profile good")},
		{args: words("call shop echo hello"), out: "hello\n"},
		{args: words("app start shop"), exit: exitRemote, err: "sluice: ["},
		{args: words("app rm shop"), exit: exitLocal, err: "'sluice app pause shop'"},
		{args: words("app restart shop")},
		{args: words("call shop ping"), out: "pong\n"},
		{args: words("app pause shop")},
		{args: words("call shop ping"), exit: exitRemote, err: "[10, 1]"},
		{args: []string{"app", "upload", "shop", dir, "--start"}},
		{args: words("call shop ping"), out: "pong\n"},
		{args: words("app rm shop --force")},
		{args: words("app profile rm shop")},
		{args: words("app profile rm good")},
		{args: words("app profile list --json"), out: "[]\n"},
		{args: words("app list --json"), out: "[]\n"},
	} {
		s.check(t)
	}
}

// A worker that dies leaves a crash log.
func TestCrashlog(t *testing.T) {
	r := up(t, "--app", "dying="+asRole("serve"))
	t.Setenv(locatorVar, r.locator)
	awaitCrash(t, "dying")
	for _, s := range []step{
		{args: words("app crashlog list dying"), out: "TIME*WORKER*KEY\n20*:*\n"},
		{args: words("app crashlog view dying"), out: "*going down\n*"},
		{args: words("app crashlog rm dying")},
		{args: words("app crashlog list dying --json"), out: "[]\n"},
		{args: words("app crashlog view dying"), exit: exitLocal, err: "no crash log of dying"},
	} {
		s.check(t)
	}
}
