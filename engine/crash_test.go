package engine_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
)

// The crash of a worker whose bytes are no frames says which they are.
func TestCrashOfBadFrame(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		synctest.Test(t, func(t *testing.T) {
			c := newCloud(t, engine.AppConfig{Dialect: d})
			v := c.visit(d)
			v.enqueue("event")
			p := c.next()
			w := c.worker(p)
			if _, err := w.Write([]byte("\xff\xffgarbage")); err != nil {
				t.Fatal(err)
			}
			<-p.Done()
			synctest.Wait()
			list := c.Crashes()
			if len(list) != 1 || list[0].Code != engine.SlaveControlIPC || !strings.Contains(list[0].Reason, "bad_frame at byte") {
				t.Errorf("%v: Crashes() = %+v, want one with the frame that is bad", d, list)
			}
		})
	}
}
