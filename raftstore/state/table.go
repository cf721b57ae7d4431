package state

import (
	"iter"
	"strings"
	"sync"

	"github.com/google/btree"
)

// degree of the B-trees: nodes of 31 rows at most. Small ones make a single
// change cheap, as it copies the nodes on its path.
const degree = 16

// row is an object under the key that a tree sorts it by. A row without an
// object comes before all others with its key: it is where a scan starts.
type row[T Object] struct {
	key    string
	object T
	probe  bool
}

// index is a tree of the objects that have a key, sorted by key, then by tie.
// An object may have several keys, and must not yield one of them twice.
type index[T Object] struct {
	tree *btree.BTreeG[row[T]]
	keys func(o T, yield func(key string))
}

// table holds the objects of one kind. It is changed only between clone and
// the view that it becomes part of.
type table[T Object] struct {
	cloning sync.Mutex
	rows    *btree.BTreeG[row[T]] // by Key
	indexes []index[T]
}

func byKey[T Object](a, b T) bool { return a.Key() < b.Key() }

func newTree[T Object](tie func(a, b T) bool) *btree.BTreeG[row[T]] {
	return btree.NewG(degree, func(a, b row[T]) bool {
		switch {
		case a.key != b.key:
			return a.key < b.key
		case a.probe || b.probe:
			return a.probe && !b.probe
		}
		return tie(a.object, b.object)
	})
}

func newTable[T Object](indexes ...index[T]) *table[T] {
	return &table[T]{rows: newTree(func(T, T) bool { return false }), indexes: indexes}
}

// newIndex sorts the objects for which key is ok by key, then by tie, which
// must tell any two of them apart; nil: by Key.
func newIndex[T Object](key func(T) (string, bool), tie func(a, b T) bool) index[T] {
	if tie == nil {
		tie = byKey[T]
	}
	return index[T]{tree: newTree(tie), keys: func(o T, yield func(string)) {
		if k, ok := key(o); ok {
			yield(k)
		}
	}}
}

// newMultiIndex sorts the objects by each of their keys, then by Key.
func newMultiIndex[T Object](keys func(T, func(string))) index[T] {
	return index[T]{tree: newTree(byKey[T]), keys: keys}
}

// clone returns a table that can be changed while this one stays as it is.
// Views share the tables in which they do not differ, and cloning a tree marks
// its nodes as shared, in the original too: hence the lock. Reading needs none.
func (t *table[T]) clone() *table[T] {
	t.cloning.Lock()
	defer t.cloning.Unlock()
	c := &table[T]{rows: t.rows.Clone(), indexes: make([]index[T], len(t.indexes))}
	for i, x := range t.indexes {
		c.indexes[i] = index[T]{tree: x.tree.Clone(), keys: x.keys}
	}
	return c
}

func (t *table[T]) get(key string) (found T) {
	r, _ := t.rows.Get(row[T]{key: key})
	return r.object
}

// put stores o and returns the object that it replaces, if there is one.
func (t *table[T]) put(o T) (old T, replaced bool) {
	before, replaced := t.rows.ReplaceOrInsert(row[T]{key: o.Key(), object: o})
	for _, x := range t.indexes {
		if replaced {
			x.remove(before.object)
		}
		x.keys(o, func(key string) { x.tree.ReplaceOrInsert(row[T]{key: key, object: o}) })
	}
	return before.object, replaced
}

// delete removes the object with a key and returns it, if there is one.
func (t *table[T]) delete(key string) (old T, found bool) {
	before, found := t.rows.Delete(row[T]{key: key})
	if found {
		for _, x := range t.indexes {
			x.remove(before.object)
		}
	}
	return before.object, found
}

func (x index[T]) remove(o T) {
	x.keys(o, func(key string) { x.tree.Delete(row[T]{key: key, object: o}) })
}

// prefix yields the objects whose Key begins with prefix, in order.
func (t *table[T]) prefix(prefix string) iter.Seq[T] {
	return func(yield func(T) bool) {
		t.rows.AscendGreaterOrEqual(row[T]{key: prefix}, func(r row[T]) bool {
			return strings.HasPrefix(r.key, prefix) && yield(r.object)
		})
	}
}

// equal yields the objects with this key in order.
func (x index[T]) equal(key string) iter.Seq[T] {
	return func(yield func(T) bool) {
		x.tree.AscendGreaterOrEqual(row[T]{key: key, probe: true}, func(r row[T]) bool {
			return r.key == key && yield(r.object)
		})
	}
}

// from yields the objects with this key from the one that start would be
// beside, in order.
func (x index[T]) from(key string, start T) iter.Seq[T] {
	return func(yield func(T) bool) {
		x.tree.AscendGreaterOrEqual(row[T]{key: key, object: start}, func(r row[T]) bool {
			return r.key == key && yield(r.object)
		})
	}
}

// apply carries out a change and says what it did; neither Old nor New is set
// if that is nothing.
func (t *table[T]) apply(c Change) (e Event) {
	if c.put != nil {
		e.New = c.put
		if old, ok := t.put(c.put.(T)); ok {
			e.Old = old
		}
		return e
	}
	if old, ok := t.delete(c.key); ok {
		e.Old = old
	}
	return e
}

func (t *table[T]) lookup(key string) Object {
	r, ok := t.rows.Get(row[T]{key: key})
	if !ok {
		return nil
	}
	return r.object
}

func (t *table[T]) all(yield func(Object) bool) {
	t.rows.Ascend(func(r row[T]) bool { return yield(r.object) })
}

// anyTable is a table whose kind does not matter.
type anyTable interface {
	apply(Change) Event
	lookup(key string) Object
	all(yield func(Object) bool)
}
