// Package enginetest has engines for the tests of workers.
//
// [New] is a scripted one, for bubbles of testing/synctest: it plays an engine frame by
// frame over a local pair and compares what the worker sends byte for byte.
//
//	synctest.Test(t, func(t *testing.T) {
//		e := enginetest.New(t, codec.V1)
//		go run(e.Conn()) // a worker with the uuid "u"
//		e.ExpectHandshake("u")
//		id := e.Invoke("echo", "hello")
//		e.Expect(codec.Frame{Kind: codec.KindChunk, Session: id, Payload: []byte("hello")})
//		e.Terminate(1, "bye")
//	})
//
// [Spawn] is a real one: it runs a program, which [Build] compiles, as the engine does,
// and fails the test if something of it is left.
package enginetest
