//go:build !linux

package channel

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
)

// eventLoops says whether this system has the event loop.
const eventLoops = false

type pollLoop struct{}

func openPollLoop(*slog.Logger) (*pollLoop, error) { return nil, errors.ErrUnsupported }

func (*pollLoop) run()                                    {}
func (*pollLoop) stop()                                   {}
func (*pollLoop) attach(*Channel, net.Conn, func()) error { return errors.ErrUnsupported }

// socketUnread: nobody can tell here.
func socketUnread(syscall.RawConn) bool { return false }
