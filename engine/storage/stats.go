package storage

import "sync/atomic"

// Stats is a snapshot of what a Store has done and holds.
type Stats struct {
	Reads, Writes, Removes, Finds uint64 // that ended well
	NotFound                      uint64 // Reads of missing keys
	CorruptReads                  uint64 // Reads of corrupt records
	Failures                      uint64 // calls that ended in any other error
	DirSyncs                      uint64 // Writes and Removes that came together share one

	Swept   int // left by a crash and removed by Open
	Corrupt int // records that Open found corrupt, or could not read

	IndexKeys  int   // keys with tags
	IndexTags  int   // distinct tags, in each collection
	IndexBytes int64 // estimated, rather too high; see Config.MaxIndexBytes

	Broken bool // see ErrBroken
}

type counters struct {
	reads, writes, removes, finds    atomic.Uint64
	notFound, corruptReads, failures atomic.Uint64
}

// Stats returns a snapshot. Any goroutine.
func (s *Store) Stats() Stats {
	c := &s.counters
	st := Stats{
		Reads: c.reads.Load(), Writes: c.writes.Load(), Removes: c.removes.Load(), Finds: c.finds.Load(),
		NotFound: c.notFound.Load(), CorruptReads: c.corruptReads.Load(), Failures: c.failures.Load(),
		DirSyncs: s.names.rounds.Load(),
		Swept:    s.swept, Corrupt: s.corrupt,
		Broken: s.names.failure() != nil,
	}
	st.IndexKeys, st.IndexTags, st.IndexBytes = s.index.size()
	return st
}
