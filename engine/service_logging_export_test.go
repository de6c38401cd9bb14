package engine

import (
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
)

// EmitArgs is the method emit.
func (l *LoggingService) EmitArgs(d codec.Dialect, args []byte) error { return l.emit(d, args) }

// Tailed returns what tail would send of the records that are kept.
func (l *LoggingService) Tailed() [][]byte {
	batch, _ := l.recent.tailFrom("", -1<<31, l.cfg.MaxRecent).take(nil)
	var list [][]byte
	for i := range batch {
		list = append(list, appendTailed(nil, &batch[i], 0))
	}
	return list
}

// DecodeGroup reads a routing group of the store.
func DecodeGroup(blob []byte) (*service.Ring, error) { return decodeGroup(blob) }

// ReadPublished reads the arguments of a publish.
func ReadPublished(args []byte) (service.Resolved, error) {
	r := codec.NewReader(args)
	r.Skip()
	return readPublished(&r)
}
