//go:build unix

package main

import (
	"strings"
	"testing"
	"time"
)

// Names are completed with what runs. The runtime may be too slow for a person a few times.
func TestComplete(t *testing.T) {
	r := up(t, "--app", "echo=true")
	t.Setenv(locatorVar, r.locator)
	for _, args := range []string{"call e", "app view e"} {
		var got result
		for begin := time.Now(); ; {
			got = sluice(t, "", words("__complete "+args)...)
			if got.exit == 0 && matches(got.out, "*echo\n*:4\n") && strings.Contains(got.err, "ShellCompDirectiveNoFileComp") {
				break
			}
			if time.Since(begin) > patience {
				t.Fatalf("sluice __complete %s = %+v, want echo", args, got)
			}
		}
	}
}
