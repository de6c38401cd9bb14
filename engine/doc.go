// Package engine is the other end of a worker, and with it a whole node: an [Engine] runs
// applications and the stock services; an [App] is the queue and the pool of workers of one
// application; a [Slave] is one worker.
//
//	e, err := engine.New(engine.Config{
//		Apps: []engine.Source{{Name: "thumbnailer", Command: []string{"./thumbnailer"}}},
//	})
//	if err != nil { … }
//	err = e.Run(ctx) // until ctx ends
//
// # An engine
//
// An [Engine] serves "locator", "storage", "logging", "tail" and "node", and one service for
// each application that runs, each at a port of its own. All their channels, and those of
// the workers, are on one loop, so that a request goes from its client to a worker and
// back without a change of threads.
//
// An application is a bare command, for development, or a package: manifest, archive and
// profile in the storage, where the tools of the live runtimes look for them. What is wrong
// with one of them is a [FieldError], with the file or key and the field; nothing of it is
// taken, and what runs goes on. An application is spooling, running, stopping, stopped, or
// broken (testdata/app.dot); what runs when an Engine ends, or is killed, is started again
// by the next one with the same directory.
//
// An Engine that ends takes its applications out of the locator, has them finish what they
// do for Config.Grace, terminates their workers, and closes the stock services last.
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
// # An application
//
// An [App] is a queue of requests and a pool of slaves that share one socket. [App.Enqueue]
// joins a client's session with one of the slave that has least to do, on the loop of the
// client and without a goroutine; without a free slave it waits its turn. What is to be
// done (who gets a request, when the pool grows, shrinks, or waits after failures) is
// decided by pool, which is pure; the App carries it out. A request is always answered: by
// its worker, or by an error in the client's dialect that says why not. One that its slave
// did not get goes back to its place in the queue; one that it got is not repeated.
//
// # Nothing is left
//
// A slave is gone when its whole process group is dead and reaped, its sessions have
// ended, and its socket, directory and goroutines are no more. However it came to that:
// by [Slave.Terminate], by a crash, by a leader that died before its children, or by a
// worker that ignores every request, which gets SIGTERM and then SIGKILL.
//
// If this process itself is killed, so are the groups: the kernel kills the leaders (on
// Linux), and in each group a shell of ours waits for that moment and kills the rest (where
// there is /bin/sh). A directory "sluice-*" with a dead socket stays in the temporary
// directory, which the next Engine removes; those of an Engine are in its own directory. A
// process that leaves its group (setsid) is nobody's any more.
//
// PROTOCOL.md has the rules: the messages of a worker link, its life, its errors, and where
// services and engine differ from the C++ runtime.
package engine
