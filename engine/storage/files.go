package storage

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

const tempPrefix = "tmp-"

// maxLogged is how many corrupt records Open logs one by one.
const maxLogged = 20

var errIndexFull = fmt.Errorf("the index of tags is full (Config.MaxIndexBytes): %w", syscall.ENOSPC)

// openRecord opens a record's file and reads all that is before its blob.
func (s *Store) openRecord(name string) (_ file, _ *record, _ header, err error) {
	f, size, err := s.dir.Open(name)
	if err != nil {
		return nil, nil, header{}, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	var b [headerSize]byte
	if err := readFull(f, b[:]); err != nil {
		return nil, nil, header{}, err
	}
	h, err := parseHeader(&b, size)
	if err != nil {
		return nil, nil, header{}, err
	}
	names := make([]byte, h.namesLen)
	if err := readFull(f, names); err != nil {
		return nil, nil, header{}, err
	}
	r, err := h.parseNames(names)
	return f, r, h, err
}

// writeFile makes a file of two parts that the disk has when it returns nil. Otherwise
// there is no file, or Open will sweep it.
func (s *Store) writeFile(name string, head, body []byte) error {
	f, err := s.dir.Create(name)
	if err != nil {
		return err
	}
	err = writeFull(f, head)
	if err == nil {
		err = writeFull(f, body)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = s.dir.Remove(name)
	}
	return err
}

func writeFull(f file, b []byte) error {
	n, err := f.Write(b)
	if err == nil && n < len(b) {
		return io.ErrShortWrite
	}
	return err
}

// scan looks at every file: it builds the index and sweeps what a crash left. It also
// syncs, so that what is seen from now on is what the disk has.
func (s *Store) scan() error {
	var left []string
	err := s.dir.Names(func(name string) error {
		switch {
		case strings.HasPrefix(name, tempPrefix):
			left = append(left, name)
		case isRecord(name):
			return s.scanRecord(name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := s.dir.Remove(name); err != nil {
			return err
		}
	}
	if s.swept = len(left); s.swept > 0 {
		s.log.Info("swept what a crash left", "files", s.swept)
	}
	if s.corrupt > maxLogged {
		s.log.Error("corrupt records; only some were logged", "records", s.corrupt)
	}
	return s.dir.Sync()
}

// scanRecord puts a record into the index. One that is damaged is only counted; it fails
// if the trouble is with us.
func (s *Store) scanRecord(name string) error {
	r, err := s.readNames(name)
	switch {
	case err == nil:
		s.index.put(r)
		return nil
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return err
	}
	if s.corrupt++; s.corrupt <= maxLogged {
		s.log.Error("corrupt record", "file", name, "err", err)
	}
	return nil
}

func (s *Store) readNames(name string) (*record, error) {
	f, r, _, err := s.openRecord(name)
	if err != nil {
		return nil, err
	}
	_ = f.Close()
	if idOf(r.collection, r.key).file() != name {
		return nil, corrupt(fmt.Sprintf("it is of %q in %q", r.key, r.collection))
	}
	return r, nil
}
