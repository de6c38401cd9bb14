//go:build unix

package main

import (
	"strings"
	"testing"
)

// Names are completed with what runs. The runtime may be too slow for a person a few times.
func TestComplete(t *testing.T) {
	r := up(t, "--app", "echo=true")
	t.Setenv(locatorVar, r.locator)
	for _, c := range []struct{ args, want string }{
		{"call e", "*echo\n*:4\n"},
		{"call storage ", "*read\nwrite\nremove\nfind\n*:4\n"},
		{"app view e", "*echo\n*:4\n"},
		{"app view echo ", ":4\n"},
		{"storage read ", ":4\n"},
		{"app upload shop ", ":0\n"},
	} {
		await(t, "for "+c.args+": "+c.want, func() (any, bool) {
			got := sluice(t, "", append([]string{"__complete"}, strings.Split(c.args, " ")...)...)
			return got, got.exit == 0 && matches(got.out, c.want)
		})
	}
}
