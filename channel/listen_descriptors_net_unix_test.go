//go:build unix && !aix && !solaris

package channel

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenDescriptors runs out of descriptors in earnest, in a child process that
// allows itself few.
func TestListenDescriptors(t *testing.T) {
	if os.Getenv("SLUICE_TEST_DESCRIPTORS") != "" {
		fewDescriptors(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestListenDescriptors$")
	cmd.Env = append(os.Environ(), "SLUICE_TEST_DESCRIPTORS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	}()
	lines := bufio.NewScanner(out)
	ask := func(command string) string {
		_, _ = fmt.Fprintln(in, command)
		lines.Scan()
		return lines.Text()
	}
	addr := ask("addr")
	for _, step := range []struct{ command, want string }{{"", "hello"}, {"exhaust", ""}, {"", ""}, {"free", "hello"}, {"", "hello"}} {
		if step.command != "" {
			t.Logf("%s: %s", step.command, ask(step.command))
		}
		if got := greeting(t, "tcp", addr); got != step.want {
			t.Errorf("after %q: greeting() = %q, want %q", step.command, got, step.want)
		}
	}
	if got := ask("stats"); !strings.HasPrefix(got, "accepted 3 refused 2 ") {
		t.Errorf("stats: %s", got)
	}
}

// fewDescriptors is the child of TestListenDescriptors.
func fewDescriptors(t *testing.T) {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	l := mustListen(t, "tcp", "127.0.0.1:0", ListenConfig{})
	greet(t, l)
	var taken []int
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		switch commands.Text() {
		case "addr":
			fmt.Println(l.Addr())
		case "exhaust":
			fd, err := unix.Dup(0)
			for ; err == nil; fd, err = unix.Dup(0) {
				taken = append(taken, fd)
			}
			fmt.Println(err)
		case "free":
			for _, fd := range taken {
				_ = unix.Close(fd)
			}
			fmt.Println(len(taken))
		case "stats":
			s := l.Stats()
			fmt.Println("accepted", s.Accepted, "refused", s.Refused, "retries", s.Retries)
		}
	}
}
