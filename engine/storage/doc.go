// Package storage is a file store: blobs by collection and key, found by their tags.
//
//	s, err := storage.Open("/var/lib/sluice/storage", storage.Config{})
//	if err != nil { … }
//	defer s.Close()
//	err = s.Write(ctx, "apps", "echo", manifest, []string{"app"})
//	…
//	keys, err := s.Find(ctx, "apps", []string{"app"}) // those with all of these tags
//	blob, err := s.Read(ctx, "apps", keys[0])         // errors.Is(err, storage.ErrNotFound)
//
// It is what stands behind the storage service, and does what the live runtime's does but
// for two things: a write replaces the tags of its key, and any bytes are a name.
//
// # What is promised
//
// A Write or Remove that returned nil is on the disk: it survives a kill and a power
// loss at any moment after. One that did not return, or returned an error, has happened
// or it has not; nobody ever reads half of it, and blob and tags change together. After
// an error other than [ErrBroken] the old value is still there, in full.
//
// A write is visible to readers shortly before it is acknowledged. A power loss in
// between can take back what they saw.
//
// This holds on file systems that keep what fsync was told to keep, and where rename is
// atomic: ext4, xfs, btrfs, APFS and the like. Elsewhere than on Linux, Darwin and the
// BSDs, Open returns [errors.ErrUnsupported].
//
// # The directory
//
//	lock          held with flock while a Store is open; empty; never removed
//	<64 hex>.rec  one record: SHA-256 of the length of the collection's name (4 bytes),
//	              that name, and the key
//	tmp-<number>  a record being written; what a crash left of them, Open removes
//
// So a file's name is of one length, has lower-case letters and digits only, and says
// nothing about what is in a key; the true names are inside. Other files are let be.
//
// A write makes a tmp file, writes it, syncs it, renames it over the record, and syncs
// the directory. Writers that come to the last step at the same time share one sync. A
// file whose sync failed is not trusted any more, and is discarded. If the sync of the
// directory fails, nobody knows which names the disk has: the store then refuses every
// change with [ErrBroken] until it is opened anew.
//
// # A record
//
// Big-endian; the checksums are CRC-32C.
//
//	  0           7   8         12                20        24        28        32
//	┌─────────────┬───┬─────────┬─────────────────┬─────────┬─────────┬─────────┐
//	│ "sluiceS"   │ 1 │ names   │ blob            │ crc of  │ crc of  │ crc of  │
//	│             │   │ length  │ length          │ names   │ blob    │ 0 … 28  │
//	└─────────────┴───┴─────────┴─────────────────┴─────────┴─────────┴─────────┘
//	┌ names ───────────────┬────────────────┬───────┬────────────────┬ ─ ─┬ blob ─ ─
//	│ length, collection   │ length, key    │ count │ length, tag    │ …  │
//	└──────────────────────┴────────────────┴───────┴────────────────┴ ─ ─┴─ ─ ─ ─ ─
//
// Lengths in names, and the count of tags, have 4 bytes. Tags are sorted, each once. The
// 1 is the version. A file that is longer or shorter than its header says, or whose names
// are not those that its own name is made of, is corrupt.
//
// A corrupt record is an error, [ErrCorrupt], to those who read its key, and to nobody
// else. It is counted, logged, and kept; a Write or Remove of the key replaces it or takes
// it away. Find does not know it if it was corrupt when the store was opened.
//
// # Memory
//
// Open reads the header and names of every record, and builds the index of Find from
// them. It holds the keys that have tags, and nothing of the others: some 200 bytes for a
// key and 50 more for each of its tags, plus some 350 for each distinct tag of a
// collection. 100,000 keys with two of ten tags take 17 MB. [Config].MaxIndexBytes bounds
// it. A Read holds its blob, a Write adds its names and tags to what the caller holds.
package storage
