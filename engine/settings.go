package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// maxSettingsBytes bounds a configuration file.
const maxSettingsBytes = 1 << 20

// ParseSettings reads a configuration file: one JSON object. file is what errors, which
// are *FieldError, are to name. A field that is unknown or bad refuses the whole. Each
// field may be missing, which has it be as in the zero Config.
//
//	{
//	  "listen": "127.0.0.1:10053", "dir": "/var/lib/sluice", "runtime-dir": "/run/sluice",
//	  "grace": "10s", "protocol": 1, "max-apps": 256, "max-conns": 1024,
//	  "max-package-bytes": 67108864, "resolve-published": true,
//	  "log": {"file": "sluice.log", "format": "json"},
//	  "apps": {
//	    "echo": {"command": "./echo --verbose", "dir": "/src/echo", "environment": {"DEBUG": "1"}},
//	    "shop": {"path": "/srv/shop.tar.gz", "profile": "large"}
//	  },
//	  "profiles": {"large": {"pool-limit": 20}},
//	  "groups": {"echo-all": {"echo": 3, "echo-next": 1}}
//	}
//
// Relative paths are those of the directory that file is in. A command that is a string is
// a line for [Shell]; a list of strings is taken as it is. An app has either a command, and
// with it "protocol" (0 or 1), or a path. "protocol" at the top is that of the services.
func ParseSettings(file string, raw []byte) (Config, error) {
	f, err := parseFields(file, raw, maxSettingsBytes)
	if err != nil {
		return Config{}, err
	}
	var c Config
	base := filepath.Dir(file)
	f.take("listen", &c.Listen, "host:port")
	c.Dir = f.path("dir", base)
	c.RuntimeDir = f.path("runtime-dir", base)
	c.Grace = f.duration("grace")
	c.V0 = f.protocol()
	f.take("resolve-published", &c.ResolvePublished, "true or false")
	f.take("max-apps", &c.MaxApps, "a number")
	f.take("max-conns", &c.MaxConns, "a number")
	f.take("max-package-bytes", &c.Package.MaxPackedBytes, "a number")
	if log := f.object("log"); log != nil {
		log.log(&c.Logging, base)
		f.join(log)
	}
	if apps := f.object("apps"); apps != nil {
		c.Apps = apps.sources(base)
		f.join(apps)
	}
	if profiles := f.object("profiles"); profiles != nil {
		c.Profiles = profiles.profiles()
		f.join(profiles)
	}
	if groups := f.object("groups"); groups != nil {
		c.Groups = groups.groups()
		f.join(groups)
	}
	f.strict("listen", "dir", "runtime-dir", "grace", "protocol", "max-apps", "max-conns", "max-package-bytes", "resolve-published", "log", "apps", "profiles", "groups")
	if f.err != nil {
		return Config{}, f.err
	}
	checked := c
	err = checked.setDefaults()
	if fault := (*configFault)(nil); errors.As(err, &fault) {
		return Config{}, &FieldError{file, fault.key, fault.err}
	}
	if err != nil {
		return Config{}, &FieldError{file, "", err}
	}
	return c, nil
}

// log takes where the records of the logging service go.
func (f *fieldSet) log(c *LoggingConfig, base string) {
	var format string
	c.File = f.path("file", base)
	f.take("format", &format, `"json" or "text"`)
	switch format {
	case "", LogJSON.String():
	case LogText.String():
		c.Format = LogText
	default:
		f.fail("format", fmt.Errorf(`is %q, want "json" or "text"`, format))
	}
	if c.File == "" {
		f.fail("file", errors.New("is missing; without log the records go to the engine's own log"))
	}
	f.strict("file", "format")
}

// join keeps the error of a part.
func (f *fieldSet) join(part *fieldSet) {
	if f.err == nil {
		f.err = part.err
	}
}

// path takes a path, which is one of base.
func (f *fieldSet) path(key, base string) string {
	var p string
	f.take(key, &p, "a path")
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(base, p)
}

// protocol takes "protocol", and reports whether it is 0.
func (f *fieldSet) protocol() bool {
	n := 1
	f.take("protocol", &n, "0 or 1")
	if n != 0 && n != 1 {
		f.fail("protocol", fmt.Errorf("is %d, want 0 or 1", n))
	}
	return n == 0
}

// duration takes what time.ParseDuration reads, or a number of seconds. What is negative
// means no limit.
func (f *fieldSet) duration(key string) time.Duration {
	var text string
	raw := f.raw[key]
	if seconds, err := strconv.ParseFloat(string(raw), 64); err == nil {
		delete(f.raw, key)
		if math.Abs(seconds) > math.MaxInt64/float64(time.Second) {
			f.fail(key, fmt.Errorf("is %s seconds, which is too long", raw))
			return 0
		}
		return time.Duration(seconds * float64(time.Second))
	}
	f.take(key, &text, `a time such as "10s", or a number of seconds`)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		f.fail(key, fmt.Errorf(`is %q, want a time such as "10s"`, text))
	}
	return d
}

// sources takes every field as an application.
func (f *fieldSet) sources(base string) []Source {
	var list []Source
	for _, name := range f.rest() {
		app := f.object(name)
		if app == nil {
			f.fail(name, errors.New("want a map with either a command or a path"))
			continue
		}
		list = append(list, app.source(name, base))
		f.join(app)
	}
	return list
}

func (f *fieldSet) source(name, base string) Source {
	s := Source{Name: name}
	_, told := f.raw["protocol"]
	s.Command = f.command()
	s.Path = f.path("path", base)
	s.Dir = f.path("dir", base)
	s.V0 = f.protocol()
	s.Env = f.environment()
	f.take("profile", &s.Profile, "the name of a profile")
	f.strict("command", "path", "dir", "protocol", "environment", "profile")
	switch {
	case CheckAppName(name) != nil:
		f.fail("", CheckAppName(name))
	case (len(s.Command) == 0) == (s.Path == ""):
		f.fail("", errors.New("give it either a command or a path"))
	case s.Path != "" && told:
		f.fail("protocol", errors.New("is for a command; that of a package is in its manifest"))
	case s.Path != "" && s.Dir != "":
		f.fail("dir", errors.New("is for a command; a package has one of its own"))
	}
	return s
}

// command takes a line for the shell, or a list.
func (f *fieldSet) command() []string {
	raw := f.raw["command"]
	var line string
	var list []string
	if json.Unmarshal(raw, &line) == nil && line != "" {
		delete(f.raw, "command")
		return Shell(line)
	}
	f.take("command", &list, "a command line, or a list of strings")
	return list
}

func (f *fieldSet) environment() []string {
	m := Manifest{Slave: "x"}
	f.take("environment", &m.Environment, "a map of strings")
	if field, err := m.check(1); err != nil {
		f.fail(field, err)
	}
	return m.env()
}

// profiles takes every field as a profile.
func (f *fieldSet) profiles() map[string]Profile {
	list := make(map[string]Profile)
	for _, name := range f.rest() {
		p, unknown, err := readProfile(f.raw[name])
		delete(f.raw, name)
		if err != nil {
			inner := fieldSet{prefix: name}
			field, cause := faultyField(err)
			f.fail(inner.field(field), cause)
		}
		if len(unknown) > 0 {
			f.fail(name+"."+unknown[0], errors.New("is no key of a profile; is it misspelt?"))
		}
		p.Name = name
		list[name] = p
	}
	return list
}

// groups takes every field as a routing group.
func (f *fieldSet) groups() map[string]map[string]uint32 {
	list := make(map[string]map[string]uint32)
	for _, name := range f.rest() {
		var weights map[string]uint32
		f.take(name, &weights, "a map of services to weights")
		if len(weights) == 0 {
			f.fail(name, errors.New("want a map of at least one service to its weight"))
		}
		for _, member := range slices.Sorted(maps.Keys(weights)) {
			if weights[member] == 0 {
				f.fail(name+"."+member, errors.New("is 0, want a weight of 1 or more; leave out who is to get nothing"))
			}
		}
		list[name] = weights
	}
	return list
}

// parseProfile is readProfile with errors that name the file and the field.
func parseProfile(file string, raw []byte) (Profile, []string, error) {
	if len(raw) > maxManifestBytes {
		return Profile{}, nil, &FieldError{file, "", fmt.Errorf("%d bytes, limit %d", len(raw), maxManifestBytes)}
	}
	p, unknown, err := readProfile(raw)
	if err != nil {
		field, cause := faultyField(err)
		return Profile{}, nil, &FieldError{file, field, cause}
	}
	return p, unknown, nil
}
