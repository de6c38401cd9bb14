package service

import (
	"context"
	crand "crypto/rand"
	"math/rand/v2"
	"slices"
	"sync"
)

// follower has the Services of a Client that are on a routing group look anew when it
// changes.
type follower struct {
	// immutable
	client *Client
	id     string // of ours at the locator
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// owned by the goroutine
	random rand.PCG
	known  map[string]*Ring
}

// follow begins to follow the routing groups of the locator.
func (c *Client) follow() {
	f := &follower{client: c, id: crand.Text()}
	f.random.Seed(rand.Uint64(), rand.Uint64())
	f.ctx, f.cancel = context.WithCancel(context.Background())
	c.follower = f
	f.wg.Go(f.run)
}

// stop ends it. A nil follower has nothing to end.
func (f *follower) stop() {
	if f != nil {
		f.cancel()
		f.wg.Wait()
	}
}

// run reads the stream of groups, and asks for another one when it ends.
func (f *follower) run() {
	for failures := 0; ; failures++ {
		routes, err := f.client.locator.Routing(f.ctx, f.id)
		if err == nil {
			if f.read(routes) {
				failures = 0
			}
			routes.Close()
		}
		if !pause(f.ctx, f.client.cfg.Backoff.Delay(failures, &f.random)) {
			return
		}
	}
}

// read takes the changes of one stream, to its end. It reports whether there were any.
func (f *follower) read(routes *Routes) (some bool) {
	for {
		groups, err := routes.Next(f.ctx)
		if err != nil {
			if f.ctx.Err() == nil {
				f.client.cfg.Logger.Debug("service: the locator tells of no routing groups for now", "err", err)
			}
			return some
		}
		f.client.look(f.changed(groups))
		f.known, some = groups, true
	}
}

// changed lists the groups that are not as they were, those that are gone among them.
func (f *follower) changed(groups map[string]*Ring) []string {
	var list []string
	for name, ring := range groups {
		if old := f.known[name]; old == nil || !old.equal(ring) {
			list = append(list, name)
		}
	}
	for name := range f.known {
		if groups[name] == nil {
			list = append(list, name)
		}
	}
	return list
}

// look has the Services of those names look where they are.
func (c *Client) look(names []string) {
	if len(names) == 0 {
		return
	}
	set := set(names)
	c.mu.Lock()
	list := slices.Clone(c.all)
	c.mu.Unlock()
	for _, s := range list {
		if set[s.cfg.Name] && len(s.cfg.Endpoints) == 0 {
			s.route.look()
		}
	}
}

// equal reports whether two rings choose the same for every seed.
func (r *Ring) equal(o *Ring) bool {
	return slices.EqualFunc(r.points, o.points, func(p, q ringPoint) bool {
		return p.at == q.at && r.members[p.member] == o.members[q.member]
	})
}
