package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var rewrite = flag.Bool("rewrite", false, "write what the program prints into testdata")

// The help of every command is what is in testdata/help.
func TestHelpTexts(t *testing.T) {
	t.Setenv(locatorVar, "")
	names := make(map[string]bool)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() != "help" && cmd.Name() != "completion" {
			path := strings.Fields(cmd.CommandPath())
			name := strings.Join(path, "-") + ".txt"
			names[name] = true
			t.Run(cmd.CommandPath(), func(t *testing.T) { testHelp(t, cmd, path[1:], filepath.Join("testdata", "help", name)) })
			for _, sub := range cmd.Commands() {
				walk(sub)
			}
		}
	}
	walk((&program{}).root())
	files, err := os.ReadDir(filepath.Join("testdata", "help"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !names[f.Name()] {
			t.Errorf("testdata/help/%s is of no command", f.Name())
		}
	}
}

func testHelp(t *testing.T, cmd *cobra.Command, path []string, file string) {
	r := sluice(t, "", append(path, "--help")...)
	if r.exit != 0 || r.err != "" {
		t.Errorf("sluice %q --help = %+v", path, r)
	}
	if cmd.Runnable() && cmd.Args == nil {
		t.Errorf("%s takes any arguments", cmd.CommandPath())
	}
	for line := range strings.Lines(cmd.Long) {
		if len(line) > 96 && line[0] != ' ' {
			t.Errorf("%s: a line of %d characters in the help, want at most 95", cmd.CommandPath(), len(line)-1)
		}
	}
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(r.out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r.out != string(want) {
		t.Errorf("sluice %q --help printed\n%s\nwant (go test -run HelpTexts -rewrite . writes it anew)\n%s", path, r.out, want)
	}
}
