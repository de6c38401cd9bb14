package channel

// schedule has the loop run endTurn for the channel.
func (c *Channel) schedule() {
	if !c.o.scheduled {
		c.o.scheduled = true
		c.loop.flush = append(c.loop.flush, c)
	}
}

// flush gives the transport what it takes, at most writeAhead at a time, a heartbeat
// first at each frame boundary.
func (c *Channel) flush() {
	o := &c.o
	for !o.blocked && !o.inFlight && o.failed == nil && c.broken == nil {
		p := c.nextWrite()
		if len(p) == 0 {
			return
		}
		c.stats.writes++
		n, later, err := c.stream.write(p)
		switch {
		case err != nil:
			c.writeFailed(err)
		case later:
			o.inFlight = true
			if !o.urgentNow {
				o.lent = int64(n)
			}
		default:
			c.took(n)
			o.blocked = n < len(p)
		}
	}
}

// nextWrite returns the bytes to give to the transport next; empty if there are none.
func (c *Channel) nextWrite() []byte {
	o := &c.o
	var rest []byte
	if o.out != nil {
		rest = o.out.B[o.off:]
	}
	started := o.base+int64(o.off) > 0 || len(rest) == 0
	o.urgentNow = o.urgentOff > 0 || len(o.urgent) > 0 && !o.mid && started
	if o.urgentNow {
		return o.urgent[o.urgentOff:]
	}
	if limit := o.writeLimit(len(rest)); limit < len(rest) {
		return rest[:limit]
	}
	return rest
}

// writeLimit says how many of the n bytes that wait may be given in one write: up to
// the next boundary when a heartbeat wants to go there, else to the last boundary
// within writeAhead, or the end of the frame if it is longer than that.
func (o *outbound) writeLimit(n int) int {
	if len(o.urgent) == 0 && n <= writeAhead {
		return n
	}
	at, best := o.base+int64(o.off), n
	for i, b := range o.bounds {
		d := int(b - at)
		if i > 0 && d > writeAhead {
			break
		}
		best = d
		if len(o.urgent) > 0 {
			break
		}
	}
	return best
}

// took accounts for n bytes that the transport took of what nextWrite returned.
func (c *Channel) took(n int) {
	o := &c.o
	if n == 0 {
		return
	}
	c.stats.bytesOut += uint64(n)
	if o.urgentNow {
		if o.urgentOff += n; o.urgentOff == len(o.urgent) {
			o.urgent, o.urgentOff, o.beating = keepSmall(o.urgent), 0, false
		}
		return
	}
	o.off += n
	o.written += int64(n)
	o.queued.Add(int64(-n))
	at := o.base + int64(o.off)
	o.mid = true
	passed := 0
	for passed < len(o.bounds) && o.bounds[passed] <= at {
		o.mid = o.bounds[passed] != at
		passed++
	}
	if passed > 0 {
		o.bounds = o.bounds[:copy(o.bounds, o.bounds[passed:])]
	}
	switch rest := len(o.out.B) - o.off; {
	case rest == 0:
		o.mid = false
		o.base, o.off = at, 0
		o.bounds = keepSmall(o.bounds)
		c.loop.buffers.put(o.out)
		o.out = nil
	case o.off >= writeAhead && o.off >= rest:
		o.out.B = o.out.B[:copy(o.out.B, o.out.B[o.off:])]
		o.base, o.off = at, 0
	}
}

// wrote is called by the transport when it is done with the bytes it had borrowed.
func (c *Channel) wrote(n int, err error) {
	c.o.inFlight, c.o.lent = false, 0
	c.took(n)
	if err != nil {
		c.writeFailed(err)
		return
	}
	c.schedule()
}

// writeFailed ends the channel because nothing can be written any more. The peer may
// have said why, so what it sent is still read, to its end or for lastWords.
func (c *Channel) writeFailed(err error) {
	o := &c.o
	failed := ioError(err, false, 0)
	if c.State() == Closing || c.in.paused || c.in.ended {
		c.Fail(failed)
		return
	}
	c.seal(failed)
	o.failed = failed
	o.lastWords = c.NewTimer(func() { c.Fail(failed) })
	o.lastWords.Reset(lastWords)
}

// writable is called by the transport when it takes bytes again.
func (c *Channel) writable() {
	c.o.blocked = false
	c.schedule()
}

// tellWritable lets those go on who were refused, once output is low. The owner is told
// in a turn of its own, so that one that fills the output anew does not keep this turn.
func (c *Channel) tellWritable() {
	o := &c.o
	if o.queued.Load() > int64(c.cfg.LowWaterBytes) {
		return
	}
	if o.waiting.Load() {
		c.admitWaiters()
	}
	if o.wasFull.Load() && !o.telling {
		o.telling = c.Post(c.tellOwner)
	}
}

func (c *Channel) tellOwner() {
	o := &c.o
	o.telling = false
	if o.queued.Load() > int64(c.cfg.LowWaterBytes) {
		return // told when it has fallen again
	}
	o.wasFull.Store(false)
	if c.refusal() == nil {
		c.h.OnWritable()
	}
}

// watchStall cuts a peer that stopped reading: while output is above the low mark it
// must take progressBytes in each StallTimeout.
func (c *Channel) watchStall() {
	o := &c.o
	switch {
	case o.queued.Load() <= int64(c.cfg.LowWaterBytes) || !o.blocked && !o.inFlight:
		if o.stall != nil {
			o.stall.Stop()
		}
		return
	case o.stall == nil:
		o.stall = c.NewTimer(func() {
			if o.written-o.stallMark < progressBytes {
				c.Fail(&CloseError{Code: CodeSlowPeer, Remote: true,
					Reason: "the peer does not read what is sent to it"})
				return
			}
			c.schedule()
		})
	}
	if !o.stall.Active() {
		o.stallMark = o.written
		o.stall.Reset(c.cfg.StallTimeout)
	}
}
