package engine_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
)

// liveInfo returns the value of info as the live runtime answered it.
func liveInfo(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../codec/testdata/golden/captures/core-app-service.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(line, "\t")
		if len(fields) < 3 || !strings.HasPrefix(fields[0], "echo>client") || !strings.HasPrefix(fields[2], "value channel") {
			continue
		}
		raw, err := hex.DecodeString(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		var m codec.Message
		if _, err := codec.NewScanner(codec.V1, codec.Limits{}).Next(raw, &m); err != nil {
			t.Fatal(err)
		}
		r := m.Reader()
		return r.Raw()
	}
	t.Fatal("the capture has no answer to info")
	return nil
}

// shape lists every path in a msgpack value with its kind, in the order of the bytes. Names
// of slaves are all the same, and so are numbers of either sign.
func shape(path string, r *codec.Reader) []string {
	switch r.Peek() {
	case codec.MapValue:
		var list []string
		for range r.MapLen() {
			key := r.String()
			if len(key) == 36 {
				key = "uuid"
			}
			list = append(list, shape(path+"/"+key, r)...)
		}
		return list
	case codec.ArrayValue:
		var list []string
		for n := range r.ArrayLen() {
			list = append(list, shape(fmt.Sprint(path, "/", n), r)...)
		}
		return list
	}
	kind := r.Peek()
	r.Skip()
	return []string{fmt.Sprint(path, " ", kind)}
}

// The keys, their order and the types are those of the live runtime.
func TestAppInfoShape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, engine.AppConfig{Dialect: codec.V1})
		v := c.visit(codec.V1)
		v.enqueue("event")
		c.worker(c.next()).want(t, invoke(2, "event"))
		ours, live := codec.NewValueReader(c.Stats().AppendInfo(nil)), codec.NewValueReader(liveInfo(t))
		got, want := shape("", &ours), shape("", &live)
		if !slices.Equal(got, want) {
			t.Errorf("the shape of info is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if ours.Err() != nil || ours.Len() != 0 {
			t.Errorf("AppendInfo() is no single value: %v, %d left", ours.Err(), ours.Len())
		}
	})
}

// The numbers, of a history that is known.
func TestAppInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, engine.AppConfig{Dialect: codec.V1, Profile: engine.Profile{Concurrency: 1, QueueLimit: 2, GrowThreshold: 9, Name: "small"}})
		v := c.visit(codec.V1)
		v.enqueue("one")
		w := c.worker(c.next())
		w.want(t, invoke(2, "one"))
		time.Sleep(40 * time.Millisecond)
		v.enqueue("two")
		v.enqueue("three")
		v.wantError(v.enqueue("four"), service.CategoryOverseer, 1, "queue is full")
		time.Sleep(1460 * time.Millisecond)
		i := c.Stats()
		got := map[string]any{}
		if err := json.Unmarshal(codec.AppendJSONValue(nil, i.AppendInfo(nil)), &got); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"load": 1.0, "uptime": 1.0, "rate_mean": 2.667, // in the 1.5 s so far
			"requests": map[string]any{"accepted": 3.0, "rejected": 1.0},
			"queue":    map[string]any{"capacity": 2.0, "depth": 2.0, "depth_average": 0.0, "oldest_event_age": 1460.0},
			"profile":  map[string]any{"name": "small"},
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if fmt.Sprint(got[key]) != fmt.Sprint(want[key]) {
				t.Errorf("info: %s is %v, want %v", key, got[key], want[key])
			}
		}
		if len(i.Slaves) != 1 || i.Slaves[0].Oldest != 1500*time.Millisecond || i.Active != 1 || i.Idle != 0 || i.PoolLimit != 10 {
			t.Errorf("Info() = %+v, want one slave with a request of 1.5 s", i)
		}
	})
}

// load:tx counts the requests whose caller goes on, load:rx those that are owed more of an
// answer, as at the live runtime, whose capture has one of the first kind: answered, and its
// caller has not ended.
func TestAppInfoHalves(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		synctest.Test(t, func(t *testing.T) {
			c := newCloud(t, engine.AppConfig{Dialect: d})
			v := c.visit(codec.V1)
			want := func(what string, load, tx, rx int) {
				t.Helper()
				synctest.Wait()
				if i := c.Stats(); i.Slaves[0].Load != load || i.Slaves[0].Asking != tx || i.Slaves[0].Owed != rx {
					t.Errorf("%v: %s: Stats().Slaves = %+v, want load %d, %d asking, %d owed", d, what, i.Slaves, load, tx, rx)
				}
			}
			one := v.enqueue("one")
			s := c.next()
			want("no worker yet", 0, 0, 0)
			w := c.worker(s)
			first := uint64(1 + d)
			w.want(t, invoke(first, "one"))
			want("one request", 1, 1, 1)
			if err := w.send(codec.Frame{Kind: codec.KindChoke, Session: first}); err != nil {
				t.Fatal(err)
			}
			want("answered", 1, 1, 0)
			_ = one.Close()
			want("over", 0, 0, 0)
			_ = v.enqueue("two").Close()
			want("asked", 1, 0, 1)
			if _, err := c.Invoke(t.Context(), "three", nil); err != nil {
				t.Fatal(err)
			}
			want("one of this process", 2, 1, 2)
			_ = w.Close()
			synctest.Wait()
		})
	}
}
