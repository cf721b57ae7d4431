package api

import (
	"bytes"
	"fmt"
	"iter"
	"sync"

	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

// cache keeps services as they were sent: lists are polled, and encoding is
// nearly all that they cost. Stored objects never change, so an entry is good
// for as long as the state holds the same object.
type cache struct {
	mu      sync.Mutex
	encoded map[string]encodedService // by id
	sweepAt int                       // entries at which the next sweep is due
}

type encodedService struct {
	of   *state.Service
	json []byte
}

// service is the JSON of a service without its status.
func (c *cache) service(v *state.View, s *state.Service) ([]byte, error) {
	c.mu.Lock()
	known, ok := c.encoded[s.ID]
	c.mu.Unlock()
	if ok && known.of == s {
		return known.json, nil
	}
	raw, err := encode(withRun(v, s, presentService(s)))
	if err != nil {
		return nil, err
	}
	raw = bytes.TrimSuffix(raw, []byte("\n"))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.encoded == nil {
		c.encoded = map[string]encodedService{}
	}
	c.encoded[s.ID] = encodedService{s, raw}
	return raw, nil
}

// sweep forgets services that are gone, each time that entries have doubled.
func (c *cache) sweep(v *state.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.encoded) < max(c.sweepAt, 100) {
		return
	}
	for id := range c.encoded {
		if v.Service(id) == nil {
			delete(c.encoded, id)
		}
	}
	c.sweepAt = 2 * len(c.encoded)
}

// items writes services into buf, one for each error that it yields.
func (c *cache) items(buf *bytes.Buffer, v *state.View, services iter.Seq[*state.Service], withStatus bool) iter.Seq[error] {
	return func(yield func(error) bool) {
		for s := range services {
			raw, err := c.service(v, s)
			buf.Write(raw)
			if err == nil && withStatus {
				addStatus(buf, serviceStatus(v, s))
			}
			if !yield(err) {
				return
			}
		}
		c.sweep(v)
	}
}

// addStatus puts a status into the object at the end of buf.
func addStatus(buf *bytes.Buffer, s *swarm.ServiceStatus) {
	buf.Truncate(buf.Len() - 1) // the brace
	fmt.Fprintf(buf, `,"ServiceStatus":{"RunningTasks":%d,"DesiredTasks":%d,"CompletedTasks":%d}}`,
		s.RunningTasks, s.DesiredTasks, s.CompletedTasks)
}
