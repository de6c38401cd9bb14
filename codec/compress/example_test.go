package compress_test

import (
	"fmt"
	"strings"

	"github.com/sluice-rpc/sluice/codec/compress"
)

func Example() {
	limits := compress.Limits{MaxOutputBytes: 1 << 20}
	enc, dec := compress.NewEncoder(limits), compress.NewDecoder(limits)

	chunk := []byte(strings.Repeat("the same again and ", 100))
	coded, ok := enc.Append(nil, chunk, compress.S2)
	if !ok {
		coded = chunk // and say that it is plain
	}
	plain, err := dec.Append(nil, coded, compress.S2)
	fmt.Println(len(coded) < len(chunk)/10, string(plain) == string(chunk), err)

	_, err = dec.Append(nil, []byte{0x80, 0x80, 0x80, 0x80, 4}, compress.S2)
	fmt.Println(err)
	// Output:
	// true true <nil>
	// compress: s2: too_large: 5 bytes, 1073741824 declared
}
