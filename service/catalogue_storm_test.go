package service_test

import "testing"

func testG3(t *testing.T) {}
