// Package arch holds the shape of the core module and fails the build when the code leaves it. There is nothing in it
// but tests:
//
//   - imports go one way, as the table in layers_test.go says, and every package has a row there;
//   - what the core takes from other modules is what testdata/deps.txt lists, each with its reason;
//   - every package has a doc.go, every exported name a comment, no file more than 500 lines;
//   - what comments name as the source of a rule is there in PROTOCOL.md;
//   - no unsafe, no cgo, no init function, no package or file that is named for nothing in particular.
//
// Modules within the tree (directories with a go.mod of their own) are not part of the core and not looked at. Each
// check has scripts in testdata that it must complain about, run with -rewrite to write what it says.
package arch
