package service

import (
	"cmp"
	"crypto/md5" // which the protocol prescribes to spread names; nothing is secured by it
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/sluice-rpc/sluice/codec"
)

// Limits of a Ring.
const (
	// MaxRingMembers of a routing group.
	MaxRingMembers = 1024
	// MaxRingPoints of a routing group: twice what that many members have.
	MaxRingPoints = 2 * MaxRingMembers * hashesPerMember * pointsPerHash
)

const (
	hashesPerMember = 64 // of average weight
	pointsPerHash   = md5.Size / 4
)

// Ring is a routing group: it chooses one of several services, the same one for the same
// seed, and more often those of higher weight (protocol: locator, resolve with a seed
// and routing). It is immutable and may be shared. The zero value has no members.
type Ring struct {
	// immutable
	members []string
	points  []ringPoint // by at
}

// ringPoint is where a member begins to be chosen for what lies below.
type ringPoint struct {
	at     uint32
	member uint32 // index
}

// NewRing returns the ring of a routing group, from the weights of its services by name,
// with the very points that the C++ runtime gives it. There must be a weight above 0, and
// at most MaxRingMembers.
func NewRing(weights map[string]uint32) (*Ring, error) {
	if len(weights) > MaxRingMembers {
		return nil, fmt.Errorf("service: routing group of %d services, limit %d", len(weights), MaxRingMembers)
	}
	r := &Ring{members: sortedKeys(weights)}
	var total float32 // which the runtime uses, too: beyond 2^24 sums differ otherwise
	for _, name := range r.members {
		if err := checkName("name", len(name)); err != nil {
			return nil, fmt.Errorf("service: routing group: %w", err)
		}
		total += float32(weights[name])
	}
	if total == 0 {
		return nil, fmt.Errorf("service: routing group of %d services without any weight", len(weights))
	}
	for i, name := range r.members {
		share := float64(weights[name]) / float64(total)
		r.place(uint32(i), name, int(math.Round(share*float64(hashesPerMember*len(weights)))))
	}
	slices.SortFunc(r.points, func(a, b ringPoint) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.member, b.member))
	})
	return r, nil
}

// place adds the points of one member: four of each hash of its name and a number.
func (r *Ring) place(member uint32, name string, hashes int) {
	for step := range uint64(hashes) {
		hash := md5.Sum(binary.LittleEndian.AppendUint64([]byte(name), step))
		for _, at := range words(hash) {
			r.points = append(r.points, ringPoint{at, member})
		}
	}
}

// words returns a hash as the numbers that it is in the memory of a little-endian machine.
func words(hash [md5.Size]byte) (w [pointsPerHash]uint32) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(hash[4*i:])
	}
	return w
}

// Choose returns the member for a seed, always the same; "" if the ring is empty.
func (r *Ring) Choose(seed string) string {
	w := words(md5.Sum([]byte(seed)))
	return r.At(w[0] ^ w[1] ^ w[2] ^ w[3])
}

// At returns the member of the first point above the given one, around the ring; "" if
// the ring is empty. With a random point that is the choice without a seed.
func (r *Ring) At(point uint32) string {
	if len(r.points) == 0 {
		return ""
	}
	i := sort.Search(len(r.points), func(i int) bool { return r.points[i].at > point })
	if i == len(r.points) {
		i = 0
	}
	return r.members[r.points[i].member]
}

// Members returns the services that can be chosen or have too little weight for it, in
// order.
func (r *Ring) Members() []string { return slices.Sorted(slices.Values(r.members)) }

// Len returns the number of points.
func (r *Ring) Len() int { return len(r.points) }

// DecodeRouting reads one message of the stream that answers routing: the argument array
// [{group: [[point, service]...]}], of at most MaxEntries groups (protocol: locator).
// args is borrowed. Of a group that is there twice the last counts.
func DecodeRouting(args []byte) (map[string]*Ring, error) {
	r := argsReader(args)
	groups := make(map[string]*Ring)
	for n := r.table("groups", MaxEntries); n > 0 && r.ok(); n-- {
		group := r.name("group")
		groups[group] = r.ring()
	}
	return done(&r, "routing", groups)
}

// ring reads the points of a group. Where several points are the same their order is
// kept: the sender chooses by it.
func (r *reader) ring() *Ring {
	ring, index := &Ring{}, make(map[string]uint32)
	for n := r.list("points", MaxRingPoints); n > 0 && r.ok(); n-- {
		surplus := r.tuple("point", 2)
		at := r.number("point", math.MaxUint32)
		name := r.rawName("service")
		r.skip(surplus)
		if !r.ok() {
			break
		}
		member, known := index[string(name)]
		if !known {
			if len(ring.members) == MaxRingMembers {
				r.fail("more than %d services in a group", MaxRingMembers)
				break
			}
			member = uint32(len(ring.members))
			ring.members = append(ring.members, string(name))
			index[ring.members[member]] = member
		}
		ring.points = append(ring.points, ringPoint{uint32(at), member})
	}
	slices.SortStableFunc(ring.points, func(a, b ringPoint) int { return cmp.Compare(a.at, b.at) })
	return ring
}

// AppendRouting appends the argument array that DecodeRouting reads.
func AppendRouting(dst []byte, groups map[string]*Ring) []byte {
	dst = codec.AppendMapHeader(codec.AppendArrayHeader(dst, 1), len(groups))
	for _, group := range sortedKeys(groups) {
		ring := groups[group]
		dst = codec.AppendArrayHeader(codec.AppendString(dst, group), len(ring.points))
		for _, p := range ring.points {
			dst = codec.AppendUint(codec.AppendArrayHeader(dst, 2), uint64(p.at))
			dst = codec.AppendString(dst, ring.members[p.member])
		}
	}
	return dst
}
