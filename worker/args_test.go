package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

func TestFromArgs(t *testing.T) {
	t.Setenv(worker.EnvTokenType, "TVM")
	t.Setenv(worker.EnvTokenBody, "abc")
	full := worker.Config{App: "echo", Endpoint: "/run/e.1", UUID: "u-1", Locators: []string{"localhost:10053"}, Dialect: codec.V1}
	v0 := full
	v0.Dialect = codec.V0
	for _, tt := range []struct {
		name string
		args string
		want worker.Config
	}{
		{"nothing", "", worker.Config{}},
		{"v1 engine", "--app echo --endpoint /run/e.1 --locator localhost:10053 --protocol 1 --uuid u-1", full},
		{"v0 engine", "--app echo --endpoint /run/e.1 --locator localhost:10053 --uuid u-1", v0},
		{"protocol 0", "--app echo --endpoint /run/e.1 --locator localhost:10053 --uuid u-1 --protocol 0", v0},
		{"oldest engine", "--app echo --endpoint /run/e.1 --locator 10053 --uuid u-1", v0},
		{"any order", "--uuid u-1 --protocol 1 --locator localhost:10053 --endpoint /run/e.1 --app echo", full},
		{"equals", "--uuid=u-1 --protocol=1 --locator=localhost:10053 --endpoint=/run/e.1 --app=echo", full},
		{"mixed", "--uuid=u-1 --protocol 1 --locator=localhost:10053 --endpoint /run/e.1 --app=echo", full},
		{"one dash", "-uuid u-1 -protocol 1 -locator localhost:10053 -endpoint=/run/e.1 -app echo", full},
		{"unknown with value", "--x y --uuid u-1 --protocol 1 --z=1 --locator localhost:10053 --endpoint /run/e.1 --w --app echo", full},
		{"unknown without value", "--verbose --uuid u-1 --protocol 1 -v --locator localhost:10053 -d -endpoint /run/e.1 --app echo --last", full},
		{"words between", "run --uuid u-1 now --protocol 1 -- --locator localhost:10053 --endpoint /run/e.1 --app echo here", full},
		{"twice", "--app one --uuid u-1 --protocol 7 --protocol 1 --locator localhost:10053 --endpoint /run/e.1 --app echo", full},
		{"without value", "--app --endpoint /run/e.1 --uuid", worker.Config{Endpoint: "/run/e.1"}},
		{"equals in the value", "--app=a=b --endpoint=/run/a=b", worker.Config{App: "a=b", Endpoint: "/run/a=b"}},
		{"dash in the value", "--app -x- --uuid -", worker.Config{App: "-x-", UUID: "-"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := worker.FromArgs(strings.Fields(tt.args))
			tt.want.Token = worker.Token{Type: "TVM", Body: "abc"}
			if !reflect.DeepEqual(got, tt.want) || got.Token.Body != "abc" {
				t.Errorf("FromArgs(%q) = %+v, want %+v", tt.args, got, tt.want)
			}
		})
	}
}

func TestLocators(t *testing.T) {
	for value, want := range map[string][]string{
		"10053":                              {"localhost:10053"}, // 0.10
		"localhost:10053":                    {"localhost:10053"}, // 0.11
		"::1:10053":                          {"[::1]:10053"},     // 0.11 with a v6 address
		"10.0.0.1:10053,[fe80::1%eth0]:1053": {"10.0.0.1:10053", "[fe80::1%eth0]:1053"},
		" a:1 , b:2 ,":                       {"a:1", "b:2"},
		"host":                               {"host:10053"},
		"[::1]":                              {"[::1]:10053"},
		"":                                   nil,
		",":                                  nil,
	} {
		if got := worker.FromArgs([]string{"--locator", value}).Locators; !slices.Equal(got, want) {
			t.Errorf("--locator %q: Locators = %q, want %q", value, got, want)
		}
	}
}

func TestNewErrors(t *testing.T) {
	ok := "--app a --endpoint /e --uuid u --protocol 1 "
	for _, tt := range []struct {
		args string
		want string
	}{
		{ok + "--protocol 2", `--protocol "2", want 0 or 1`},
		{ok + "--protocol v1", `--protocol "v1", want 0 or 1`},
		{ok + "--protocol", `--protocol "", want 0 or 1`},
		{"--app a --uuid u", "no --endpoint"},
		{"", "no --endpoint"},
		{"--app a --endpoint /e", "no --uuid"},
		{ok + "--uuid=", "no --uuid"},
		{ok + "--endpoint /" + strings.Repeat("e", 200), "--endpoint has 201 bytes"},
		{ok + "--endpoint " + strings.Repeat("e", 200) + ":1", ""}, // dialled by TCP
		{ok, ""},
	} {
		_, err := worker.New(worker.FromArgs(strings.Fields(tt.args)))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%q) = %v, want %q", tt.args, err, tt.want)
		}
		if tt.want == "no --endpoint" && !errors.Is(err, worker.ErrNoEndpoint) {
			t.Errorf("New(%q) = %v, want ErrNoEndpoint", tt.args, err)
		}
	}
	for _, cfg := range []worker.Config{
		{Endpoint: "/e", UUID: "u", Dialect: 2},
		{Endpoint: "/e", UUID: "u", Sessions: session.Config{Channel: channel.Config{HighWaterBytes: 1, LowWaterBytes: 2}}},
	} {
		if _, err := worker.New(cfg); err == nil {
			t.Errorf("New(%+v) = nil, want an error", cfg)
		}
	}
}

// Durations of every size are taken: nothing overflows, nothing is due at once.
func TestDurations(t *testing.T) {
	for _, d := range []time.Duration{math.MinInt64, -1, 0, math.MaxInt64 - 1, math.MaxInt64} {
		cfg := worker.Config{
			Endpoint: "/e", UUID: "u",
			ConnectTimeout: d, Heartbeat: d, Disown: d, Grace: d, Watchdog: d,
		}
		if _, err := worker.New(cfg); err != nil {
			t.Errorf("New with durations of %v = %v", d, err)
		}
	}
}

// A token in the configuration is a secret, however it is printed.
func TestTokenHidden(t *testing.T) {
	const canary = "canary-7f1c"
	t.Setenv(worker.EnvTokenType, "TVM")
	t.Setenv(worker.EnvTokenBody, canary)
	cfg := worker.FromArgs([]string{"--app", "a", "--endpoint", "/e", "--uuid", "u"})
	if cfg.Token.Body != canary {
		t.Fatalf("Token.Body = %q, want %q", cfg.Token.Body, canary)
	}
	var out bytes.Buffer
	text, js := slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))
	cfg.Logger = text
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Token(); got.Body != canary || got.Type != "TVM" {
		t.Errorf("Token() = %q %q, want the token of the environment", got.Type, got.Body)
	}
	values := []any{cfg.Token, &cfg.Token, cfg, &cfg, w, *new(worker.Config), []worker.Token{cfg.Token}, map[string]any{"t": cfg.Token}}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		text.Info("value", "v", v)
		js.Info("value", "v", v)
	}
	if p, err := json.Marshal(cfg.Token); err != nil || string(p) != `"TVM ***"` {
		t.Errorf("json.Marshal(Token) = %s, %v", p, err)
	}
	_, err = worker.New(worker.Config{Token: cfg.Token})
	fmt.Fprintln(&out, err)
	hexed := fmt.Sprintf("%x", canary)
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, canary) || strings.Contains(line, hexed) {
			t.Errorf("the token shows: %s", line)
		}
	}
	if got := (worker.Token{}).String(); got != "none" {
		t.Errorf("String() of no token = %q, want none", got)
	}
}

// A worker and what it was given.
func TestAccessors(t *testing.T) {
	w, err := worker.New(worker.Config{App: "a", UUID: "u", Endpoint: "/e", Locators: []string{"l:1"}})
	if err != nil {
		t.Fatal(err)
	}
	if w.App() != "a" || !slices.Equal(w.Locators(), []string{"l:1"}) || w.State() != worker.Closed {
		t.Errorf("App() = %q, Locators() = %q, State() = %v", w.App(), w.Locators(), w.State())
	}
	if s := w.Stats(); s.Invoked != 0 || s.State != worker.Closed {
		t.Errorf("Stats() before Run = %+v", s)
	}
}

func TestConnectErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, "dead")
	if l, err := net.Listen("unix", dead); err != nil {
		t.Fatal(err)
	} else {
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
	}
	for _, endpoint := range []string{
		filepath.Join(dir, "missing"), file, dir, dead, "localhost:1", "@", "nowhere",
	} {
		var told error
		w, err := worker.New(worker.Config{
			UUID: "u", Endpoint: endpoint, Logger: slog.New(slog.DiscardHandler),
			Observer: worker.Observer{OnError: func(err error) { told = err }},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err = w.Run(ctx); err == nil || !strings.Contains(err.Error(), "connect to the engine") || told != err {
			t.Errorf("Run() at %q = %v, told %v, want an error of the connection", endpoint, err, told)
		}
		cancel()
		if s := w.State(); s != worker.Closed {
			t.Errorf("State() = %v, want closed", s)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("what lay at the endpoint is gone: %v", err)
	}
}

func FuzzFromArgs(f *testing.F) {
	for _, s := range []string{
		"--app echo --endpoint /e --locator 10053 --uuid u", "--protocol=1 --app=x", "--protocol 2", "--a --b c -d --", "=", "--=", "--locator ::1:10053,[::1],a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		cfg := worker.FromArgs(args)
		if !cfg.Dialect.Valid() {
			t.Fatalf("Dialect = %v", cfg.Dialect)
		}
		// What was found is found again in the plainest form.
		var plain []string
		for name, value := range map[string]string{
			"app": cfg.App, "endpoint": cfg.Endpoint, "uuid": cfg.UUID, "locator": strings.Join(cfg.Locators, ","),
		} {
			plain = append(plain, "--"+name+"="+value)
		}
		if cfg.Dialect == codec.V1 {
			plain = append(plain, "--protocol=1")
		}
		again := worker.FromArgs(plain)
		if again.App != cfg.App || again.Endpoint != cfg.Endpoint || again.UUID != cfg.UUID || again.Dialect != cfg.Dialect {
			t.Fatalf("FromArgs(%q) = %+v, then %+v", args, cfg, again)
		}
		w, err := worker.New(cfg)
		if (w == nil) != (err != nil) {
			t.Fatalf("New() = %v, %v", w, err)
		}
		// One more unknown flag in front changes nothing.
		more := worker.FromArgs(append([]string{"--unknown"}, args...))
		if len(args) > 0 && more.App != cfg.App {
			t.Fatalf("with an unknown flag App = %q, want %q", more.App, cfg.App)
		}
	})
}
