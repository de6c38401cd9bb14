package service

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Config sets up a Client. The zero value works.
type Config struct {
	// Locators are the addresses of one or more locators, in the order in which they are
	// tried, each in any form of ParseLocators. If empty, localhost:10053.
	Locators []string
	// V0 has the old version of the protocol spoken, that of runtimes 0.10 and 0.11, whose
	// locator has only Resolve.
	V0 bool
	// Loops that all channels share. If nil, the Client has its own, unless Dial is set.
	Loops *channel.Loops
	// Sessions are the limits of every channel and its sessions; see BaseConfig.
	Sessions session.Config
	// DialTimeout of one try of one endpoint. If zero, 5 s. If negative, no limit.
	DialTimeout time.Duration
	// CallTimeout of calls under a context without a deadline; of an Open it bounds only
	// the opening. If zero, 30 s. If negative, no limit.
	CallTimeout time.Duration
	// MaxPending is how many callers of one service may wait for its connection. If zero,
	// 1000. If negative, no limit.
	MaxPending int
	// FailFast has callers wait for the try that is under way but not for one that is put
	// off, behind a failure or a loss: they get the cause of that. Otherwise they wait
	// through MaxConnects tries.
	FailFast bool
	// MaxConnects is how many times in a row a connection is tried, each time at all
	// endpoints, before those who wait get the error; the next call begins anew. An answer
	// of the locator, such as that there is no such service, ends it at once. If zero, 10.
	// If negative, no limit but the callers' contexts. A service that was connected is
	// tried for further behind that, without callers and as seldom as Backoff says, until
	// it is closed; likewise each instance of a balanced one, while the locator lists it.
	MaxConnects int
	// MaxRetries of a call that was not sent, or that is declared idempotent, on another
	// connection within its deadline. If zero, 3. If negative, none.
	MaxRetries int
	// Backoff between tries of a connection, and behind the loss of one.
	Backoff Backoff
	// TimeoutOnAll sends the time that is left to a call in its request_timeout header with
	// every call of v1. Otherwise it is sent with every call to a peer that has agreed on
	// that (session.Extensions), and to others with enqueue alone, which is where runtimes
	// look for it (protocol: headers).
	TimeoutOnAll bool
	// Revoke has the service told when the caller of a Call gives up before the answer, by
	// the control message of that name, if it lists it; a Server of ours then cuts the call
	// and ends its context. Otherwise it works on for nobody.
	Revoke bool
	// FollowGroups has the Client follow the locator's routing groups (protocol: locator).
	// When one changes, the Services of that name ask where they are, each within the
	// first wait of Backoff, and move there; calls under way go on where they are. Without
	// it they stay on their connection until it is lost. v1 only, and for locators that
	// have routing, as those of all runtimes of 0.12 do. It costs a stream that tells all
	// groups at each change.
	FollowGroups bool
	// MaxDials is how many connections to services are begun in a second, a fifth of them
	// at once; others wait for their turn. If zero, 500. If negative, no limit.
	MaxDials int
	// Dial connects to an address of network "tcp". If nil, the net package's; see
	// BaseConfig.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Logger. If nil, slog.Default().
	Logger *slog.Logger

	pace *pace // of MaxDials; set by Connect
}

func (c *Config) setDefaults() {
	orElse(&c.CallTimeout, 30*time.Second, 0)
	orElse(&c.MaxPending, 1000, math.MaxInt)
	orElse(&c.MaxConnects, 10, math.MaxInt)
	orElse(&c.MaxRetries, 3, 0)
	orElse(&c.MaxDials, 500, 0)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

// base returns what a connection of this Client is set up with.
func (c *Config) base(onState func(Change)) BaseConfig {
	return BaseConfig{
		V0: c.V0, Loops: c.Loops, Sessions: c.Sessions, DialTimeout: c.DialTimeout,
		Dial: c.Dial, OnState: onState, Logger: c.Logger, pace: c.pace,
	}
}

// ServiceConfig sets up a Service. Only the Name is required.
type ServiceConfig struct {
	// Name of the service, or of a routing group.
	Name string
	// Version that the service must have. If zero, any.
	Version uint32
	// Seed chooses among the services of a routing group, the same for the same seed. If
	// empty, at random.
	Seed string
	// Endpoints of the service. If set, the locator is not asked, and API is needed.
	Endpoints []Endpoint
	// API of the service at Endpoints.
	API *API
	// Idempotent names methods that may be carried out twice: a call that is cut by a lost
	// connection is repeated even if the service may have got it.
	Idempotent []string
	// Values names methods whose answer is a stream of messages with any arguments, to be
	// read by Stream.RecvArgs; in an API they look like those with a stream of strings.
	Values []string
	// Balance has calls spread over all endpoints by a Balancer. If nil, there is one
	// connection, to the first endpoint in the order of preference that takes it.
	Balance *BalanceConfig
	// Key of a call for the policy ByKey. If nil, none has one.
	Key func(ctx context.Context, method string) string
	// Refresh is how old the locator's answer may become, if calls are balanced, before it
	// is asked again. If zero, 30 s. If negative, it is asked again when an endpoint fails.
	Refresh time.Duration
	// Headers, if set, returns more headers for a call of v1, for example authorization.
	// They are copied.
	Headers func(ctx context.Context, method string) []codec.Header
	// OnState, if set, is told of each change of a connection's state, see BaseConfig; of
	// several connections at the same time, if calls are balanced or groups followed.
	OnState func(c Change)
}

func (c *ServiceConfig) check() error {
	if err := checkName("name of a service", len(c.Name)); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	if len(c.Endpoints) > 0 && c.API == nil {
		return fmt.Errorf("service %q: Endpoints without an API: set API, or leave both to the locator", c.Name)
	}
	if len(c.Endpoints) > MaxEndpoints {
		return fmt.Errorf("service %q: %d endpoints, limit %d", c.Name, len(c.Endpoints), MaxEndpoints)
	}
	orElse(&c.Refresh, 30*time.Second, 0)
	return nil
}
