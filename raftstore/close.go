package raftstore

import (
	"errors"
	"time"
)

// Close leaves the cluster's traffic and closes the files. What was proposed
// and not yet confirmed ends as ErrOutcomeUnknown.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

// closeWait bounds Close when raft does not answer, as when its disk hangs.
const closeWait = 5 * time.Second

func (s *Store) close() error {
	s.unregister()
	s.endTerm()
	s.callMu.Lock()
	s.closing = true
	s.callMu.Unlock()
	// While raft runs it answers everything, at the latest when it notices that
	// it has lost the majority. Once it is stopped it may leave some unanswered.
	answered := waitFor(s.calls.Wait, 2*s.cfg.Lease+rpcTimeout)
	s.cancel()
	<-s.guardDone
	err := s.guard.close() // ends the calls that raft is making
	stopped := waitFor(func() {
		s.raft.Load().Shutdown().Error() //nolint:errcheck // never fails
		s.wg.Wait()
	}, closeWait)
	if !stopped {
		return errors.Join(err, errors.New("close raft store: raft does not stop"))
	}
	if !answered {
		waitFor(s.calls.Wait, 100*time.Millisecond) // shutting down answers most of the rest
	}
	return errors.Join(err, s.disk.close())
}

// waitFor runs f and says whether it returned in time.
func waitFor(f func(), limit time.Duration) bool {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
