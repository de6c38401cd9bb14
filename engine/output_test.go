package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/engine"
)

// The last lines are kept, and long ones are cut.
func TestOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all strings.Builder
		f := spawnFake(t, engine.SlaveConfig{Output: &all, MaxOutputLines: 3})
		long := strings.Repeat("x", 10_000)
		for i := range 10 {
			f.proc.Write(fmt.Sprintf("line %d\n", i))
		}
		f.proc.Write(long[:7000])
		f.proc.Write(long[7000:] + "\n\nno end")
		synctest.Wait()
		want := []string{long[:4096], "", "no end"}
		if got := f.Output(); !slices.Equal(got, want) {
			t.Errorf("Output() = %.40q, want %.40q", got, want)
		}
		f.proc.Exit("exit status 1", true)
		<-f.Done()
		if got := f.Output(); !slices.Equal(got, want) {
			t.Errorf("Output() = %.40q, want %.40q", got, want)
		}
		if n := all.Len(); n != 10*len("line 0\n")+len(long)+len("\n\nno end") {
			t.Errorf("Output got %d bytes, want all", n)
		}
	})
}
