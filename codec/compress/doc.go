// Package compress shrinks chunk payloads with S2 or Zstandard, and is bounded in both directions.
//
//	coded, ok := compress.NewEncoder(limits).Append(nil, chunk, compress.S2) // !ok: send it plain
//	chunk, err := compress.NewDecoder(limits).Append(nil, coded, compress.S2)
//
// One chunk is one encoded form, whole: an S2 block, or a single Zstandard frame that declares its content size and
// names no dictionary. The form does not say which algorithm made it: whoever carries it does. Both declare how long
// the decoded bytes are, so a [Decoder] checks that length against its [Limits] before it makes room for them, and a
// few bytes from a peer cannot cost more memory than the limits say. Only one layer is taken off: what was compressed
// twice comes out compressed once.
//
// An [Encoder] answers "send it plain" for what does not shrink, for what is too short to try, and for what shrinks so
// well that a decoder under the same limits would take it for a bomb. So what it makes, such a decoder reads.
//
// S2 is the default choice. Zstandard packs tighter and costs several times the time: it is for slow links. Neither is
// for a local socket, which moves bytes faster than both can read them, and what is
// large holds up an event loop: package session bounds it.
//
// Encoders and decoders hold the state of their libraries, made when first used, and reuse it without allocating.
// There is no state in the package itself.
package compress
