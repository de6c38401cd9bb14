package service

import "time"

const (
	// maxStale is how many tries to connect in a row are made with the last answer of a
	// locator that cannot be asked, before that answer is dropped.
	maxStale = 3
	// stalePatience is how long a locator may take to answer when there is such an answer.
	stalePatience = 2 * time.Second
)

// lastAnswer keeps what a locator said last, for the time when it cannot be asked. Its
// owner guards it.
type lastAnswer struct {
	r    Resolved
	uses int // since it last led to a connection
}

func (a *lastAnswer) known() bool { return !a.r.Gone() }

// or returns what a locator was asked for, or else the last good answer. What a locator
// says, be it that there is nothing, is better than what it said before.
func (a *lastAnswer) or(r Resolved, err error) (Resolved, error) {
	switch {
	case err == nil:
		*a = lastAnswer{r: r}
	case definite(err) || a.uses == maxStale:
		*a = lastAnswer{}
	case a.known():
		a.uses++
		return a.r, nil
	}
	return r, err
}

// works notes that the answer has led to a connection.
func (a *lastAnswer) works() { a.uses = 0 }
