package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
)

const (
	resolve = iota
	connect
	refresh
	cluster
	publish
	routing
)

// at is a service without methods at a port of this host.
func at(port uint16) service.Resolved {
	return service.Resolved{Endpoints: []service.Endpoint{{Host: "127.0.0.1", Port: port}}, Version: 1}
}

func add(t *testing.T, r *engine.Registry, name string, port uint16) {
	t.Helper()
	if err := r.Add(name, at(port)); err != nil {
		t.Fatal(err)
	}
}

// TestRegistry: versions of one name, its limits, and what a watch is told meanwhile.
func TestRegistry(t *testing.T) {
	r := engine.NewRegistry(engine.RegistryConfig{MaxServices: 2, MaxWatches: 1})
	w, err := r.Watch()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Watch(); !errors.Is(err, engine.ErrRegistryFull) {
		t.Errorf("Watch() = %v, want ErrRegistryFull", err)
	}
	type step struct {
		do   func() error
		err  error
		next string // what the watch tells
	}
	for i, s := range []step{
		{func() error { return r.Add("a", at(1)) }, nil, "a:1"},
		{func() error { return r.Add("a", at(2)) }, engine.ErrTaken, ""},
		{func() error { return r.Update("a", at(2)) }, nil, "a:2"},
		{func() error { return r.Update("b", at(3)) }, nil, "b:3"},
		{func() error { return r.Add("c", at(4)) }, engine.ErrRegistryFull, ""},
		{func() error { r.Remove("a"); r.Remove("nosuch"); return r.Add("c", at(4)) }, nil, "a:gone1 c:4"},
		{func() error { r.Remove("c"); return r.Add("c", at(4)) }, nil, "c:4"},
		{func() error { r.Remove("c"); r.Remove("b"); _ = r.Add("d", at(5)); r.Remove("d"); return nil }, nil, "b:gone1 c:gone1"},
	} {
		if err := s.do(); !errors.Is(err, s.err) {
			t.Errorf("step %d = %v, want %v", i, err, s.err)
		}
		changed := w.Next()
		var told []string
		for _, name := range slices.Sorted(maps.Keys(changed)) {
			if s := changed[name]; s.Gone() {
				told = append(told, fmt.Sprintf("%s:gone%d", name, s.Version))
			} else {
				told = append(told, fmt.Sprintf("%s:%d", name, s.Endpoints[0].Port))
			}
		}
		if got := strings.Join(told, " "); got != s.next {
			t.Errorf("step %d: Next() = %s, want %s", i, got, s.next)
		}
	}
	for _, bad := range []struct {
		name string
		s    service.Resolved
	}{{"", at(1)}, {strings.Repeat("x", service.MaxNameBytes+1), at(1)}, {"x", service.Resolved{}}} {
		if err := r.Add(bad.name, bad.s); err == nil {
			t.Errorf("Add(%.10q, %v) = nil, want an error", bad.name, bad.s)
		}
	}
	w.Close()
	if _, err := r.Watch(); err != nil {
		t.Errorf("Watch() = %v behind Close of the other", err)
	}
}

// TestRegistryRace has many change the list while others watch it.
func TestRegistryRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := engine.NewRegistry(engine.RegistryConfig{})
		seen := make(map[string]service.Resolved)
		ctx, cancel := context.WithCancel(t.Context())
		var watching, changing sync.WaitGroup
		w, err := r.Watch()
		if err != nil {
			t.Fatal(err)
		}
		watching.Go(func() {
			defer w.Close()
			for {
				select {
				case <-ctx.Done():
					return
				case <-w.Changed():
					maps.Copy(seen, w.Next())
				}
			}
		})
		for i := range 8 {
			changing.Go(func() {
				for j := range 200 {
					name := fmt.Sprint("s", (i+j)%10)
					_ = r.Update(name, at(uint16(j)))
					r.Lookup(name)
					if j%3 == 0 {
						r.Remove(name)
					}
				}
			})
		}
		changing.Wait()
		synctest.Wait()
		cancel()
		watching.Wait()
		maps.DeleteFunc(seen, func(_ string, s service.Resolved) bool { return s.Gone() })
		if want := r.Services(); len(seen) != len(want) || !maps.EqualFunc(seen, want, func(a, b service.Resolved) bool {
			return a.Endpoints[0] == b.Endpoints[0]
		}) {
			t.Errorf("the watch ends with %v, want %v", seen, want)
		}
	})
}

// putGroup writes a routing group as the tools of the runtime do.
func putGroup(t *testing.T, s engine.Store, name string, blob []byte, tags ...string) {
	t.Helper()
	if err := s.Write(t.Context(), "groups", name, blob, tags); err != nil {
		t.Fatal(err)
	}
}

// weights is a group in msgpack.
func weights(list map[string]uint64) []byte {
	b := codec.AppendMapHeader(nil, len(list))
	for name, weight := range list {
		b = codec.AppendUint(codec.AppendString(b, name), weight)
	}
	return b
}

// TestGroups: a group is what the configuration or the last good refresh says, and what is
// broken in one changes none.
func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t)
		putGroup(t, store, "packed", weights(map[string]uint64{"one": 1}), "group", "active")
		putGroup(t, store, "json", []byte(` {"two": 3, "nosuch": 0}`), "group", "active")
		putGroup(t, store, "idle", weights(map[string]uint64{"one": 1}), "group")
		putGroup(t, store, "broken", []byte("x"), "group", "active")
		registry := engine.NewRegistry(engine.RegistryConfig{})
		l := newLocator(t, engine.LocatorConfig{
			Registry: registry, Store: store, Logger: slog.New(slog.DiscardHandler),
			Groups: map[string]map[string]uint32{"fixed": {"one": 1}, "json": {"one": 1}},
		})
		add(t, registry, "one", 1)
		add(t, registry, "two", 2)
		if err := l.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), `"broken"`) {
			t.Errorf("Refresh() = %v, want that one group is broken", err)
		}
		w := dial(t, l.Declaration(codec.V1), codec.V1)
		one, two := `0 [[["127.0.0.1",1]],1,{}]`, `0 [[["127.0.0.1",2]],1,{}]`
		none := `1 [[10,1],"service is not available"]`
		n := uint64(0)
		ask := func(name, want string) {
			t.Helper()
			n++
			w.call(t, n, resolve, name)
			w.wantAnswers(t, fmt.Sprint(n, " ", want))
		}
		renew := func(want string, groups ...string) {
			t.Helper()
			n++
			w.call(t, n, refresh, groups)
			w.wantAnswers(t, fmt.Sprint(n, " ", want))
		}
		ask("packed", one)
		ask("fixed", one)
		ask("json", one) // the configuration comes first
		ask("idle", none)
		ask("broken", none)

		putGroup(t, store, "packed", weights(map[string]uint64{"two": 1}), "group", "active")
		ask("packed", one) // until the refresh
		renew(`1 [[10,2],"routing group \"broken\": want a map of service to weight, in msgpack or JSON: value at byte 0: integer, want map"]`,
			"packed", "broken")
		ask("packed", one) // all or none
		renew(`0 []`, "packed", "json")
		ask("packed", two)
		ask("json", one)
		if err := store.Remove(t.Context(), "groups", "packed"); err != nil {
			t.Fatal(err)
		}
		renew(`0 []`)
		ask("packed", two)
		renew(`0 []`, "packed")
		ask("packed", none)

		if err := l.SetGroups(t.Context(), map[string]map[string]uint32{"other": {"two": 1}}); err == nil {
			t.Error("SetGroups() = nil, want that one group is broken")
		}
		ask("other", two)
		ask("json", two) // now that of the store
		ask("fixed", none)
		if err := l.SetGroups(t.Context(), map[string]map[string]uint32{"bad": {}}); err == nil {
			t.Error("SetGroups() = nil, want an error for a group without services")
		}
		if got := l.Stats(); got.Groups != 2 || got.Services != 2 || got.Failures != 3 {
			t.Errorf("Stats() = %+v, want 2 groups, 2 services, 3 failures", got)
		}
	})
}

// TestLocatorConfig wants errors that say what is wrong.
func TestLocatorConfig(t *testing.T) {
	registry := engine.NewRegistry(engine.RegistryConfig{MaxServices: -1, MaxWatches: -1})
	group := map[string]uint32{"a": 1}
	for want, cfg := range map[string]engine.LocatorConfig{
		"LocatorConfig.Registry is required": {},
		`routing group "g"`:                  {Registry: registry, Groups: map[string]map[string]uint32{"g": nil}},
		"limit LocatorConfig.MaxGroups 1":    {Registry: registry, MaxGroups: 1, Groups: map[string]map[string]uint32{"g": group, "h": group}},
	} {
		if _, err := engine.NewLocatorService(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewLocatorService() = %v, want %s", err, want)
		}
	}
	l := newLocator(t, engine.LocatorConfig{Registry: registry, UUID: "u", Groups: map[string]map[string]uint32{"g": group}})
	if len(l.Groups()) != 1 || l.UUID() != "u" || len(newLocator(t, engine.LocatorConfig{}).UUID()) != 36 {
		t.Errorf("Groups() = %v, UUID() = %s", l.Groups(), l.UUID())
	}
}

// TestRefreshLimit has more groups come than there may be.
func TestRefreshLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t)
		for _, name := range []string{"g", "h"} {
			putGroup(t, store, name, weights(map[string]uint64{"a": 1}), "group", "active")
		}
		l := newLocator(t, engine.LocatorConfig{Store: store, MaxGroups: 1, Logger: slog.New(slog.DiscardHandler)})
		w := dial(t, l.Declaration(codec.V1), codec.V1)
		w.call(t, 1, refresh, []string{"g", "h"})
		w.wantAnswers(t, `1 1 [[10,2],"refresh of 2 groups, limit 1"]`)
		w.call(t, 2, refresh, []string{"g"})
		w.call(t, 3, routing, strings.Repeat("x", service.MaxNameBytes+1))
		w.wantBoth(t, `2 0 []`, `3 1 [[12,11],"routing: an id of 1025 bytes, limit 1024"]`)
		w.call(t, 4, refresh, []string{"h"})
		w.wantAnswers(t, `4 1 [[10,2],"more than 1 routing groups"]`)
		v0 := dial(t, l.Declaration(codec.V0), codec.V0)
		v0.call(t, 1, 3, "h") // its refresh
		v0.wantAnswers(t, `1 5 [1,"more than 1 routing groups"]`, `1 6 []`)
	})
}

// TestGroupChoice wants a seed to choose as the ring does, and no seed to choose all.
func TestGroupChoice(t *testing.T) {
	registry := engine.NewRegistry(engine.RegistryConfig{})
	group := map[string]uint32{"a": 1, "b": 1}
	l := newLocator(t, engine.LocatorConfig{Registry: registry, Groups: map[string]map[string]uint32{"g": group}})
	add(t, registry, "a", 1)
	add(t, registry, "b", 2)
	ring, err := service.NewRing(group)
	if err != nil {
		t.Fatal(err)
	}
	ports := map[uint16]bool{}
	for i := range 1000 {
		seed := fmt.Sprint("seed", i)
		got, ok := l.Resolve("g", seed)
		if want, _ := registry.Lookup(ring.Choose(seed)); !ok || got.Endpoints[0] != want.Endpoints[0] {
			t.Fatalf("Resolve(%q) = %v, want %v", seed, got, want)
		}
		got, _ = l.Resolve("g", "")
		ports[got.Endpoints[0].Port] = true
	}
	if len(ports) != 2 {
		t.Errorf("Resolve() without a seed chose among %v, want both", ports)
	}
}

// TestRouting: a stream of groups for each name, of which the latest caller has the only one.
func TestRouting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t)
		l := newLocator(t, engine.LocatorConfig{Store: store, MaxStreams: 2})
		server := serve(t, service.ServerConfig{Declaration: l.Declaration(codec.V1)})
		w := attach(t, server, codec.V1)
		w.call(t, 1, routing, "r")
		w.wantAnswers(t, `1 0 [{}]`)
		putGroup(t, store, "g", weights(map[string]uint64{"one": 1}), "group", "active")
		w.call(t, 2, refresh, []string{"g"})
		got := []string{w.answer(t), w.answer(t)}
		slices.Sort(got)
		if !strings.HasPrefix(got[0], `1 0 [{"g":[[`) || got[1] != `2 0 []` {
			t.Errorf("behind a refresh came %.30s and %s, want the group and a value", got[0], got[1])
		}
		w.call(t, 3, routing, "r2")
		if got := w.answer(t); !strings.HasPrefix(got, `3 0 [{"g":[[`) {
			t.Errorf("routing answers %.30s, want the group", got)
		}
		w.call(t, 4, routing, "r3")
		w.wantAnswers(t, `4 1 [[12,11],"routing: there are 2 streams, limit LocatorConfig.MaxStreams"]`)
		v := attach(t, server, codec.V1)
		v.call(t, 1, routing, "r") // takes the place of the other
		if got := v.answer(t); !strings.HasPrefix(got, `1 0 [{"g":[[`) {
			t.Errorf("routing answers %.30s, want the group", got)
		}
		w.wantAnswers(t, `1 2 []`)
		w.call(t, 3, 0) // discard
		w.wantAnswers(t, `3 2 []`)
		synctest.Wait()
		if got := l.Stats(); got.Streams != 1 || got.Refused != 1 {
			t.Errorf("Stats() = %+v, want one stream and one refused", got)
		}
	})
}

// wantBoth fails the test unless these come next, in any order.
func (w *rawWorker) wantBoth(t *testing.T, one, other string) {
	t.Helper()
	got := []string{w.answer(t), w.answer(t)}
	if !slices.Equal(got, []string{one, other}) && !slices.Equal(got, []string{other, one}) {
		t.Fatalf("the service sent %v, want %s and %s", got, one, other)
	}
}

func TestConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := engine.NewRegistry(engine.RegistryConfig{})
		l := newLocator(t, engine.LocatorConfig{
			UUID: "us", Registry: registry, Private: []string{"secret"},
			Cluster: func() map[string]service.Endpoint {
				return map[string]service.Endpoint{"them": {Host: "10.0.0.1", Port: 10053}}
			},
		})
		add(t, registry, "locator", 1)
		w := dial(t, l.Declaration(codec.V1), codec.V1)
		w.call(t, 1, cluster)
		w.wantAnswers(t, `1 0 [{"them":["10.0.0.1",10053]}]`)
		w.call(t, 2, connect, "them")
		w.wantAnswers(t, `2 0 ["us",{}]`)
		add(t, registry, "storage", 2)
		w.wantAnswers(t, `2 0 ["us",{"storage":[[["127.0.0.1",2]],1,{}]}]`)
		add(t, registry, "secret", 3)
		w.call(t, 3, publish, "ext", []any{[]any{"10.1.1.1", 5}})
		w.wantBoth(t, `2 0 ["us",{"ext":[[["10.1.1.1",5]],0,{}]}]`, `3 0 []`)
		registry.Remove("storage")
		w.wantAnswers(t, `2 0 ["us",{"storage":[[],1,{}]}]`)
		w.call(t, 3, 0) // discard
		w.wantAnswers(t, `2 0 ["us",{"ext":[[],0,{}]}]`)
		w.call(t, 4, connect, "them")
		w.wantBoth(t, `2 2 []`, `4 0 ["us",{}]`)
		w.wantSilence(t)
	})
}

// TestConnectMany has more services than go into one message.
func TestConnectMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := engine.NewRegistry(engine.RegistryConfig{})
		l := newLocator(t, engine.LocatorConfig{Registry: registry, Cluster: func() map[string]service.Endpoint { return nil }})
		api := newStorage(t, engine.StorageConfig{Store: new(slowStore)}).Declaration()
		const n = 1000
		for i := range n {
			d := api
			d.Name = fmt.Sprint("s", i)
			register(t, registry, d, "127.0.0.1", uint16(i+1))
		}
		w := dial(t, l.Declaration(codec.V1), codec.V1)
		w.call(t, 1, connect, "them")
		seen := make(map[string]service.Resolved)
		for messages := 1; len(seen) < n; messages++ {
			_, m, err := w.next()
			if err != nil {
				t.Fatal(err)
			}
			u, err := service.DecodeUpdate(m.Args)
			if err != nil || len(m.Args) > 64<<10 || messages > n/10 {
				t.Fatalf("message %d has %d bytes: %v", messages, len(m.Args), err)
			}
			maps.Copy(seen, u.Services)
		}
		w.wantSilence(t)
	})
}

// TestPublish: what a client publishes lasts as long as its call, and comes behind the
// node's own services.
func TestPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := engine.NewRegistry(engine.RegistryConfig{})
		l := newLocator(t, engine.LocatorConfig{Registry: registry, ResolvePublished: true, MaxPublished: 2})
		add(t, registry, "taken", 1)
		server := serve(t, service.ServerConfig{Declaration: l.Declaration(codec.V1)})
		w, other := attach(t, server, codec.V1), attach(t, server, codec.V1)
		where := []any{[]any{"10.1.1.1", 5}}
		graph := apiMap{}
		w.call(t, 1, publish, "ext", where, []any{7, graph})
		w.wantAnswers(t, `1 0 []`)
		other.call(t, 1, resolve, "ext")
		other.wantAnswers(t, `1 0 [[["10.1.1.1",5]],7,{"0":["emit",{},{}]}]`)
		other.call(t, 2, publish, "ext", where)
		other.wantAnswers(t, `2 1 [[10,4],"engine: the name is taken by another service: \"ext\""]`)
		other.call(t, 3, publish, "taken", where)
		other.wantAnswers(t, `3 1 [[10,4],"engine: the name is taken by another service: \"taken\""]`)
		other.call(t, 4, publish, "none", []any{})
		other.wantAnswers(t, `4 1 [[7,2],"engine: service \"none\" has 0 endpoints, want 1 to 256"]`)
		other.call(t, 5, publish, "v", where, []any{0, graph})
		other.wantAnswers(t, `5 1 [[10,3],"publish: a service with a graph needs a version above 0"]`)
		other.call(t, 6, publish, "ext2", where)
		other.call(t, 7, publish, "ext3", where)
		other.wantAnswers(t, `6 0 []`, `7 1 [[12,11],"publish: clients have published 2 services, limit LocatorConfig.MaxPublished"]`)
		add(t, registry, "ext2", 9) // the node's own comes before that of a client
		other.call(t, 10, resolve, "ext2")
		other.wantAnswers(t, `10 0 [[["127.0.0.1",9]],1,{}]`)
		other.call(t, 6, 0) // discard of that
		other.call(t, 11, resolve, "ext2")
		other.wantAnswers(t, `11 0 [[["127.0.0.1",9]],1,{}]`)
		if err := w.Close(); err != nil { // ends what it has published
			t.Fatal(err)
		}
		synctest.Wait()
		other.call(t, 12, resolve, "ext")
		other.wantAnswers(t, `12 1 [[10,1],"service is not available"]`)
		if got := l.Stats(); got.Published != 0 || got.Services != 2 {
			t.Errorf("Stats() = %+v, want none published and 2 services", got)
		}
		other.call(t, 13, publish, "bad", where, []any{1, "x"})
		other.wantEnd(t)
	})
}

// apiMap is the graph of a service with one method.
type apiMap struct{}

func (apiMap) MarshalMsg(b []byte) ([]byte, error) {
	return append(b, 0x81, 0, 0x93, 0xa4, 'e', 'm', 'i', 't', 0x80, 0x80), nil
}

func FuzzGroup(f *testing.F) {
	f.Add(weights(map[string]uint64{"a": 1, "b": 1 << 40}))
	f.Add([]byte(`{"a": 1}`))
	f.Add([]byte(`{"a": -1}`))
	f.Add([]byte(`{"a": 1} x`))
	f.Fuzz(func(t *testing.T, blob []byte) {
		ring, err := engine.DecodeGroup(blob)
		if (ring == nil) == (err == nil) {
			t.Fatalf("decodeGroup() = %v, %v", ring, err)
		}
		if err == nil && ring.Len() > 0 && ring.Choose("seed") == "" && !slices.Contains(ring.Members(), "") {
			t.Fatalf("Choose() of %v chooses nothing", ring.Members())
		}
	})
}

func FuzzPublish(f *testing.F) {
	f.Add(codec.Args("n", []any{[]any{"h", 1}}).Bytes())
	f.Add(codec.Args("n", []any{[]any{"h", 1}}, []any{1, apiMap{}}).Bytes())
	f.Add(codec.Args("n", []any{}, []any{1 << 40, apiMap{}}).Bytes())
	f.Fuzz(func(t *testing.T, args []byte) {
		s, err := engine.ReadPublished(args)
		if err != nil {
			return
		}
		if _, err := service.DecodeResolved(service.AppendResolved(nil, s)); err != nil {
			t.Fatalf("a client cannot read what was published: %v", err)
		}
	})
}
