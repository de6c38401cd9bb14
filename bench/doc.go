// Package bench holds end-to-end scenarios of the stack with both ends in one process:
// an engine's session table and a worker, over each transport and each face.
//
//	go test -run '^$' -bench . ./bench
//
// They show what a change does to time and allocations of the whole. What the stack
// costs beside other servers takes two processes: the module bench/peers.
package bench
