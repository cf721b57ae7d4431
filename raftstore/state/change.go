package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Change puts one whole object, or deletes one.
type Change struct {
	put  Object
	kind Kind
	key  string
}

// Put stores o in place of the object with its kind and key, if there is one.
// Whoever accepts the change stamps o's version and times.
func Put(o Object) Change { return Change{put: o, kind: o.Kind(), key: o.Key()} }

// Delete removes an object. Deleting what is not there changes nothing.
func Delete(k Kind, key string) Change { return Change{kind: k, key: key} }

// Kind is the kind of the object that the change is about.
func (c Change) Kind() Kind { return c.kind }

// Key is the key of the object that the change is about.
func (c Change) Key() string { return c.key }

// Object is the object to put, nil for a deletion.
func (c Change) Object() Object { return c.put }

// changeJSON is a change on the wire.
type changeJSON struct {
	Kind   Kind            `json:"k"`
	Object json.RawMessage `json:"o,omitempty"`
	Delete string          `json:"d,omitempty"`
}

// MarshalJSON writes {"k":kind,"o":object} or {"k":kind,"d":key}.
func (c Change) MarshalJSON() ([]byte, error) {
	if c.put == nil {
		return json.Marshal(changeJSON{Kind: c.kind, Delete: c.key})
	}
	return json.Marshal(struct {
		Kind   Kind   `json:"k"`
		Object Object `json:"o"`
	}{c.kind, c.put})
}

// UnmarshalJSON reads what MarshalJSON wrote and refuses unknown kinds.
func (c *Change) UnmarshalJSON(text []byte) error {
	var raw changeJSON
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	o, err := newObject(raw.Kind)
	if err != nil {
		return err
	}
	if raw.Object == nil {
		if raw.Delete == "" {
			return fmt.Errorf("change of a %s has neither object nor key", raw.Kind)
		}
		*c = Delete(raw.Kind, raw.Delete)
		return nil
	}
	if err := json.Unmarshal(raw.Object, o); err != nil {
		return fmt.Errorf("decode %s: %w", raw.Kind, err)
	}
	if o.Key() == "" || (raw.Kind == KindRevision && o.(*Revision).ServiceID == "") {
		return fmt.Errorf("decode %s: it has no key", raw.Kind)
	}
	*c = Put(o)
	return nil
}

// EntryVersion is the format of the entries that this code writes.
const EntryVersion = 1

// Entry is one record of the log: some updates, each of which has its own
// index and becomes visible as a whole.
type Entry struct {
	Version int `json:"v"`
	// First is the index of the first update; the state it was planned on is at
	// First-1. An entry that does not follow the state is refused by Apply.
	First   uint64     `json:"first"`
	Updates [][]Change `json:"updates"`
}

// ErrStale says that an entry was planned on a state that is not the current
// one. It was not applied; every replica decides so alike.
var ErrStale = errors.New("entry does not follow the state")

// Encode writes the entry.
func (e Entry) Encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("encode entry %d: %w", e.First, err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// DecodeEntry reads an entry. What it does not know entirely, it refuses:
// skipping a part would make replicas differ.
func DecodeEntry(data []byte) (Entry, error) {
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return Entry{}, fmt.Errorf("decode entry: %w", err)
	}
	if head.Version != EntryVersion {
		return Entry{}, fmt.Errorf("decode entry: format %d is not known, this version of shoal knows %d: upgrade this manager", head.Version, EntryVersion)
	}
	var e Entry
	if err := json.Unmarshal(data, &e); err != nil {
		return Entry{}, fmt.Errorf("decode entry: %w", err)
	}
	return e, nil
}

// Stamp returns the changes with the version and times that an update with
// this index gives to what it puts. The objects handed in are not touched.
func Stamp(v *View, changes []Change, index uint64, now time.Time) []Change {
	now = now.Round(0).UTC() // without the monotonic part, as it is read back
	stamped := make([]Change, len(changes))
	for i, c := range changes {
		if c.put == nil {
			stamped[i] = c
			continue
		}
		o := c.put.clone()
		m := o.meta()
		m.Version.Index = index
		m.UpdatedAt = now
		if old := v.tables.of(c.kind).lookup(c.key); old != nil {
			m.CreatedAt = old.meta().CreatedAt
		} else {
			m.CreatedAt = now
		}
		stamped[i] = Put(o)
	}
	return stamped
}
