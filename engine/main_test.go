package engine_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
)

// roleVar says what this test program is when it is started as a worker.
const roleVar = "ENGINE_TEST_ROLE"

// roles are what the test program can be. A role that returns exits with 0.
var roles = map[string]func(){
	"echo":     func() { serveEcho(newFromArgs()) },
	"recorded": func() { serveRecorded(newFromArgs()) },
	"args":     showArgs,
	"exit":     exitAtOnce,
	"mute":     func() { select {} },
	"deaf":     func() { ignoreTerminate(newFromArgs()) },
	"stubborn": func() { signal.Ignore(syscall.SIGTERM); ignoreTerminate(newFromArgs()) },
	"tree":     growTree,
	"leaf":     func() { signal.Ignore(syscall.SIGTERM, syscall.SIGHUP); time.Sleep(time.Hour) },
	"engine":   beEngine,
	"node":     beNode,
}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVar)]; role != nil {
		role()
		os.Exit(0)
	}
	code := m.Run()
	if code == 0 && !quiet() {
		code = 1
	}
	os.Exit(code)
}

// quiet waits for the goroutines of the tests to end and reports whether they did.
func quiet() bool {
	buf := make([]byte, 1<<20)
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(10 * time.Millisecond) {
		_, others, _ := strings.Cut(string(buf[:runtime.Stack(buf, true)]), "\n\n") // the first is this one
		if !strings.Contains(others, "sluice-rpc") {
			return true
		}
	}
	fmt.Printf("goroutines are left:\n%s", buf[:runtime.Stack(buf, true)])
	return false
}

// flag returns the value of a flag that the engine gave.
func flagOf(name string) string {
	for i, arg := range os.Args[:len(os.Args)-1] {
		if arg == name {
			return os.Args[i+1]
		}
	}
	return ""
}

// newFromArgs connects as the engine's flags say, shakes hands and beats.
func newFromArgs() *rawWorker {
	conn, err := net.Dial("unix", flagOf("--endpoint"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	d := codec.V0
	if flagOf("--protocol") == "1" {
		d = codec.V1
	}
	w := newRaw(conn, d)
	if err := w.send(handshake(flagOf("--uuid")), heartbeat); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return w
}

// serveEcho answers chunks and chokes until a terminate.
func serveEcho(w *rawWorker) {
	for {
		frame, m, err := w.next()
		if err != nil {
			fmt.Println("echo:", err)
			os.Exit(1)
		}
		control := m.Session == 0 || w.d == codec.V1 && m.Session == codec.V1ControlSession
		switch {
		case control && m.NumArgs == 2:
			_, _ = w.Write(frame) // the answer to a terminate is the same frame
			_ = w.Close()
			return
		case control, m.NumArgs == 1 && string(m.Payload) == "event":
		default:
			if _, err := w.Write(frame); err != nil {
				os.Exit(1)
			}
		}
	}
}

func ignoreTerminate(w *rawWorker) {
	for {
		if _, _, err := w.next(); err != nil {
			time.Sleep(time.Hour)
		}
	}
}

// showArgs prints how it was started, in the lines that TestStart wants.
func showArgs() {
	dir, _ := os.Getwd()
	fmt.Println(strings.Join(os.Args[1:], " "))
	fmt.Fprintln(os.Stderr, dir, os.Getenv("OF_OURS"), os.Getenv("OF_CONFIG"), os.Getenv(engine.EnvEngine))
}

func exitAtOnce() {
	for i := range 60 {
		fmt.Println("line", i)
	}
	os.Exit(3)
}

// growTree starts two processes that are hard to end, and then serves.
func growTree() {
	for range 2 {
		leaf := exec.Command(os.Args[0])
		leaf.Env = append(os.Environ(), roleVar+"=leaf")
		leaf.Stdout, leaf.Stderr = os.Stdout, os.Stderr
		if err := leaf.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	serveEcho(newFromArgs())
}

// beEngine spawns a worker with children that do nothing, tells its pid, and waits to be
// killed.
func beEngine() {
	s, err := engine.Spawn(context.Background(), self("tree", engine.SlaveConfig{}))
	if err == nil {
		err = s.Ready(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.PID())
	time.Sleep(time.Hour)
}

// beNode is an engine with an application, a package at $NODE_PACKAGE, that waits to be
// killed. It says where its locator is.
func beNode() {
	ctx := context.Background()
	e, err := engine.New(engine.Config{Listen: "127.0.0.1:0", Dir: os.Getenv("NODE_DIR")})
	if err == nil {
		go func() { fmt.Println("Run:", e.Run(ctx)) }()
		<-e.Ready()
		var p *engine.Package
		if p, err = engine.ReadPackage(os.Getenv("NODE_PACKAGE"), engine.PackageLimits{}); err == nil {
			err = e.Deploy(ctx, "echo", p)
		}
	}
	if err == nil {
		err = e.StartApp(ctx, "echo", "")
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(e.Endpoint())
	time.Sleep(time.Hour)
}

// self has the slave be this program in a role.
func self(role string, cfg engine.SlaveConfig) engine.SlaveConfig {
	cfg.Command = []string{os.Args[0]}
	cfg.Env = append(cfg.Env, roleVar+"="+role, "GORACE=atexit_sleep_ms=0")
	return cfg
}
