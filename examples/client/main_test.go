package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
)

// The program does what it says, against a runtime with the echo example as application.
func TestClient(t *testing.T) {
	echo := filepath.Join(t.TempDir(), "echo")
	if out, err := exec.Command("go", "build", "-o", echo, "../echo").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	var logged bytes.Buffer
	e, err := engine.New(engine.Config{
		Listen: "127.0.0.1:0", Dir: t.TempDir(),
		Apps:    []engine.Source{{Name: "echo", Command: []string{echo}}},
		Logging: engine.LoggingConfig{Output: &logged},
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	select {
	case <-e.Ready():
	case err := <-ended:
		t.Fatalf("Run() = %v", err)
	}
	if got, want := capture(t, e.Endpoint()), "stored: 42\necho: hello\n"; got != want {
		t.Errorf("the program printed %q, want %q", got, want)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run() = %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the runtime does not end")
	}
	if !strings.Contains(logged.String(), "done") {
		t.Errorf("the runtime has logged %q, want the client's record", &logged)
	}
}

// capture runs the program and returns what it prints.
func capture(t *testing.T, locator service.Endpoint) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdout
	os.Stdout = w
	err = run([]string{locator.String()})
	os.Stdout = before
	_ = w.Close()
	out, readErr := io.ReadAll(r)
	if err != nil || readErr != nil {
		t.Errorf("run() = %v, %v", err, readErr)
	}
	return string(out)
}

// README.md shows this program and the echo worker's shape as they are.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, ok := strings.Cut(string(program), "func run(")
	if !ok {
		t.Fatal("main.go has no func run")
	}
	if !strings.Contains(string(readme), "func run("+body) {
		t.Error("README.md does not have func run of examples/client/main.go as it is")
	}
}
