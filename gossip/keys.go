package gossip

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/memberlist"
)

// keys is the key ring of memberlist and the lock around changes to it.
type keys struct {
	mu   *sync.Mutex
	ring *memberlist.Keyring
}

func newKeys(list [][]byte) (keys, error) {
	if err := validateKeys(list); err != nil {
		return keys{}, err
	}
	ring, err := memberlist.NewKeyring(list, list[0])
	if err != nil {
		return keys{}, fmt.Errorf("gossip keys: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return keys{mu: new(sync.Mutex), ring: ring}, nil
}

func validateKeys(list [][]byte) error {
	if len(list) == 0 {
		return fmt.Errorf("no gossip key: %w", errdefs.ErrInvalidArgument)
	}
	for i, key := range list {
		if len(key) != KeySize {
			return fmt.Errorf("gossip key %d has %d bytes, want %d: %w", i, len(key), KeySize, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// set makes next the ring: adds all, orders them, removes the rest.
//
// memberlist reads the ring without a lock and RemoveKey moves the keys behind
// the removed one in place, under the reader's feet. Only the last key can be
// removed without harm, so the wanted ones are brought to the front before.
func (k keys) set(next [][]byte) error {
	if err := validateKeys(next); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range next {
		if err := k.ring.AddKey(bytes.Clone(key)); err != nil {
			return fmt.Errorf("add gossip key: %w", err)
		}
	}
	if slices.EqualFunc(k.ring.GetKeys(), next, bytes.Equal) {
		return nil
	}
	for _, key := range slices.Backward(next) {
		if err := k.ring.UseKey(key); err != nil {
			return fmt.Errorf("use gossip key: %w", err)
		}
	}
	wanted := distinct(next)
	for installed := k.ring.GetKeys(); len(installed) > wanted; installed = k.ring.GetKeys() {
		if err := k.ring.RemoveKey(installed[len(installed)-1]); err != nil {
			return fmt.Errorf("remove gossip key: %w", err)
		}
	}
	return nil
}

func distinct(list [][]byte) int {
	seen := map[string]bool{}
	for _, key := range list {
		seen[string(key)] = true
	}
	return len(seen)
}
