package overlay

import "shoal/worker/assignment"

// staleNetworks are the networks whose names may not be the same any more. What
// did not change has the same slices: Known.With shares them.
func staleNetworks(before, now assignment.Known) map[string]bool {
	stale := map[string]bool{}
	differ(before.Networks, now.Networks, sameNetwork, func(n assignment.Network) { stale[n.ID] = true })
	renamed := map[string]bool{}
	differ(before.Services, now.Services, sameService, func(s assignment.Service) {
		renamed[s.ID] = before.Services[s.ID].Name != now.Services[s.ID].Name
		for _, on := range s.Networks {
			stale[on.NetworkID] = true
		}
	})
	differ(before.Endpoints, now.Endpoints, func(a, b assignment.Endpoint) bool {
		return sameEndpoint(a, b) && !renamed[a.ServiceID]
	}, func(e assignment.Endpoint) {
		for _, on := range e.Networks {
			stale[on.NetworkID] = true
		}
	})
	return stale
}

// differ calls changed for each value that is in one map alone, and for both
// values of a key that has two.
func differ[T any](before, now map[string]T, same func(a, b T) bool, changed func(T)) {
	kept := 0
	for key, value := range now {
		old, ok := before[key]
		if ok {
			kept++
			if same(old, value) {
				continue
			}
			changed(old)
		}
		changed(value)
	}
	if kept == len(before) {
		return
	}
	for key, old := range before {
		if _, ok := now[key]; !ok {
			changed(old)
		}
	}
}

func sameNetwork(a, b assignment.Network) bool {
	return a.Name == b.Name && shared(a.Pools, b.Pools)
}

func sameService(a, b assignment.Service) bool {
	return a.Name == b.Name && a.Stack == b.Stack && a.DNSRR == b.DNSRR && shared(a.Networks, b.Networks)
}

func sameEndpoint(a, b assignment.Endpoint) bool {
	return a.Serving == b.Serving && a.ContainerID == b.ContainerID && a.Name == b.Name &&
		a.Slot == b.Slot && a.ServiceID == b.ServiceID && shared(a.Networks, b.Networks)
}

// shared reports whether two slices are one.
func shared[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
