package state_test

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"shoal/internal/id"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// fill puts nodes and tasks into db, a thousand tasks to an entry.
func fill(b *testing.B, db *state.DB, nodes, tasks int) {
	b.Helper()
	apply := func(changes []state.Change) {
		if err := db.Apply(entry(db, time.Now(), changes)); err != nil {
			b.Fatal(err)
		}
	}
	var changes []state.Change
	for i := range nodes {
		changes = append(changes, state.Put(statetest.Node(fmt.Sprintf("node%05d", i))))
	}
	apply(changes)
	for done := 0; done < tasks; {
		changes = nil
		for ; len(changes) < 1000 && done < tasks; done++ {
			changes = append(changes, state.Put(statetest.Task(id.New(), fmt.Sprintf("service%03d", done%500), done/500+1, fmt.Sprintf("node%05d", done%nodes))))
		}
		apply(changes)
	}
}

func BenchmarkApplyTasks(b *testing.B) {
	db := newDB(b)
	fill(b, db, 1000, 10_000)
	b.ResetTimer()
	for b.Loop() {
		task := statetest.Task(id.New(), "service001", 1, "node00001")
		if err := db.Apply(entry(db, time.Now(), []state.Change{state.Put(task)})); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeDecodeEntry(b *testing.B) {
	service, revision := statetest.Service("web", 3)
	e := entry(newDB(b), time.Now(), []state.Change{state.Put(service), state.Put(revision)})
	for b.Loop() {
		data, err := e.Encode()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
		if _, err := state.DecodeEntry(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	db := newDB(b)
	fill(b, db, 1000, 100_000)
	for b.Loop() {
		if err := db.View().WriteSnapshot(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory reports what 10,000 nodes and 200,000 tasks take.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		db := newDB(b)
		fill(b, db, 10_000, 200_000)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		runtime.KeepAlive(db)
	}
}
