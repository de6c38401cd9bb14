// Package worker runs an application worker under an engine: it connects to the
// engine's socket, shakes hands, beats, serves the sessions that the engine opens, and
// ends when either side asks or the engine falls silent.
//
//	w, err := worker.New(worker.FromArgs(os.Args[1:]))
//	if err != nil { … }
//	w.Handle("echo", func(ctx context.Context, s *worker.Session) error {
//		for chunk, err := range s.Chunks(ctx) {
//			if err != nil {
//				return err
//			}
//			if _, err := s.Write(chunk); err != nil {
//				return err
//			}
//		}
//		return nil
//	})
//	err = w.Run(ctx)
//
// # Handlers
//
// [Worker.Handle] runs a handler in a goroutine, where it may block; [Worker.HandleFunc]
// runs one on the channel's loop, where it must not, and where a chunk costs neither a
// copy nor a hop. What a handler returns ends its direction: nil a choke, an error an
// error. A panic is an error to the peer, without the stack, and the worker lives.
//
// # Life
//
// Heartbeats have a timer of their own on the loop, so a handler in a goroutine cannot
// delay them; one on the loop can, and is named in the log after Config.Watchdog.
//
// The engine's terminate refuses new sessions, lets the running ones finish within
// Config.Grace, is answered behind all their data, and closes. Cancelling the context
// of [Worker.Run] does the same from our side.
//
// PROTOCOL.md has the rules: sections 3, 4 and 6, and 12 for what is agreed on with an
// engine of ours.
package worker
