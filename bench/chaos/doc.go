// Package chaos kills workers, runtimes and clients at random moments under load, and
// holds the rest to what the stack promises: every caller is answered, the storage has
// every write that it acknowledged, nothing leaks, and clients come back by themselves.
//
//	go test ./bench/chaos                                       # a short run
//	go test ./bench/chaos -run Kills -kills 200 -timeout 30m -v # the whole
//	go test ./bench/chaos -run Kills -kills 200 -seed 7         # the plan of a run that failed
//	go test ./bench/chaos -run Storm -down 60s -most 0 -v       # a long outage
//
// All of it is tests, on Linux, with processes of the test binary on loopback.
package chaos
