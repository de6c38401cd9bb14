package service

import (
	"testing"

	"github.com/sluice-rpc/sluice/fsm/fsmtest"
)

// TestBaseStates tries every event in every state, and keeps the diagram.
func TestBaseStates(t *testing.T) { fsmtest.Walk(t, baseTable, "testdata/base_service") }
