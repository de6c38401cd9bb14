// Peers compares sluice's worker side with other servers over loopback: two processes, many short rounds, and the
// ratios of what was measured in the same round. README.md says how to read what it prints.
//
//	go run . -rounds 15 -mode pin,free -net tcp -peers gnet,cepoll,sluice
//	go run . -report run.jsonl
//
// The program starts itself as "server" and as "client"; these two roles are of use by hand for profiles only.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	role, args := "run", os.Args[1:]
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		role, args = args[0], args[1:]
	}
	var err error
	switch role {
	case "run":
		err = runMain(args)
	case "app":
		err = appMain(args)
	case "server":
		err = serverMain(args)
	case "client":
		err = clientMain(args)
	default:
		err = fmt.Errorf("no role %q: run, server or client", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// endAfter ends the process: nothing here may outlive its run, whoever was killed before.
func endAfter(d time.Duration) {
	time.AfterFunc(d, func() {
		fmt.Fprintln(os.Stderr, "peers: out of time:", strings.Join(os.Args, " "))
		os.Exit(3)
	})
}

func runMain(args []string) error {
	var cfg config
	fs := flag.NewFlagSet("run", flag.ExitOnError)
	fs.IntVar(&cfg.rounds, "rounds", 15, "interleaved rounds in each mode")
	modes := fs.String("mode", "pin,free", "pin: a processor each; free: both share two")
	nets := fs.String("net", "tcp", "tcp, unix")
	works := fs.String("w", "W1,W2,W3-1k,W3-64k,W5", "workloads, or beginnings of their names")
	names := fs.String("peers", "gnet,cepoll,sluice,sluice-v1", "of "+strings.Join(peerNames(), ", "))
	fs.DurationVar(&cfg.dur, "dur", 300*time.Millisecond, "of one measurement")
	fs.DurationVar(&cfg.warm, "warm", 80*time.Millisecond, "before each measurement")
	fs.BoolVar(&cfg.verify, "verify", false, "compare every payload instead of measuring")
	fs.StringVar(&cfg.profiles, "cpuprofile", "", "directory for a CPU profile of each server")
	out := fs.String("out", "", "file to append JSON lines to, one a measurement")
	report := fs.Bool("report", false, "measure nothing, print the table of the files named behind the flags")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *report {
		return reportFiles(os.Stdout, fs.Args())
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("what is %q?", fs.Args())
	}
	if err := cfg.choose(*modes, *nets, *works, *names); err != nil {
		return err
	}
	if *out != "" {
		f, err := os.OpenFile(*out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		cfg.out = f
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return cfg.run(ctx)
}

func serverMain(args []string) error {
	fs := flag.NewFlagSet("server", flag.ExitOnError)
	name := fs.String("peer", "sluice", "of "+strings.Join(peerNames(), ", "))
	network := fs.String("net", "tcp", "tcp or unix")
	addr := fs.String("addr", "127.0.0.1:0", "address, or path of a unix socket")
	life := fs.Duration("life", time.Minute, "until the process ends by itself")
	profile := fs.String("cpuprofile", "", "file for a CPU profile, complete after SIGTERM")
	if err := fs.Parse(args); err != nil {
		return err
	}
	p, err := findPeer(*name)
	if err != nil {
		return err
	}
	if p.serve == nil {
		return fmt.Errorf("%s is a program of its own", p.name)
	}
	endAfter(*life)
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
	}
	failed := make(chan error, 1)
	go func() { failed <- p.serve(*network, *addr) }()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, os.Interrupt)
	select {
	case err = <-failed:
	case <-asked:
	}
	pprof.StopCPUProfile()
	return err
}

// ready tells whoever started this server where to connect; behind the address may be
// the numbers of further processes whose CPU counts.
func ready(addr string) { fmt.Println(readyMark + addr) }

// readyMark is what the line begins with; gnet prints others.
const readyMark = "ready "

func clientMain(args []string) error {
	fs := flag.NewFlagSet("client", flag.ExitOnError)
	var c client
	name := fs.String("peer", "sluice", "whose frames to speak")
	fs.StringVar(&c.network, "net", "tcp", "tcp or unix")
	fs.StringVar(&c.addr, "addr", "", "what the server printed")
	work := fs.String("w", "W2-64", "workload")
	fs.DurationVar(&c.dur, "dur", 300*time.Millisecond, "of the measurement")
	fs.DurationVar(&c.warm, "warm", 80*time.Millisecond, "before it")
	server := fs.Int("spid", 0, "process of the server, for its CPU clock")
	fs.BoolVar(&c.verify, "verify", false, "compare every payload instead of measuring")
	if err := fs.Parse(args); err != nil {
		return err
	}
	p, err := findPeer(*name)
	if err != nil {
		return err
	}
	list, err := findWorkloads(*work)
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return fmt.Errorf("%q is more than one workload", *work)
	}
	endAfter(c.warm + c.dur + 20*time.Second)
	c.wire, c.work, c.servers = p.wire, list[0], []int{*server}
	addr, more, _ := strings.Cut(c.addr, " ") // further processes of the server
	for _, pid := range strings.Fields(more) {
		n, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		c.servers = append(c.servers, n)
	}
	c.addr = addr
	r := result{Peer: p.name, Net: c.network, Workload: c.work.name, Verified: c.verify}
	if err := c.run(&r); err != nil {
		r.Err = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
