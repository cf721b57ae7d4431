package raftstore

import (
	"fmt"
	"strconv"
	"testing"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func BenchmarkUpdate(b *testing.B) {
	for _, managers := range []int{1, 3} {
		lead := realCluster(b, managers)[0]
		for _, clients := range []int{1, 32} {
			b.Run(fmt.Sprintf("managers=%d/clients=%d", managers, clients), func(b *testing.B) {
				before := lead.Stats().LastIndex
				work := make(chan int, clients)
				done := make(chan error, clients)
				b.ResetTimer()
				for range clients {
					go func() {
						for i := range work {
							svc, rev := statetest.Service("s"+strconv.Itoa(i), 1)
							err := lead.Update(b.Context(), func(*state.View) ([]state.Change, error) {
								return []state.Change{state.Put(svc), state.Put(rev)}, nil
							})
							if err != nil {
								done <- err
								return
							}
						}
						done <- nil
					}()
				}
				for i := range b.N {
					work <- i
				}
				close(work)
				for range clients {
					must(b, <-done)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
				b.ReportMetric(float64(b.N)/float64(lead.Stats().LastIndex-before), "updates/entry")
			})
		}
		must(b, lead.Close())
	}
}

func BenchmarkLinearizable(b *testing.B) {
	lead := realCluster(b, 3)[0]
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := lead.Linearizable(b.Context()); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkView(b *testing.B) {
	lead := realCluster(b, 1)[0]
	b.ResetTimer()
	for range b.N {
		lead.View()
	}
}

func BenchmarkSnapshot(b *testing.B) {
	lead := realCluster(b, 1)[0]
	const tasks = 20000
	for i := 0; i < tasks; i += 1000 {
		must(b, lead.Update(b.Context(), func(*state.View) ([]state.Change, error) {
			var changes []state.Change
			for j := range 1000 {
				changes = append(changes, state.Put(statetest.Task(fmt.Sprintf("t%05d", i+j), "web", i+j, "n1")))
			}
			return changes, nil
		}))
	}
	b.ResetTimer()
	for range b.N {
		must(b, lead.Update(b.Context(), put("x")))
		must(b, lead.raft.Load().Snapshot().Error())
	}
	b.ReportMetric(tasks, "tasks")
}
