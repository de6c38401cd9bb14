package storage

import (
	"fmt"
	"os"
	"testing"
)

// roleVar says what this test program is when it is started by a test.
const roleVar = "STORAGE_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) == "writer" {
		if err := writeForever(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
