package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxOutputBatchBytes is how much is written at once.
const maxOutputBatchBytes = 64 << 10

// logOutput writes records, one line each. Those who offer them never wait: there is a
// bounded queue, and what does not fit is dropped and counted. A goroutine writes while
// there is something to write.
type logOutput struct {
	maxRecords int // immutable
	maxBytes   int

	queued, written, dropped, failures atomic.Uint64

	mu      sync.Mutex    // no lock is taken under it
	queue   []logRecord   // guarded by mu; with what is being written, at most maxRecords
	taken   int           // being written
	bytes   int           // of all these
	lost    uint64        // dropped since the last line that said so
	idle    chan struct{} // guarded by mu; not nil while the goroutine runs, closed by it
	closed  bool          // guarded by mu
	lastErr error         // guarded by mu

	writing sync.Mutex // held while the goroutine is at the file
	path    string     // empty: the writer is the caller's. guarded by writing, as the rest
	file    *os.File
	under   io.Writer     // the file, or what the caller gave
	to      *bufio.Writer // writes to under
	lines   slog.Handler  // writes to to
}

// newLogOutput opens the file, if a path is given; else all goes to w.
func newLogOutput(cfg *LoggingConfig) (*logOutput, error) {
	o := &logOutput{maxRecords: cfg.MaxQueue, maxBytes: cfg.MaxQueueBytes, path: cfg.File}
	o.under = cfg.Output
	if cfg.Handler != nil {
		o.path, o.lines = "", cfg.Handler
		o.to = bufio.NewWriter(io.Discard)
		return o, nil
	}
	if o.path != "" {
		file, err := openLog(o.path)
		if err != nil {
			return nil, err
		}
		o.file, o.under = file, file
	}
	o.to = bufio.NewWriterSize(o.under, maxOutputBatchBytes)
	every := &slog.HandlerOptions{Level: slog.LevelDebug}
	if cfg.Format == LogText {
		o.lines = slog.NewTextHandler(o.to, every)
	} else {
		o.lines = slog.NewJSONHandler(o.to, every)
	}
	return o, nil
}

func openLog(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("engine: open the log file: %w", err)
	}
	return file, nil
}

// offer takes a record, or drops it. It never waits for the file.
func (o *logOutput) offer(l logRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(o.queue)+o.taken >= o.maxRecords || o.bytes+len(l.args) > o.maxBytes {
		o.dropped.Add(1)
		o.lost++
		return
	}
	o.queue = append(o.queue, l)
	o.bytes += len(l.args)
	o.queued.Add(1)
	if o.idle == nil {
		o.idle = make(chan struct{})
		go o.run()
	}
}

// run writes what is queued, and ends when that is all.
func (o *logOutput) run() {
	var done []logRecord
	for {
		o.mu.Lock()
		o.taken = 0
		for i := range done {
			o.bytes -= len(done[i].args)
		}
		if len(o.queue) == 0 && (o.lost == 0 || o.closed) {
			close(o.idle)
			o.idle, o.queue = nil, nil
			closed := o.closed
			o.mu.Unlock()
			if closed {
				_ = o.closeFile()
			}
			return
		}
		clear(done)
		batch, lost := o.queue, o.lost
		o.queue, o.lost, o.taken = done[:0], 0, len(batch)
		o.mu.Unlock()
		o.write(batch, lost)
		done = batch
	}
}

func (o *logOutput) write(batch []logRecord, lost uint64) {
	o.writing.Lock()
	defer o.writing.Unlock()
	var failed error
	for i := range batch {
		if err := batch[i].handle(o.lines); err != nil {
			failed = err
		}
	}
	if lost > 0 {
		note := slog.NewRecord(time.Now(), slog.LevelWarn, "records were dropped: the log cannot be written as fast as they come", 0)
		note.AddAttrs(slog.String("source", "logging"), slog.Uint64("dropped", lost))
		if err := o.lines.Handle(context.Background(), note); err != nil {
			failed = err
		}
	}
	if err := o.to.Flush(); err != nil {
		failed = err
		o.to.Reset(o.under) // it would keep the error
	}
	if failed != nil {
		o.failures.Add(1)
		o.mu.Lock()
		o.lastErr = failed
		o.mu.Unlock()
		return
	}
	o.written.Add(uint64(len(batch)))
}

// closeFile closes the file, if it is ours, once.
func (o *logOutput) closeFile() error {
	o.writing.Lock()
	defer o.writing.Unlock()
	if o.file == nil {
		return nil
	}
	err := o.file.Close()
	o.file, o.under = nil, io.Discard
	o.to.Reset(io.Discard)
	return err
}

// reopen opens the file of that name anew, which a rotation has put in the place of ours.
// It waits for what is being written.
func (o *logOutput) reopen() error {
	if o.path == "" {
		return nil
	}
	file, err := openLog(o.path)
	if err != nil {
		return err
	}
	o.writing.Lock()
	defer o.writing.Unlock()
	if o.file == nil { // closed
		return file.Close()
	}
	old := o.file
	o.file, o.under = file, file
	o.to.Reset(file)
	return old.Close()
}

// flush waits until all that was offered before it has been written.
func (o *logOutput) flush(ctx context.Context) error {
	o.mu.Lock()
	idle := o.idle
	o.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		o.mu.Lock()
		defer o.mu.Unlock()
		if left := len(o.queue) + o.taken; left > 0 {
			return fmt.Errorf("engine: %d records of the log are not written yet: %w", left, context.Cause(ctx))
		}
		return nil
	}
}

// close refuses what is offered from now on, and waits for the rest. If ctx ends first,
// the goroutine closes the file when it comes to that.
func (o *logOutput) close(ctx context.Context) error {
	o.mu.Lock()
	o.closed = true
	idle := o.idle
	o.mu.Unlock()
	if idle == nil {
		return o.closeFile()
	}
	return o.flush(ctx)
}
