// Package engine is the other end of a worker: it spawns worker processes, watches over
// them, and opens sessions on them.
//
//	s, err := engine.Spawn(ctx, engine.SlaveConfig{
//		Command: []string{"./thumbnailer"},
//		App:     "thumbnailer",
//		Dialect: codec.V1,
//	})
//	if err != nil { … }
//	defer s.Kill()
//	call, err := s.Invoke(ctx, "resize", nil) // waits until the worker is ready
//	…
//	err = s.Terminate(ctx, 11, "the engine is shutting down")
//
// # A slave
//
// A [Slave] is the engine's view of one worker process. It is spawning, handshaking,
// active, sealing, terminating, gone (testdata/slave.dot is the diagram). One goroutine,
// its supervisor, owns that; the sessions belong to the loop of the worker's channel.
//
// The process gets the flags of the live runtimes in their order, our environment and
// [EnvEngine], and a process group of its own. Both of its outputs go to one pipe, whose
// last lines are kept for the error of a slave that fails. On our side a slave costs a few
// goroutines and one thread.
//
// # Nothing is left
//
// A slave is gone when its whole process group is dead and reaped, its sessions have
// ended, and its socket, directory and goroutines are no more. However it came to that:
// by [Slave.Terminate], by a crash, by a leader that died before its children, or by a
// worker that ignores every request, which gets SIGTERM and then SIGKILL.
//
// If this process itself is killed, the kernel kills the leaders (on Linux), other
// processes of their groups see their channel end, and a directory "sluice-*" with a dead
// socket stays in the temporary directory. A process that leaves its group (setsid) is
// nobody's any more.
//
// The protocol's rules are §1.2 to §1.5 and §4 of PROTOCOL.md, for v1 also §2.6.
package engine
