package engine_test

import (
	"fmt"
	"net"
	"os"
	"testing"
)

// freePorts returns the first of n free ports in a row. The system gives them to nobody who
// asks for any, so that another test does not have them by the time they are used.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for try := range 1000 {
		first := 12000 + (os.Getpid()*37+try*101)%18000
		free := 0
		for ; free < n; free++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+free))
			if err != nil {
				break
			}
			_ = l.Close()
		}
		if free == n {
			return first
		}
	}
	t.Fatalf("there are no %d free ports in a row", n)
	return 0
}
