package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/sluice-rpc/sluice/service"
)

// maxPortTries is how many ports above the locator's are tried for a service.
const maxPortTries = 4096

// serve makes a server for a declaration and has it listen on the next free port, or on
// exactly Config.Listen if it is the locator.
func (e *Engine) serve(ctx context.Context, d service.Declaration) (*service.Server, error) {
	s, err := service.NewServer(service.ServerConfig{
		Declaration: d,
		V0:          e.cfg.V0,
		Loops:       e.loops,
		Sessions:    e.cfg.Sessions,
		MaxConns:    e.cfg.MaxConns,
		Logger:      e.log,
	})
	if err != nil {
		return nil, err
	}
	if d.Name == "locator" {
		err = s.Listen(ctx, "tcp", e.cfg.Listen)
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("another program, perhaps another engine, listens on %s; stop it, or listen elsewhere: %w", e.cfg.Listen, err)
		}
	} else {
		err = e.listen(ctx, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

// listen has a server listen on the first port above the locator's that is free.
func (e *Engine) listen(ctx context.Context, s *service.Server) error {
	host, text, err := net.SplitHostPort(e.cfg.Listen)
	if err != nil {
		return err
	}
	first, _ := strconv.Atoi(text)
	if first == 0 {
		return s.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	err = errors.New("there is none")
	for port := first + 1; port < min(first+maxPortTries, 1<<16); port++ {
		err = s.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
			return err
		}
	}
	return fmt.Errorf("no port above %d is free: %w", first, err)
}
