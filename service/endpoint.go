package service

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
)

// LocatorPort is where a locator listens if nobody says otherwise (protocol: locator).
const LocatorPort = 10053

// maxHostBytes is more than any name of a host can have.
const maxHostBytes = 255

// Endpoint is where a service listens: a host by name or address, and a TCP port. On the
// wire it is [host, port] (protocol: locator). Endpoints compare with ==.
type Endpoint struct {
	// Host is a name, or an address without brackets; a v6 address may have a zone.
	Host string
	// Port is 0 in no endpoint that can be dialled, but peers may say so.
	Port uint16
}

// ParseEndpoint reads "host:port" or "[v6]:port". Host and port must be there.
func ParseEndpoint(text string) (Endpoint, error) {
	e, err := parseEndpoint(text)
	if err != nil {
		return Endpoint{}, fmt.Errorf("service: endpoint %q: %w", text, err)
	}
	return e, nil
}

// String returns "host:port", or "[v6]:port", as net.Dial takes it.
func (e Endpoint) String() string { return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))) }

// JoinEndpoints returns the comma list of endpoints that engines give to their workers
// and that ParseLocators reads (protocol: command line of a worker).
func JoinEndpoints(list []Endpoint) string {
	var all []string
	for _, e := range list {
		all = append(all, e.String())
	}
	return strings.Join(all, ",")
}

// ParseLocators reads the addresses of locators in every form that engines and users
// write (protocol: command line of a worker): a comma list of "host:port", "[v6]:port",
// a host alone, which has LocatorPort, and a port alone, which is on localhost. An old
// engine writes a v6 address and its port without brackets; so what follows the last
// colon is the port, if both make sense then, and else all of it is the address. Empty
// items are left out; if there is no other, it is localhost:10053.
func ParseLocators(text string) ([]Endpoint, error) {
	var list []Endpoint
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		if len(list) == MaxEndpoints {
			return nil, fmt.Errorf("service: more than %d locators", MaxEndpoints)
		}
		e, err := parseLocator(item)
		if err != nil {
			return nil, fmt.Errorf("service: locator %q: %w", item, err)
		}
		list = append(list, e)
	}
	if list == nil {
		list = []Endpoint{{"localhost", LocatorPort}}
	}
	return list, nil
}

func parseLocator(item string) (Endpoint, error) {
	if strings.Trim(item, "0123456789") == "" {
		port, err := parsePort(item)
		return Endpoint{"localhost", port}, err
	}
	bare, bracketed := cutBrackets(item)
	colons := strings.Count(item, ":")
	switch {
	case bracketed && !isV6(bare):
		return Endpoint{}, errNoV6
	case bracketed || colons == 0:
		return endpoint(bare, LocatorPort)
	case colons == 1 || item[0] == '[':
		return parseEndpoint(item)
	}
	i := strings.LastIndexByte(item, ':')
	if port, err := parsePort(item[i+1:]); err == nil && isV6(item[:i]) {
		return Endpoint{item[:i], port}, nil
	}
	return endpoint(item, LocatorPort)
}

// cutBrackets takes off the brackets of an address without port.
func cutBrackets(s string) (string, bool) {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		return s[1 : len(s)-1], true
	}
	return s, false
}

var (
	errNoHost   = errors.New("no host")
	errNoPort   = errors.New("no port")
	errBadPort  = errors.New("the port is no number of 1..65535")
	errBadHost  = errors.New("the host is neither a name nor an address")
	errLongHost = fmt.Errorf("a host of more than %d bytes", maxHostBytes)
	errNoV6     = errors.New("no v6 address in brackets")
)

func parseEndpoint(text string) (Endpoint, error) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return Endpoint{}, errNoPort
	}
	host, bracketed := cutBrackets(text[:i])
	if bracketed != strings.Contains(host, ":") {
		return Endpoint{}, errNoV6
	}
	port, err := parsePort(text[i+1:])
	if err != nil {
		return Endpoint{}, err
	}
	return endpoint(host, port)
}

func endpoint(host string, port uint16) (Endpoint, error) {
	if err := checkHost(host); err != nil {
		return Endpoint{}, err
	}
	return Endpoint{host, port}, nil
}

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, errBadPort
	}
	return uint16(port), nil
}

// checkHost lets through what can be dialled and is no trick: no empty host, which
// would be this machine, and nothing that reads otherwise once a port is behind it.
func checkHost(host string) error {
	switch {
	case host == "":
		return errNoHost
	case len(host) > maxHostBytes:
		return errLongHost
	case strings.Contains(host, ":") && !isV6(host), !strings.Contains(host, ":") && !isName(host):
		return errBadHost
	}
	return nil
}

func isV6(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Is6() && (addr.Zone() == "" || isName(addr.Zone()))
}

// isName holds for names of hosts and interfaces, and for v4 addresses.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' && s[i] != '.' && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

// DecodeEndpoint reads [host, port]. raw is borrowed and holds nothing else.
func DecodeEndpoint(raw []byte) (Endpoint, error) {
	r := valueReader(raw)
	e := r.endpoint()
	r.end()
	return done(&r, "endpoint", e)
}

// DecodeEndpoints reads a list of [host, port], at most MaxEndpoints. raw is borrowed and
// holds nothing else.
func DecodeEndpoints(raw []byte) ([]Endpoint, error) {
	r := valueReader(raw)
	list := r.endpoints()
	r.end()
	return done(&r, "endpoints", list)
}

// AppendEndpoint appends [host, port].
func AppendEndpoint(dst []byte, e Endpoint) []byte {
	dst = codec.AppendString(codec.AppendArrayHeader(dst, 2), e.Host)
	return codec.AppendUint(dst, uint64(e.Port))
}

// AppendEndpoints appends a list of [host, port].
func AppendEndpoints(dst []byte, list []Endpoint) []byte {
	dst = codec.AppendArrayHeader(dst, len(list))
	for _, e := range list {
		dst = AppendEndpoint(dst, e)
	}
	return dst
}

func (r *reader) endpoint() Endpoint {
	surplus := r.tuple("endpoint", 2)
	host := r.Bytes()
	port := uint16(r.number("port", 1<<16-1))
	r.skip(surplus)
	if !r.ok() {
		return Endpoint{}
	}
	if len(host) > maxHostBytes { // before it is copied
		r.refused = errLongHost
		return Endpoint{}
	}
	e, err := endpoint(string(host), port)
	if err != nil {
		r.refused = err
	}
	return e
}

func (r *reader) endpoints() []Endpoint {
	var list []Endpoint
	for n := r.list("endpoints", MaxEndpoints); n > 0 && r.ok(); n-- {
		list = append(list, r.endpoint())
	}
	return list
}
