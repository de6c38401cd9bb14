package channel

import "github.com/sluice-rpc/sluice/codec"

// SendHeartbeat sends a heartbeat ahead of whatever is queued, at the next frame
// boundary. At most one waits; while it does another is not needed and not sent. It
// takes no part in the water marks.
func (c *Channel) SendHeartbeat() error {
	if c.o.beating && c.refusal() == nil {
		c.stats.merged++
		return nil
	}
	err := c.SendUrgent(&codec.Frame{Kind: codec.KindHeartbeat})
	c.o.beating = err == nil
	return err
}

// maxUrgent bounds the control frames that wait. A peer that reads takes them at once.
const maxUrgent = 1 << 20

// SendUrgent sends a small control frame that belongs to no session ahead of whatever is
// queued, at the next frame boundary, in the order of the urgent ones. It takes no part
// in the water marks; ErrFull says that 1 MiB of them wait: the peer does not read.
func (c *Channel) SendUrgent(f *codec.Frame) error {
	if err := c.refusal(); err != nil {
		return err
	}
	if c.o.urgentHeld() > maxUrgent {
		return ErrFull
	}
	c.takeOver() // the first frame may be among what others sent
	c.o.dropTaken()
	c.o.urgent = codec.AppendFrame(c.o.urgent, c.cfg.Dialect, f)
	c.stats.framesOut++
	c.schedule()
	return nil
}

// urgentHeld counts the bytes of urgent frames that have not left.
func (o *outbound) urgentHeld() int { return len(o.urgent) - o.urgentOff }

// dropTaken moves the urgent frames that wait to a buffer of their own once a peer that
// takes them little by little has left a megabyte behind. What is lent to the transport
// stays where it is, and one byte that was taken still says that a frame is under way.
func (o *outbound) dropTaken() {
	if o.urgentOff > maxUrgent {
		o.urgent = append([]byte(nil), o.urgent[o.urgentOff-1:]...)
		o.urgentOff = 1
	}
}
