//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// With --json every command prints JSON, one value on each line, at least one, and nothing
// else.
func TestJSON(t *testing.T) {
	left := takeJSON((&program{}).root()) // and have not run
	delete(left, "sluice up")             // see TestUpJSON

	dir := packageDir(t, `{"slave": "run.sh"}`, `{"pool-limit": 3}`)
	t.Setenv(locatorVar, up(t, "--app", "echo="+echoProgram(t), "--app", "dying="+asRole("serve")).locator)
	awaitCrash(t, "dying")
	for _, s := range []step{
		{args: words("call echo echo hello"), out: "\"hello\"\n"},
		{args: words("call storage write users alice secret"), out: "null\n"},
		{args: words("storage write users alice secret --tag user"), out: `{"bytes":6,"collection":"users","done":"written","key":"alice"}` + "\n"},
		{args: words("storage read users alice"), out: "\"secret\"\n"},
		{args: words("storage find users user"), out: "[\"alice\"]\n"},
		{args: words("storage rm users alice bob"), out: `{"collection":"users","done":"removed","keys":["alice","bob"]}` + "\n"},
		{args: words("ls"), out: `[{*"echo"*}]` + "\n"},
		{args: words("info"), out: `{*"echo":*}` + "\n"},
		{args: words("info echo"), out: `{*"enqueue"*}` + "\n"},
		{args: words("ping --count 2 --interval 1ms"), out: "{*}\n{*}\n"},
		{args: words("call logging emit 3 app/echo hello"), out: ""},
		{args: words("tail --recent 100 --no-follow"), out: `{*"hello"*}` + "\n"},
		{args: words("app control echo 2"), out: `{"done":"set","name":"echo","workers":2}` + "\n"},
		{args: []string{"app", "upload", "shop", dir}, out: `{"done":"uploaded","name":"shop"}` + "\n"},
		{args: []string{"app", "upload", "shop", dir, "--start"}, out: `{"done":"started","name":"shop"}` + "\n"},
		{args: words("app list"), out: `[*"shop"*]` + "\n"},
		{args: words("app view shop"), out: `{"slave":"run.sh"}` + "\n"},
		{args: words("app pause shop"), out: `{"done":"paused","name":"shop"}` + "\n"},
		{args: words("app start shop"), out: `{"done":"started","name":"shop"}` + "\n"},
		{args: words("app restart shop"), out: `{"done":"started","name":"shop"}` + "\n"},
		{args: words("app rm shop --force"), out: `{"done":"removed","name":"shop"}` + "\n"},
		{args: []string{"app", "profile", "upload", "small", `{"pool-limit": 2}`}, out: `{"done":"uploaded","name":"small"}` + "\n"},
		{args: words("app profile list"), out: `["shop","small"]` + "\n"},
		{args: words("app profile view small"), out: `{"pool-limit":2}` + "\n"},
		{args: words("app profile rm small"), out: `{"done":"removed","name":"small"}` + "\n"},
		{args: words("app crashlog list dying"), out: `[{"key":*}]` + "\n"},
		{args: words("app crashlog view dying"), out: `*going down*` + "\n"},
		{args: words("app crashlog rm dying"), out: `{"done":"removed","keys":["*"],"name":"dying"}` + "\n"},
		{args: words("group set any echo=3"), out: `{"done":"set","name":"any"}` + "\n"},
		{args: words("group list"), out: `["any"]` + "\n"},
		{args: words("group view any"), out: `{"echo":3}` + "\n"},
		{args: words("group refresh any"), out: `{"done":"refreshed","names":["any"]}` + "\n"},
		{args: words("group rm any"), out: `{"done":"removed","name":"any"}` + "\n"},
		{args: []string{"invoke", "--worker", echoProgram(t), "ping"}, out: "\"pong\"\n"},
		{args: words("version"), out: `{"arch":*"version":"*"}` + "\n"},
	} {
		s.args = append(s.args, "--json")
		r := sluice(t, "", s.args...)
		if r.exit != 0 || r.err != "" || !matches(r.out, s.out) {
			t.Errorf("sluice %q = %+v, want %q", s.args, r, s.out)
		}
		for line := range strings.Lines(r.out) {
			if !json.Valid([]byte(line)) {
				t.Errorf("sluice %q printed %q, want JSON", s.args, line)
			}
		}
		cmd, _, err := (&program{}).root().Find(s.args)
		if err != nil {
			t.Fatal(err)
		}
		delete(left, cmd.CommandPath())
	}
	for path := range left {
		t.Errorf("%s --json was not run", path)
	}
}

// takeJSON are the paths of the commands, from cmd on, that take --json.
func takeJSON(cmd *cobra.Command) map[string]bool {
	paths := make(map[string]bool)
	if cmd.Flags().Lookup("json") != nil {
		paths[cmd.CommandPath()] = true
	}
	for _, sub := range cmd.Commands() {
		maps.Copy(paths, takeJSON(sub))
	}
	return paths
}

// The runtime, too: one line of JSON when it is ready, and nothing behind it.
func TestUpJSON(t *testing.T) {
	r := launch(t, "--json", "--app", "echo=true")
	timer := time.AfterFunc(patience, func() { _ = r.Process.Kill() })
	defer timer.Stop()
	line, err := bufio.NewReader(r.stdout).ReadString('\n')
	var got struct {
		Services []struct {
			Name      string   `json:"name"`
			Endpoints []string `json:"endpoints"`
		} `json:"services"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(line), &got)
	}
	if err != nil || len(got.Services) != 6 || got.Services[0].Name != "echo" || len(got.Services[0].Endpoints) != 1 {
		t.Errorf("sluice up --json printed %q, %v, want the services", line, err)
	}
	r.stop(syscall.SIGTERM, 0)
}
