package engine_test

import (
	"testing"

	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/fsm/fsmtest"
)

func TestEngineStates(t *testing.T) { fsmtest.Walk(t, engine.EngineTable, "testdata/engine") }

func TestAppStates(t *testing.T) { fsmtest.Walk(t, engine.AppTable, "testdata/app") }
