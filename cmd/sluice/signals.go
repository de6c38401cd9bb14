package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// sameSignal is how long a second signal counts as the first one: timeout(1) sends
	// each to the process and to its group.
	sameSignal = 100 * time.Millisecond
	// hardTimeout is for all that the second signal ends at once. What then still waits,
	// for example for somebody to read our stderr, waits for ever.
	hardTimeout = engineKillTimeout + 2*time.Second
)

// signals are what others tell this process. No signal ends it by itself: it has workers to
// end first.
type signals struct {
	soft context.Context // ends at the first signal to stop
	hard context.Context // ends at the second; what still runs is cut off hardTimeout later

	reloads atomic.Bool    // hangups are no signals to stop
	hangup  chan os.Signal // those
	raw     chan os.Signal // all hangups that are not ignored
}

func catchSignals() *signals {
	s := &signals{hangup: make(chan os.Signal, 1), raw: make(chan os.Signal, 1)}
	hard, cancelHard := context.WithCancel(context.Background())
	soft, cancelSoft := context.WithCancelCause(hard)
	s.soft, s.hard = soft, hard
	stop, hangup := make(chan os.Signal, 2), s.raw
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signal.Notify(hangup, syscall.SIGHUP)
	}
	// A reader of our output that goes away is an error of Write, and no signal.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		cancelSoft(fmt.Errorf("stopped by a signal: %v", s.stop(stop, hangup)))
		for begun := time.Now(); ; {
			if s.stop(stop, hangup); time.Since(begun) >= sameSignal {
				break
			}
		}
		cancelHard()
		time.Sleep(hardTimeout)
		os.Exit(exitLocal)
	}()
	return s
}

// stop waits for a signal to stop.
func (s *signals) stop(stop, hangup chan os.Signal) os.Signal {
	for {
		select {
		case sig := <-stop:
			return sig
		case sig := <-hangup:
			if !s.reloads.Load() {
				return sig
			}
			select {
			case s.hangup <- sig:
			default: // there is one already
			}
		}
	}
}

// hangups has a hangup be no signal to stop from now on, and returns where they come, under
// nohup, too: that has a hangup not end a program, and this one is not ended.
func (s *signals) hangups() <-chan os.Signal {
	s.reloads.Store(true)
	signal.Notify(s.raw, syscall.SIGHUP)
	return s.hangup
}
