package engine_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
)

const settingsJSON = `{
  "listen": "127.0.0.1:20000", "dir": "state", "runtime-dir": "/run/sluice", "grace": "90s", "protocol": 0,
  "max-apps": 3, "max-conns": -1, "max-package-bytes": 1000, "resolve-published": true, "log": {"file": "sluice.log", "format": "text"},
  "apps": {
    "echo": {"command": "./echo --verbose", "dir": "src", "environment": {"B": "2", "A": "1"}, "protocol": 0},
    "list": {"command": ["/bin/echo", "a b"]},
    "shop": {"path": "shop.tar.gz", "profile": "large"}
  },
  "profiles": {"large": {"pool-limit": 20, "concurrency": 5}},
  "groups": {"all": {"echo": 3, "shop": 1}}
}`

func TestParseSettings(t *testing.T) {
	got, err := engine.ParseSettings("/etc/sluice.json", []byte(settingsJSON))
	if err != nil {
		t.Fatal(err)
	}
	large := got.Profiles["large"]
	if large.PoolLimit != 20 || large.Concurrency != 5 || large.Name != "large" {
		t.Errorf("Profiles = %+v, want those of the file", got.Profiles)
	}
	got.Profiles = nil
	etc := func(name string) string { return filepath.Join("/etc", name) }
	want := engine.Config{
		Listen: "127.0.0.1:20000", Dir: etc("state"), RuntimeDir: "/run/sluice", Grace: 90 * time.Second, V0: true,
		MaxApps: 3, MaxConns: -1, ResolvePublished: true, Package: engine.PackageLimits{MaxPackedBytes: 1000}, Logging: engine.LoggingConfig{File: etc("sluice.log"), Format: engine.LogText},
		Apps: []engine.Source{
			{Name: "echo", Command: engine.Shell("./echo --verbose"), Dir: etc("src"), V0: true, Env: []string{"A=1", "B=2"}},
			{Name: "list", Command: []string{"/bin/echo", "a b"}},
			{Name: "shop", Path: etc("shop.tar.gz"), Profile: "large"},
		},
		Groups: map[string]map[string]uint32{"all": {"echo": 3, "shop": 1}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ParseSettings() =\n%+v, want\n%+v", got, want)
	}
	if got, err := engine.ParseSettings("f", []byte("{}")); err != nil || !reflect.DeepEqual(got, engine.Config{}) {
		t.Errorf("ParseSettings({}) = %+v, %v, want the zero Config", got, err)
	}
}

func TestBadSettings(t *testing.T) {
	for _, c := range []struct{ raw, field, want string }{
		{"", "", "is empty"},
		{"[]", "", "want a map"},
		{"{\n\"listen\": \n,}", "", "line 3"},
		{`{} {}`, "", "behind the map"},
		{`{"listen": "a:1", "listen": "b:1"}`, "", "twice"},
		{`{"lissten": "a:1"}`, "lissten", "is unknown; there are listen,"},
		{`{"listen": 5}`, "listen", "want host:port"},
		{`{"listen": "10053"}`, "listen", "want host:port"},
		{`{"listen": ":10053"}`, "listen", "name a host"},
		{`{"listen": "a:1"`, "", "line 1: the map has no end"},
		{`{"listen": `, "", "line 1: the map has no end"},
		{`{"grace": "soon"}`, "grace", `want a time such as "10s"`},
		{`{"grace": 1e300}`, "grace", "too long"},
		{`{"protocol": 2}`, "protocol", "want 0 or 1"},
		{`{"log": {}}`, "log.file", "is missing"},
		{`{"log": {"file": "a", "format": "xml"}}`, "log.format", `want "json" or "text"`},
		{`{"log": {"file": "a", "level": 1}}`, "log.level", "there are file, format"},
		{`{"apps": 1}`, "apps", "want a map"},
		{`{"apps": {"a": 1}}`, "apps.a", "want a map"},
		{`{"apps": {"a": null}}`, "apps.a", "want a map"},
		{`{"apps": {"a": {}}}`, "apps.a", "either a command or a path"},
		{`{"apps": {"a": {"command": "x", "path": "y"}}}`, "apps.a", "either a command or a path"},
		{`{"apps": {"a": {"command": [1]}}}`, "apps.a.command", "list of strings"},
		{`{"apps": {"a": {"command": "x", "profil": "y"}}}`, "apps.a.profil", "is unknown"},
		{`{"apps": {"a": {"path": "x", "protocol": 1}}}`, "apps.a.protocol", "manifest"},
		{`{"apps": {"a": {"path": "x", "dir": "y"}}}`, "apps.a.dir", "one of its own"},
		{`{"apps": {"a": {"command": "x", "environment": {"A=": "1"}}}}`, "apps.a.environment", "no variable"},
		{`{"apps": {"../a": {"command": "x"}}}`, "apps.../a", "begins with a letter"},
		{`{"apps": {"node": {"command": "x"}}}`, "apps.node", "stock service"},
		{`{"profiles": {"p": {"pool-limit": -1}}}`, "profiles.p.pool-limit", "is -1, want 1 to 1024"},
		{`{"profiles": {"p": {"isolate": {"type": "docker"}}}}`, "profiles.p.isolate.type", `is "docker"`},
		{`{"profiles": {"p": {"isolate": {"type": 5}}}}`, "profiles.p.isolate.type", "is no string"},
		{`{"profiles": {"p": {"seal-timeout": 0}}}`, "profiles.p.seal-timeout", "is 0, want seconds above 0"},
		{`{"profiles": {"p": {"pool-limits": 1}}}`, "profiles.p.pool-limits", "misspelt"},
		{`{"profiles": {"p": []}}`, "profiles.p", ""},
		{`{"groups": {"g": {}}}`, "groups.g", "at least one service"},
		{`{"groups": {"g": {"a": 0}}}`, "groups.g.a", "weight of 1"},
		{strings.Repeat(" ", 1<<20) + "{}", "", "limit 1048576"},
	} {
		_, err := engine.ParseSettings("sluice.json", []byte(c.raw))
		var fe *engine.FieldError
		if !errors.As(err, &fe) || fe.Field != c.field || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "sluice.json: ") {
			t.Errorf("ParseSettings(%.60s) = %v, want field %q and %q", c.raw, err, c.field, c.want)
		}
	}
}

func TestParseManifest(t *testing.T) {
	packed := codec.AppendMapHeader(nil, 2)
	packed = codec.AppendString(codec.AppendString(packed, "slave"), "/bin/worker")
	packed = codec.AppendUint(codec.AppendString(packed, "protocol"), 0)
	m, err := engine.ParseManifest("manifests/a", packed)
	if err != nil || m.Slave != "/bin/worker" || !m.V0 {
		t.Errorf("ParseManifest(msgpack) = %+v, %v, want what was packed", m, err)
	}
	for _, c := range []struct{ raw, field string }{
		{"", ""}, {"\xc1", ""}, {"\x81\xa5slave", ""}, {"\xc0", ""},
		{`{}`, "slave"}, {`{"slave": ""}`, "slave"}, {`{"slave": "../x"}`, "slave"}, {`{"slave": "a\u0000"}`, "slave"},
		{`{"slave": "a", "environment": []}`, "environment"}, {`{"slave": "a", "environment": {"": "x"}}`, "environment"},
		{`{"slave": "a", "protocol": 3}`, "protocol"}, {`{"slave": "a", "protocol": "1"}`, "protocol"},
	} {
		_, err := engine.ParseManifest("manifests/a", []byte(c.raw))
		var fe *engine.FieldError
		if !errors.As(err, &fe) || fe.Field != c.field || fe.File != "manifests/a" {
			t.Errorf("ParseManifest(%q) = %v, want an error of the field %q", c.raw, err, c.field)
		}
	}
}

// No parser fails on what it is given, and what it takes makes sense.
func FuzzParse(f *testing.F) {
	f.Add([]byte(settingsJSON))
	f.Add([]byte(manifestJSON))
	f.Add([]byte("\x81\xa5slave\xa1a"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var fe *engine.FieldError
		if m, err := engine.ParseManifest("f", raw); err == nil && m.Slave == "" || err != nil && !errors.As(err, &fe) {
			t.Errorf("ParseManifest() = %+v, %v", m, err)
		}
		if _, err := engine.ParseSettings("f", raw); err != nil && !errors.As(err, &fe) {
			t.Errorf("ParseSettings() = %v, want a *FieldError", err)
		}
	})
}
