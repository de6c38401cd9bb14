package service

import (
	"errors"
	"strconv"

	"github.com/sluice-rpc/sluice/session"
)

// Categories of errors (protocol: error categories). v0 carries none, which is
// CategoryV0. The codes of the categories 1 to 5 and 12 are numbers of the system that
// the peer runs on.
const (
	CategoryV0         = 0
	CategorySystem     = 1  // errno
	CategoryAsioSystem = 2  // errno
	CategoryNetDB      = 3  // looking up hosts
	CategoryAddrInfo   = 4  // looking up hosts and services
	CategoryAsioMisc   = 5  // see AsioEOF
	CategoryTransport  = 6  // frames that cannot be read
	CategoryDispatch   = 7  // messages that nobody takes
	CategoryRepository = 8  // loading of plug-ins
	CategorySecurity   = 9  // tokens and rights
	CategoryLocator    = 10 // names of services
	CategoryUnicorn    = 11 // the configuration service
	CategoryGeneric    = 12 // errno, e.g. the storage's missing key
	CategoryProtocol   = 13 // use of a session that is over
	CategoryWorker     = session.CategoryWorker
	CategoryUser       = session.CategoryUser
	CategoryUnknown    = 0xff   // one that a runtime on the way does not know; see SameCategory
	CategoryNode       = 0x51ff // applications
	CategoryOverseer   = 0x52ff // the pool of an application's workers
	CategorySlave      = 0x53ff // one worker
	CategoryVicodyn    = 0x54ff // the proxy between nodes
)

// Codes of v0, where nothing else says what went wrong (protocol: services in v0).
const (
	V0Invocation = 1 // unknown service or method, bad arguments, or the method failed
	V0Resource   = 2 // the queue or the pool is full, the engine does not run, the worker died
	V0Timeout    = 3
	V0Deadline   = 4 // expired in the queue
)

// AsioEOF of CategoryAsioMisc: the other side of a session has gone, or the worker that
// ran it.
const AsioEOF = 2

// Codes of CategoryTransport.
const (
	TransportFrameFormat       = 1
	TransportHPACK             = 2
	TransportInsufficientBytes = 3
	TransportParse             = 4
)

// Codes of CategoryDispatch.
const (
	DispatchDuplicateSlot   = 1
	DispatchInvalidArgument = 2
	DispatchNotConnected    = 3
	DispatchRevokedChannel  = 4
	DispatchSlotNotFound    = 5
	DispatchUnbound         = 6
	DispatchUncaught        = 7
)

// Codes of CategoryRepository.
const (
	RepositoryComponentNotFound = 1
	RepositoryDuplicate         = 2
	RepositoryInitialization    = 3
	RepositoryInvalidInterface  = 4
	RepositoryDlopen            = 5
	RepositoryVersionMismatch   = 6
	RepositoryNotRegistered     = 7
)

// Codes of CategorySecurity.
const (
	SecurityTokenNotFound      = 1
	SecurityUnauthorized       = 2
	SecurityPermissionDenied   = 3
	SecurityPermissionsChanged = 4
	SecurityInvalidACLFraming  = 5
)

// Codes of CategoryLocator.
const (
	LocatorNotAvailable     = 1 // nobody has a service of that name
	LocatorRoutingStorage   = 2
	LocatorMissingVersion   = 3
	LocatorGatewayDuplicate = 4
	LocatorGatewayMissing   = 5
)

// Codes of CategoryUnicorn.
const (
	UnicornChildNotAllowed   = 1
	UnicornInvalidType       = 2
	UnicornInvalidValue      = 3
	UnicornUnknown           = 4
	UnicornInvalidNodeName   = 5
	UnicornInvalidPath       = 6
	UnicornVersionNotAllowed = 7
	UnicornNoNode            = 8
	UnicornNodeExists        = 9
	UnicornConnectionLoss    = 10
	UnicornBackendInternal   = 11
)

// ProtocolClosedUpstream of CategoryProtocol.
const ProtocolClosedUpstream = 1

// Codes of CategoryNode.
const (
	NodeDeadline          = 1 // expired in the queue
	NodeResource          = 2
	NodeTimeout           = 3
	NodeInvalidAssignment = 4
	NodeAlreadyStarted    = 5
	NodeNotRunning        = 6
	NodeUncaughtSpool     = 7
	NodeUncaughtPublish   = 8
)

// Codes of CategoryOverseer. Behind both of them nothing of the call was done.
const (
	OverseerQueueIsFull = 1
	OverseerPoolIsFull  = 2
)

// Codes of CategorySlave; in v1 also the codes of an engine's terminate.
const (
	SlaveSpawnTimeout          = 1
	SlaveLocatorNotFound       = 2
	SlaveEmptyLocatorEndpoints = 3
	SlaveActivateTimeout       = 4
	SlaveUnknownActivate       = 5
	SlaveSealTimeout           = 6
	SlaveTerminateTimeout      = 7
	SlaveHeartbeatTimeout      = 8
	SlaveInvalidState          = 9
	SlaveControlIPC            = 10
	SlaveOverseerShutdowning   = 11
	SlaveCommittedSuicide      = 12
	SlaveIdle                  = 13
	SlaveSealing               = 14
)

// category is the name of a category and the names of its codes.
type category struct {
	name  string
	codes map[int64]string
}

// counted names codes from 1 on.
func counted(names ...string) map[int64]string {
	m := make(map[int64]string, len(names))
	for i, name := range names {
		m[int64(i+1)] = name
	}
	return m
}

// categories is never written after start.
var categories = map[int64]category{
	CategoryV0:         {"v0", counted("invocation_error", "resource_error", "timeout_error", "deadline_error")},
	CategorySystem:     {"system", nil},
	CategoryAsioSystem: {"asio.system", nil},
	CategoryNetDB:      {"asio.netdb", nil},
	CategoryAddrInfo:   {"asio.addrinfo", nil},
	CategoryAsioMisc:   {"asio.misc", map[int64]string{AsioEOF: "eof"}},
	CategoryTransport:  {"transport", counted("frame_format", "hpack", "insufficient_bytes", "parse")},
	CategoryDispatch: {"dispatch", counted("duplicate_slot", "invalid_argument", "not_connected",
		"revoked_channel", "slot_not_found", "unbound_dispatch", "uncaught_error")},
	CategoryRepository: {"repository", counted("component_not_found", "duplicate", "initialization",
		"invalid_interface", "dlopen", "version_mismatch", "not_registered")},
	CategorySecurity: {"security", counted("token_not_found", "unauthorized", "permission_denied",
		"permissions_changed", "invalid_acl_framing")},
	CategoryLocator: {"locator", counted("service_not_available", "routing_storage", "missing_version",
		"gateway_duplicate_service", "gateway_missing_service")},
	CategoryUnicorn: {"unicorn", counted("child_not_allowed", "invalid_type", "invalid_value", "unknown",
		"invalid_node_name", "invalid_path", "version_not_allowed", "no_node", "node_exists",
		"connection_loss", "backend_internal")},
	CategoryGeneric:  {"generic", nil},
	CategoryProtocol: {"protocol", counted("closed_upstream")},
	CategoryWorker: {"worker", map[int64]string{
		session.CodePanic:           "panic",
		session.CodeNoHandler:       "no_handler",
		session.CodeNameTooLong:     "name_too_long",
		session.CodeTooManySessions: "too_many_sessions",
		session.CodeOverflow:        "overflow",
		session.CodeUnknownType:     "unknown_type",
		session.CodeTerminating:     "terminating",
		session.CodeDeadline:        "deadline",
		session.CodeMalformed:       "malformed",
		session.CodeFailed:          "failed",
	}},
	CategoryUser:    {"user", nil},
	CategoryUnknown: {"unknown", nil},
	CategoryNode: {"node", counted("deadline", "resource", "timeout", "invalid_assignment",
		"already_started", "not_running", "uncaught_spool", "uncaught_publish")},
	CategoryOverseer: {"overseer", counted("queue_is_full", "pool_is_full")},
	CategorySlave: {"slave", counted("spawn_timeout", "locator_not_found", "empty_locator_endpoints",
		"activate_timeout", "unknown_activate", "seal_timeout", "terminate_timeout", "heartbeat_timeout",
		"invalid_state", "control_ipc", "overseer_shutdowning", "committed_suicide", "slave_idle",
		"slave_is_sealing")},
	CategoryVicodyn: {"vicodyn", nil},
}

// CategoryName returns the name of a category, for example "locator", or "category 99" if
// it has none.
func CategoryName(cat int64) string {
	if c, ok := categories[cat]; ok {
		return c.name
	}
	return "category " + strconv.FormatInt(cat, 10)
}

// CodeName returns the name of a code within its category, for example "queue_is_full",
// or "code 99" if it has none.
func CodeName(cat, code int64) string {
	if name, ok := categories[cat].codes[code]; ok {
		return name
	}
	return "code " + strconv.FormatInt(code, 10)
}

// SameCategory reports whether an error that came with one category may be of another. A
// category turns into CategoryUnknown on its way through a runtime that does not have it,
// the plug-in's for example; the code stays (protocol: error categories).
func SameCategory(got, want int64) bool { return got == want || got == CategoryUnknown }

// Is reports whether err is a *session.Error of that code and category, as SameCategory
// has it.
func Is(err error, cat, code int64) bool {
	var e *session.Error
	return errors.As(err, &e) && e.Code == code && SameCategory(e.Category, cat)
}
