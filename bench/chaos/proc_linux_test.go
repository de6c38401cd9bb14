package chaos

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// process is one of a test's.
type process struct {
	pid, parent int
	role        string
	start       uint64 // in ticks since the boot; with pid it names a process for ever
}

// processes returns those of a test, by what is in their environment. Zombies have none.
func processes(run string) []process {
	list, _ := os.ReadDir("/proc")
	var found []process
	for _, e := range list {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if p, ok := lookAt(pid, run); ok {
			found = append(found, p)
		}
	}
	return found
}

// lookAt reads a process, and reports whether it is of the test.
func lookAt(pid int, run string) (process, bool) {
	p := process{pid: pid, role: "none"}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || !bytes.Contains(environ, []byte(runVar+"="+run+"\x00")) {
		return p, false
	}
	for v := range strings.SplitSeq(string(environ), "\x00") { // the last one of a name counts
		if name, value, _ := strings.Cut(v, "="); name == roleVar {
			p.role = value
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, false
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // behind the name, which may be anything
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return p, false
	}
	p.parent, _ = strconv.Atoi(fields[1])
	p.start, _ = strconv.ParseUint(fields[19], 10, 64)
	return p, true
}

// workersOf returns the workers of a runtime.
func workersOf(run string, runtime int) []process {
	var found []process
	for _, p := range processes(run) {
		if p.role == "worker" && p.parent == runtime {
			found = append(found, p)
		}
	}
	return found
}

// alive reports which of the processes are there.
func alive(run string, list []process) []process {
	var left []process
	for _, p := range list {
		if now, ok := lookAt(p.pid, run); ok && now.start == p.start {
			left = append(left, p)
		}
	}
	return left
}
