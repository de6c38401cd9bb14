package worker

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
)

// Environment variables that an engine sets.
const (
	EnvTokenType = "COCAINE_APP_TOKEN_TYPE" // kind of the token, e.g. "TVM" (v1)
	EnvTokenBody = "COCAINE_APP_TOKEN_BODY" // the token itself (v1)
	// EnvEngine has the worker's own uuid as its value if the engine is of our kind: then
	// the worker offers it extensions. Another engine inherits the variable at most with
	// the uuid of somebody else.
	EnvEngine = "SLUICE_ENGINE"
)

// Token authorizes the application towards secure services (v1 runtimes put it into
// the environment). However it is printed, logged or marshalled, its body does not show.
type Token struct {
	Type string
	Body string
}

// String returns the type without the body: a token must not reach a log.
func (t Token) String() string {
	if t.Type == "" && t.Body == "" {
		return "none"
	}
	return t.Type + " ***"
}

// Format is String for every verb of package fmt, %#v and %d too.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// MarshalText is String for encoders and log handlers.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// FromArgs returns the configuration that an engine gave this process: the flags
// --app, --endpoint, --uuid, --locator and --protocol, in any order, as "--key value"
// or "--key=value", and the token and EnvEngine in the environment. Unknown flags are ignored, since
// engines may add some. Without --protocol the dialect is v0 (PROTOCOL.md, 6).
// What is wrong with the flags is reported by New.
func FromArgs(args []string) Config {
	var cfg Config
	for i := 0; i < len(args); i++ {
		name, value, inline := strings.Cut(args[i], "=")
		if !strings.HasPrefix(name, "-") {
			continue
		}
		set := cfg.flag(strings.TrimLeft(name, "-"))
		if set == nil {
			continue // its value, if it has one, is no flag and skipped like any other
		}
		if !inline && i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			i++
			value = args[i]
		}
		set(value)
	}
	cfg.Sessions.Extensions.Offer = cfg.UUID != "" && os.Getenv(EnvEngine) == cfg.UUID
	cfg.Token = Token{Type: os.Getenv(EnvTokenType), Body: os.Getenv(EnvTokenBody)}
	return cfg
}

// flag returns what takes the value of a flag, nil if the flag is unknown. Of a flag
// that is given twice the last counts.
func (c *Config) flag(name string) func(value string) {
	switch name {
	case "app":
		return func(v string) { c.App = v }
	case "endpoint":
		return func(v string) { c.Endpoint = v }
	case "uuid":
		return func(v string) { c.UUID = v }
	case "locator":
		return func(v string) { c.Locators = parseLocators(v) }
	case "protocol":
		return c.setProtocol
	}
	return nil
}

func (c *Config) setProtocol(value string) {
	c.err = nil
	switch value {
	case "0":
		c.Dialect = codec.V0
	case "1":
		c.Dialect = codec.V1
	default:
		c.err = fmt.Errorf("worker: --protocol %q, want 0 or 1", value)
	}
}

const locatorPort = "10053" // where a locator listens if nobody says otherwise

// parseLocators takes the forms of all engines: a bare port (0.10), host:port (0.11),
// a comma list of them with v6 addresses in brackets (0.12).
func parseLocators(value string) []string {
	var list []string
	for _, s := range strings.Split(value, ",") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, locatorAddr(s))
		}
	}
	return list
}

// locatorAddr completes an address to host:port. 0.11 writes a v6 address and its port
// without brackets, so the last colon is taken for the port's.
func locatorAddr(s string) string {
	if _, _, err := net.SplitHostPort(s); err == nil {
		return s
	}
	if _, err := strconv.ParseUint(s, 10, 16); err == nil {
		return net.JoinHostPort("localhost", s)
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasPrefix(s, "[") {
		return net.JoinHostPort(s[:i], s[i+1:])
	}
	return net.JoinHostPort(strings.Trim(s, "[]"), locatorPort)
}

// network says how to dial an endpoint: engines give the path of a unix socket; a
// host:port is dialled by TCP.
func network(endpoint string) string {
	if strings.ContainsAny(endpoint, "/@") || !strings.Contains(endpoint, ":") {
		return "unix"
	}
	return "tcp"
}
