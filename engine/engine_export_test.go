package engine

import (
	"bytes"
	"io"
)

// The tables of an engine and its applications, for the walk.
var (
	EngineTable = engineTable
	AppTable    = appTable
)

// Unpack is unpack with defaults for limits.
func Unpack(archive []byte, dir string, limits PackageLimits) error {
	limits.setDefaults()
	return unpack(bytes.NewReader(archive), int64(len(archive)), dir, limits)
}

// Walk is walk with the names and bodies of files, and the names of all else.
func Walk(archive []byte, limits PackageLimits, f func(name string, body io.Reader) error) error {
	limits.setDefaults()
	return walk(bytes.NewReader(archive), int64(len(archive)), limits, func(it item) error {
		if !it.mode.IsRegular() || it.hard {
			it.body = bytes.NewReader(nil)
		}
		return f(it.name, it.body)
	})
}
