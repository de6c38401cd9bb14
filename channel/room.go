package channel

// reserve takes n bytes of the water mark's budget. Any goroutine. What is accepted
// never exceeds the high mark by more than one frame.
func (c *Channel) reserve(n int) bool {
	for {
		had := c.o.queued.Load()
		if had >= int64(c.cfg.HighWaterBytes) {
			return false // and nobody ever sees more than was accepted
		}
		if c.o.queued.CompareAndSwap(had, had+int64(n)) {
			return true
		}
	}
}

// noRoom is what the loop is told that found no room. OnWritable follows when the output has
// left, or when what was reserved has been given back.
func (c *Channel) noRoom() error {
	c.o.wasFull.Store(true) // then look again: it may just have been given back
	if c.o.queued.Load() <= int64(c.cfg.LowWaterBytes) {
		c.schedule()
	}
	return ErrFull
}

// unreserve gives back n bytes that were reserved for a frame that was then refused. No
// output tells of them, so it lets go on those who found no room meanwhile. Any goroutine,
// without the lock.
func (c *Channel) unreserve(n int) {
	o := &c.o
	if o.queued.Add(int64(-n)) <= int64(c.cfg.LowWaterBytes) && (o.waiting.Load() || o.wasFull.Load()) {
		c.Post(c.tellWritable)
	}
}
