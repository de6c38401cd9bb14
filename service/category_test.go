package service_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestErrorNames: categories and codes by name; what has none is a number.
func TestErrorNames(t *testing.T) {
	for _, row := range []struct {
		cat, code      int64
		category, name string
	}{
		{service.CategoryV0, service.V0Deadline, "v0", "deadline_error"},
		{6, 4, "transport", "parse"},
		{7, 7, "dispatch", "uncaught_error"},
		{8, 7, "repository", "not_registered"},
		{9, 5, "security", "invalid_acl_framing"},
		{service.CategoryLocator, service.LocatorNotAvailable, "locator", "service_not_available"},
		{10, 5, "locator", "gateway_missing_service"},
		{11, 11, "unicorn", "backend_internal"},
		{13, 1, "protocol", "closed_upstream"},
		{42, 200, "worker", "no_handler"},
		{0x51ff, 8, "node", "uncaught_publish"},
		{0x52ff, 1, "overseer", "queue_is_full"},
		{0x53ff, 14, "slave", "slave_is_sealing"},
		{5, 2, "asio.misc", "eof"},
		{12, 2, "generic", "code 2"},
		{0xff, 1, "unknown", "code 1"},
		{0x54ff, 1, "vicodyn", "code 1"},
		{7, 0, "dispatch", "code 0"},
		{7, 8, "dispatch", "code 8"},
		{99, -1, "category 99", "code -1"},
		{-1, 1, "category -1", "code 1"},
	} {
		if got := service.CategoryName(row.cat); got != row.category {
			t.Errorf("CategoryName(%d) = %q, want %q", row.cat, got, row.category)
		}
		if got := service.CodeName(row.cat, row.code); got != row.name {
			t.Errorf("CodeName(%d, %d) = %q, want %q", row.cat, row.code, got, row.name)
		}
	}
	for _, last := range [][2]int64{
		{service.CategoryTransport, service.TransportParse}, {service.CategoryDispatch, service.DispatchUncaught},
		{service.CategoryRepository, service.RepositoryNotRegistered}, {service.CategorySecurity, service.SecurityInvalidACLFraming},
		{service.CategoryLocator, service.LocatorGatewayMissing}, {service.CategoryUnicorn, service.UnicornBackendInternal},
		{service.CategoryNode, service.NodeUncaughtPublish}, {service.CategoryOverseer, service.OverseerPoolIsFull},
		{service.CategorySlave, service.SlaveSealing}, {service.CategoryProtocol, service.ProtocolClosedUpstream},
	} {
		for code := int64(1); code <= last[1]+1; code++ {
			if has := service.CodeName(last[0], code) != fmt.Sprint("code ", code); has != (code <= last[1]) {
				t.Errorf("CodeName(%d, %d) = %q", last[0], code, service.CodeName(last[0], code))
			}
		}
	}
}

func TestIs(t *testing.T) {
	full := func(cat int64) error {
		return fmt.Errorf("call: %w", &session.Error{Category: cat, Code: service.OverseerQueueIsFull, Remote: true})
	}
	for _, row := range []struct {
		err  error
		want bool
	}{
		{full(service.CategoryOverseer), true},
		{full(service.CategoryUnknown), true},
		{full(service.CategoryNode), false},
		{full(service.CategoryV0), false},
		{&session.Error{Category: service.CategoryOverseer, Code: service.OverseerPoolIsFull}, false},
		{errors.New("other"), false},
		{nil, false},
	} {
		if got := service.Is(row.err, service.CategoryOverseer, service.OverseerQueueIsFull); got != row.want {
			t.Errorf("Is(%v) = %v, want %v", row.err, got, row.want)
		}
	}
	if service.SameCategory(service.CategoryOverseer, service.CategoryUnknown) {
		t.Error("SameCategory(known, unknown) = true: only what came may have lost its category")
	}
}
