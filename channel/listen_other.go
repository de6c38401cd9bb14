//go:build !unix || aix || solaris

package channel

import (
	"context"
	"errors"
	"net"
)

// maxSocketPath is the longest path of a unix socket.
const maxSocketPath = 107

// listenUnix leaves everything to the net package, which removes the file on Close.
func listenUnix(ctx context.Context, path string) (acceptor, func() error, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, nil, err
	}
	return ln.(*net.UnixListener), nil, nil
}

// reserve does nothing: running out of descriptors is no matter of accept here.
type reserve struct{}

func (*reserve) take()         {}
func (*reserve) release() bool { return false }

func outOfDescriptors(error) bool { return false }

// acceptAgain reports whether accept may work again after err.
func acceptAgain(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}
