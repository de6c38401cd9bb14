package service_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestChaos calls over links that are late, sliced, stalled and cut, from a service that
// comes and goes. Whatever happens, each call ends by its deadline, with its own answer or
// an error that is one of ours, and Close leaves nothing behind.
func TestChaos(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	answered := uint64(0)
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { answered += chaos(t, seed) })
		})
	}
	if answered < seeds*200/4 {
		t.Errorf("%d of %d calls were answered, want a quarter at least", answered, seeds*200)
	}
	t.Logf("%d of %d calls were answered", answered, seeds*200)
}

func chaos(t *testing.T, seed uint64) (answered uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	c := newCloud(t, seed%5 == 0)
	c.add("a", echo(c.v0))
	srv := c.serve("b:1", echo(c.v0))
	to := []service.Endpoint{at("a"), at("b")}
	if c.v0 { // which has one
		to = to[:1]
	}
	c.name("echo", service.Resolved{Endpoints: to, Version: 7, API: srv.API()})
	client := c.client(func(cfg *service.Config) { cfg.FailFast = seed%3 == 0 })
	sc := service.ServiceConfig{Name: "echo", Idempotent: []string{"echo"}}
	if seed%2 == 0 {
		sc.Balance = &service.BalanceConfig{Policy: service.PowerOfTwo}
	}
	s, err := client.NewService(sc)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var trouble sync.WaitGroup
	trouble.Go(func() { c.trouble(random, stop) })
	var calls sync.WaitGroup
	for i := range 20 {
		calls.Go(func() {
			for k := range 10 {
				callInChaos(t, s, fmt.Sprint(i, "-", k), i%4 == 3)
				time.Sleep(time.Duration(i+1) * 100 * time.Millisecond)
			}
		})
	}
	calls.Wait()
	close(stop)
	trouble.Wait()
	closeClient(t, client)
	if st := s.Stats(); st.Pending != 0 || st.Calls != 200 || st.Answered+st.Failed != st.Calls {
		t.Errorf("Stats() = %+v, want every call answered or failed", st)
	}
	return s.Stats().Answered
}

// trouble changes the links every few seconds, and cuts them.
func (c *cloud) trouble(random *rand.Rand, stop chan struct{}) {
	for {
		c.mu.Lock()
		for _, addr := range []string{"a:1", "b:1", locatorAddr} {
			c.script[addr] = channel.Script{}
			if random.IntN(3) > 0 {
				c.script[addr] = channel.RandomScript(random.Uint64())
			}
		}
		c.mu.Unlock()
		for _, addr := range []string{"a:1", "b:1", locatorAddr} {
			if random.IntN(4) == 0 {
				c.cut(addr)
			}
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(random.IntN(3000)) * time.Millisecond):
		}
	}
}

// callInChaos makes one call or one stream.
func callInChaos(t *testing.T, s *service.Service, text string, stream bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	began := time.Now()
	var got string
	var err error
	if stream && s.Dialect() == codec.V1 {
		got, err = streamInChaos(ctx, s, text)
	} else {
		got, err = service.Invoke[string](ctx, s, "echo", text)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the call %s took %v, want its deadline at most", text, took)
	}
	var resolve *service.ResolveError
	var cut *session.Error
	switch {
	case err == nil && got == text:
	case err == nil:
		t.Errorf("the call %s was answered with %q", text, got)
	case !errors.As(err, &resolve) && !errors.As(err, &cut) && !errors.Is(err, context.DeadlineExceeded):
		t.Errorf("the call %s ended with %v of type %T", text, err, err)
	}
}

// streamInChaos sends the text in two pieces and reads them back.
func streamInChaos(ctx context.Context, s *service.Service, text string) (string, error) {
	stream, err := s.Open(ctx, "enqueue", codec.Args("e"))
	if err != nil {
		return "", err
	}
	defer stream.Discard()
	for _, p := range []string{text[:1], text[1:]} {
		if err := stream.Send(ctx, []byte(p)); err != nil {
			return "", err
		}
	}
	if err := stream.Close(); err != nil {
		return "", err
	}
	got := ""
	for {
		p, err := stream.Recv(ctx)
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return "", err
		}
		got += string(p)
	}
}
