// Package fsmtest tests the tables of package fsm, from the tests of the packages that own them.
//
// One call walks every pair of state and event of a table and compares the whole matrix, and the diagram, with files
// that the owner commits:
//
//	func TestStates(t *testing.T) {
//		fsmtest.Walk(t, table, "testdata/channel") // channel.txt: the matrix; channel.dot: the diagram
//	}
//
// The files are written by "go test -run TestStates -rewrite"; commit only a difference that you understand. The
// flag -rewrite is the test's own, so that a package may have scripts under the same flag:
//
//	var rewrite = flag.Bool("rewrite", false, "rewrite the files in testdata")
package fsmtest
