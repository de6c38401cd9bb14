package main

import (
	"bufio"
	"context"
	_ "embed" // of the C server
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// config of a run.
type config struct {
	rounds      int
	modes, nets []string
	workloads   []workload
	peers       []contender
	dur, warm   time.Duration
	verify      bool
	profiles    string
	out         io.Writer

	// set by run
	self    string // this program
	scratch string
	id      string
	cpus    []int
	results []result
}

// A contender is a peer, or one of another build of this program: name@path.
type contender struct {
	*peer
	label   string
	program string
}

// A placement says on which of the first two processors a side runs.
type placement struct {
	server, client []int
	procs          int // GOMAXPROCS of both
}

var placements = map[string]placement{
	"pin":  {server: []int{0}, client: []int{1}, procs: 1},
	"free": {server: []int{0, 1}, client: []int{0, 1}, procs: 2},
}

// choose takes what was asked for on the command line.
func (c *config) choose(modes, nets, works, names string) (err error) {
	c.modes, c.nets = strings.Split(modes, ","), strings.Split(nets, ",")
	for _, m := range c.modes {
		if _, ok := placements[m]; !ok {
			return fmt.Errorf("no mode %q", m)
		}
	}
	for _, n := range c.nets {
		if n != "tcp" && n != "unix" {
			return fmt.Errorf("no network %q", n)
		}
	}
	if c.workloads, err = findWorkloads(works); err != nil {
		return err
	}
	for _, label := range strings.Split(names, ",") {
		name, program, _ := strings.Cut(label, "@")
		p, err := findPeer(name)
		if err != nil {
			return err
		}
		if program != "" {
			label = name + "@" + filepath.Base(program)
		}
		c.peers = append(c.peers, contender{p, label, program})
	}
	return nil
}

// run does all rounds and prints the table.
func (c *config) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, c.bound())
	defer cancel()
	if c.self, err = os.Executable(); err != nil {
		return err
	}
	if c.scratch, err = os.MkdirTemp("", "peers"); err != nil {
		return err
	}
	defer os.RemoveAll(c.scratch)
	if c.cpus, err = allowed(); err != nil {
		return err
	}
	if len(c.cpus) < 2 {
		return errors.New("both modes need two processors")
	}
	c.findPrograms(ctx)
	c.id = time.Now().UTC().Format("20060102T150405.000")
	for _, mode := range c.modes {
		for _, network := range c.nets {
			for round := range c.rounds {
				at := round % len(c.peers)
				for _, p := range slices.Concat(c.peers[at:], c.peers[:at]) {
					if err := c.visit(ctx, mode, network, round, p); err != nil {
						return err
					}
				}
			}
		}
	}
	if c.verify {
		return nil
	}
	return table(os.Stdout, c.results)
}

// bound is more than the run can take if nothing hangs.
func (c *config) bound() time.Duration {
	one := c.life() + 3*time.Second
	return time.Minute + time.Duration(c.rounds*len(c.modes)*len(c.nets)*len(c.peers))*one
}

// life bounds a server.
func (c *config) life() time.Duration {
	return 20*time.Second + time.Duration(len(c.workloads))*2*(c.warm+c.dur)
}

// findPrograms says where each server is. It builds the one in C, and goes without it if
// there is no compiler.
func (c *config) findPrograms(ctx context.Context) {
	var found []contender
	for _, p := range c.peers {
		switch {
		case p.program != "":
		case p.serve != nil:
			p.program = c.self
		default:
			var err error
			if p.program, err = buildC(ctx, c.scratch); err != nil {
				fmt.Fprintf(os.Stderr, "peers: going without %s: %v\n", p.name, err)
				continue
			}
		}
		found = append(found, p)
	}
	c.peers = found
}

//go:embed c/cepoll.c
var cepollSource []byte

func buildC(ctx context.Context, dir string) (program string, err error) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", err
	}
	src, program := filepath.Join(dir, "cepoll.c"), filepath.Join(dir, "cepoll")
	if err := os.WriteFile(src, cepollSource, 0o600); err != nil {
		return "", err
	}
	if text, err := exec.CommandContext(ctx, gcc, "-O2", "-o", program, src).CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc: %w\n%s", err, text)
	}
	return program, nil
}

// visit starts one server, runs every workload against it, and ends it.
func (c *config) visit(ctx context.Context, mode, network string, round int, p contender) error {
	name := fmt.Sprintf("%s-%s-%s-%d", p.label, mode, network, round)
	server, addr, err := c.startServer(ctx, mode, network, name, p)
	if err != nil {
		return err
	}
	defer stop(server)
	for _, w := range c.workloads {
		r := c.measure(ctx, mode, network, addr, server.Process.Pid, p, &w)
		if err := ctx.Err(); err != nil {
			return err
		}
		r.Run, r.Mode, r.Net, r.Round, r.Workload, r.Peer = c.id, mode, network, round, w.name, p.label
		c.tell(&r)
		c.results = append(c.results, r)
		if c.out == nil {
			continue
		}
		if err := json.NewEncoder(c.out).Encode(&r); err != nil {
			return err
		}
	}
	return nil
}

// tell says on the terminal what went wrong, or right in a verification.
func (c *config) tell(r *result) {
	where := fmt.Sprintf("%s, %s, %s, %s, round %d", r.Peer, r.Workload, r.Mode, r.Net, r.Round)
	switch {
	case r.Err != "":
		fmt.Fprintf(os.Stderr, "peers: %s: %s\n", where, r.Err)
	case c.verify:
		fmt.Printf("ok %s: %d chunks\n", where, r.Ops)
	}
}

func (c *config) startServer(ctx context.Context, mode, network, name string, p contender) (_ *exec.Cmd, addr string, err error) {
	addr = "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(c.scratch, name)
	}
	var cmd *exec.Cmd
	if p.serve == nil {
		cmd = exec.CommandContext(ctx, p.program, network, addr, strconv.Itoa(int(c.life().Seconds())))
	} else {
		cmd = exec.CommandContext(ctx, p.program, "server", "-peer", p.name, "-net", network, "-addr", addr,
			"-life", c.life().String())
		if c.profiles != "" {
			cmd.Args = append(cmd.Args, "-cpuprofile", filepath.Join(c.profiles, name+".prof"))
		}
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := c.start(cmd, mode, placements[mode].server); err != nil {
		return nil, "", err
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if addr, ok := strings.CutPrefix(lines.Text(), readyMark); ok {
			return cmd, addr, nil
		}
	}
	stop(cmd)
	return nil, "", fmt.Errorf("%s did not start", name)
}

// measure runs one client.
func (c *config) measure(ctx context.Context, mode, network, addr string, server int, p contender, w *workload) (r result) {
	cmd := exec.CommandContext(ctx, c.self, "client", "-peer", p.name, "-net", network, "-addr", addr, "-w", w.name,
		"-dur", c.dur.String(), "-warm", c.warm.String(), "-spid", strconv.Itoa(server), "-verify="+strconv.FormatBool(c.verify))
	var text strings.Builder
	cmd.Stdout = &text
	err := c.start(cmd, mode, placements[mode].client)
	if err == nil {
		err = cmd.Wait()
	}
	if err == nil {
		err = json.Unmarshal([]byte(text.String()), &r)
	}
	if err != nil {
		r.Err = err.Error()
	}
	return r
}

// start starts a child on the given of our processors. A child inherits them from the
// thread that starts it, so that not one of its threads ever runs elsewhere.
func (c *config) start(cmd *exec.Cmd, mode string, on []int) error {
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(placements[mode].procs))
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, want unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("affinity: %w", err)
	}
	for _, i := range on {
		want.Set(c.cpus[i])
	}
	if err := unix.SchedSetaffinity(0, &want); err != nil {
		return fmt.Errorf("affinity: %w", err)
	}
	return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &before))
}

// allowed lists the processors that we may use.
func allowed() (cpus []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("affinity: %w", err)
	}
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus, nil
}

// stop asks a server to end, which completes its profile, and waits for it.
func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(2*time.Second, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	late.Stop()
}
