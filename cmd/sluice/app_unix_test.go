//go:build unix

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-rpc/sluice/engine/enginetest"
)

// What cannot run is not uploaded, and what is wrong with it is told, by file and field.
func TestBadUploads(t *testing.T) {
	big := packageDir(t, `{"slave": "run.sh"}`, "{}")
	noise := make([]byte, maxBlobBytes+1<<20)
	for i, x := 0, uint32(1); i < len(noise); i++ { // what does not shrink
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	plain := packageDir(t, `{"slave": "profile.txt"}`, "{}")
	for file, text := range map[string][]byte{filepath.Join(big, "noise"): noise, filepath.Join(plain, "profile.txt"): nil} {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	good := packageDir(t, `{"slave": "run.sh"}`, `{"pool-limits": 3}`)
	t.Setenv(locatorVar, up(t).locator)
	for _, s := range []step{
		{args: []string{"app", "upload", "../shop", good}, exit: exitUsage, err: `application "../shop": a name begins with`},
		{args: []string{"app", "upload", "a shop", good}, exit: exitUsage, err: "letters, digits"},
		{args: []string{"app", "upload", "shop", big}, exit: exitLocal, err: "and one call carries 16 MiB; give it to the runtime itself: 'sluice up --package shop=" + big + "'"},
		{args: []string{"app", "upload", "shop", plain}, exit: exitLocal, err: filepath.Join(plain, "manifest.json") + `: slave: "profile.txt" cannot be executed`},
		{args: []string{"app", "upload", "shop", packageDir(t, `{"slave": 5}`, "{}")}, exit: exitLocal, err: "manifest.json: slave: is 5"},
		{args: []string{"app", "upload", "shop", packageDir(t, `{"slave": "run.sh"}`, `{"concurrency": "x"}`)}, exit: exitLocal, err: "profile.json: concurrency: is no whole number"},
		{args: words("app list --json"), out: "[]\n"},
		{args: words("app profile list --json"), out: "[]\n"},
		{args: []string{"app", "upload", "shop", good}, err: "warning: " + good + ": profile.json: pool-limits is no key of a profile"},
		{args: []string{"app", "profile", "upload", "p", `{"idle": 1}`}, err: "warning: idle is no key of a profile"},
	} {
		s.check(t)
	}
}

// What cannot be started anew goes on as it is.
func TestBadRestart(t *testing.T) {
	config := filepath.Join(t.TempDir(), "sluice.yaml")
	text := "apps:\n  late: {command: \"" + echoProgram(t) + "\", profile: two}\nprofiles:\n  two: {publish-on: 2}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(locatorVar, up(t, "--config", config, "--package", "broken=/no/such").locator)
	dir := packageDir(t, `{"slave": "run.sh"}`, `{}`)
	for _, s := range []step{
		{args: []string{"app", "profile", "upload", "three", `{"pool-limit": 3}`}},
		{args: []string{"app", "upload", "shop", dir, "--start", "--profile", "three"}},
		{args: []string{"storage", "write", "profiles", "bad", "--pack", `{"pool-limit": "x"}`}},
		{args: words("app restart shop --profile bad"), exit: exitLocal, err: "profiles/bad: engine: profile: pool-limit is no whole number"},
		{args: words("call shop ping"), out: "pong\n"},
		{args: words("app restart shop --profile nobody"), exit: exitRemote, err: "shop was started again as it was before"},
		{args: words("call shop ping"), out: "pong\n"},
		{args: words("info shop"), out: "*capacity: 3\n*"},
		{args: words("storage write manifests shop {}")},
		{args: words("app restart shop"), exit: exitLocal, err: "manifests/shop: slave: is missing"},
		{args: words("call shop ping"), out: "pong\n"},

		{args: words("app restart late --profile nobody"), exit: exitRemote, err: "late was started again as it was before"},
		{args: words("call late ping"), exit: exitRemote, err: "[10, 1]"}, // it has no workers yet
		{args: words("info late"), out: "service:   late, which is not published\n*pool:*state: running\n*"},
		{args: words("info broken"), out: "service:   broken, which is not published\n\ncause: app 'broken' cannot be started: engine: package /no/such: *\nstate: broken\n*"},
		{args: words("info late --json"), out: `{"app":*"endpoints":[],"methods":[],"name":"late","version":0}` + "\n"},
		{args: words("app control late 2")},
	} {
		s.check(t)
	}
	await(t, "pong", func() (any, bool) {
		r := sluice(t, "", words("call late ping")...)
		return r, r.exit == 0
	})
}

// packageDir is a package whose program is examples/echo.
func packageDir(t *testing.T, manifest, profile string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"manifest.json": manifest,
		"profile.json":  profile,
		"run.sh":        "#!/bin/sh\nexec '" + enginetest.Build(t, "../../examples/echo") + "' \"$@\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// awaitCrash has a worker of the role "serve" die, and waits for its crash log.
func awaitCrash(t *testing.T, app string) {
	t.Helper()
	step{args: []string{"call", app, "die"}, exit: exitRemote, err: "sluice: ["}.check(t)
	await(t, "a crash log", func() (any, bool) {
		list := sluice(t, "", "app", "crashlog", "list", app, "--json")
		return list, list.exit == 0 && list.out != "[]\n"
	})
}
