package state

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/hashicorp/go-memdb"

	"shoal/internal/taskstate"
)

// Names of the indexes. Every table has "id".
const (
	byID      = "id"
	byName    = "name"
	byService = "service"
	byNode    = "node"
	byStage   = "stage"
	byAge     = "age"
)

// index finds objects by the key that of returns. Keys are handed to memdb as
// they are, so a prefix of a key is a valid query.
type index struct {
	of func(Object) (key string, ok bool)
}

// FromObject implements memdb.SingleIndexer.
func (x index) FromObject(raw any) (bool, []byte, error) {
	key, ok := x.of(raw.(Object))
	if !ok {
		return false, nil, nil
	}
	return true, []byte(key), nil
}

// FromArgs implements memdb.Indexer: the one argument is the key.
func (index) FromArgs(args ...any) ([]byte, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("an index takes one key, got %d", len(args))
	}
	key, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("an index key is a string, got %T", args[0])
	}
	return []byte(key), nil
}

// PrefixFromArgs implements memdb.PrefixIndexer.
func (x index) PrefixFromArgs(args ...any) ([]byte, error) { return x.FromArgs(args...) }

// memdb appends the id to the keys of an index that is not unique, with
// nothing between them. So such keys end with a zero byte, and looking up one
// is a prefix scan.
func group(parts ...string) string { return strings.Join(parts, "\x00") + "\x00" }

func slotKey(slot int) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(slot))
	return string(b[:])
}

// Stages of a task that a loop waits for; see View.TasksNew, TasksPending.
const (
	stageNew     = "new"
	stagePending = "pending"
)

func schema() *memdb.DBSchema {
	tables := map[string]*memdb.TableSchema{}
	add := func(k Kind, more ...*memdb.IndexSchema) {
		t := &memdb.TableSchema{Name: string(k), Indexes: map[string]*memdb.IndexSchema{
			byID: {Name: byID, Unique: true, Indexer: index{func(o Object) (string, bool) { return o.Key(), true }}},
		}}
		for _, x := range more {
			t.Indexes[x.Name] = x
		}
		tables[string(k)] = t
	}
	secondary := func(name string, of func(Object) (string, bool)) *memdb.IndexSchema {
		return &memdb.IndexSchema{Name: name, AllowMissing: true, Indexer: index{of}}
	}
	add(KindCluster)
	add(KindNode)
	add(KindService, secondary(byName, func(o Object) (string, bool) {
		return group(strings.ToLower(o.(*Service).Spec.Name)), true
	}))
	add(KindRevision)
	add(KindTask,
		secondary(byService, func(o Object) (string, bool) {
			t := o.(*Task)
			return group(t.ServiceID, slotKey(t.Slot)), true
		}),
		secondary(byNode, func(o Object) (string, bool) {
			t := o.(*Task)
			return group(t.NodeID), t.NodeID != ""
		}),
		secondary(byStage, func(o Object) (string, bool) { return taskStage(o.(*Task)) }),
	)
	named := func(k Kind, name func(Object) string) {
		add(k, secondary(byName, func(o Object) (string, bool) { return group(name(o)), true }))
	}
	named(KindNetwork, func(o Object) string { return o.(*Network).Spec.Name })
	named(KindSecret, func(o Object) string { return o.(*Secret).Spec.Name })
	named(KindConfig, func(o Object) string { return o.(*Config).Spec.Name })
	add(KindVolume)
	add(KindRequest, secondary(byAge, func(o Object) (string, bool) {
		return slotKey(int(o.meta().Version.Index)), true //nolint:gosec // an index never reaches 2^63
	}))
	return &memdb.DBSchema{Tables: tables}
}

func taskStage(t *Task) (string, bool) {
	switch t.Status.State {
	case taskstate.New:
		return group(stageNew), true
	case taskstate.Pending:
		return group(stagePending), true
	default:
		return "", false
	}
}
