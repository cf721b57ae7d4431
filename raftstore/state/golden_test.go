package state_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

var update = flag.Bool("update", false, "write fixtures of a format that has none yet")

// Fixtures are never rewritten: they are what earlier versions have on disk. A
// new format gets a directory of its own, made with -update.
func fixture(t *testing.T, path string, write func() []byte) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		data = write()
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func goldenUpdates() [][]state.Change {
	cluster := &state.Cluster{
		Tokens:   state.Tokens{Worker: state.Token{Generation: 1, Hash: []byte{1}}, Manager: state.Token{Generation: 2, Hash: []byte{2}}},
		RootCert: []byte("cert"), RootKey: []byte("key"), GossipKeys: [][]byte{{3, 4}}, FeatureLevel: 1,
	}
	cluster.ID, cluster.Spec.Name = "cluster1", "default"
	node := statetest.Node("n1", statetest.Manager, statetest.Label("zone", "a"))
	node.Addr, node.GossipAddr, node.Boot = "10.0.0.1:2377", "10.0.0.1:7946", "boot1"
	service, revision := statetest.Service("web", 2)
	service.RegistryAuth, service.PreviousRevision = "auth", 0
	service.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStatePaused, Message: "update paused"}
	task := statetest.Task("t1", "web", 1, "n1")
	task.StartAfter = time.Unix(100, 5).UTC()
	task.Restarts = state.Restarts{Count: 3, Recent: []time.Time{time.Unix(99, 0).UTC()}, Quick: 2}
	task.Status = taskstate.Status{State: taskstate.Failed, At: time.Unix(98, 0).UTC(), Message: "started", Err: "task: non-zero exit (1)", ContainerID: "c1", PID: 7, ExitCode: 1, Ports: []swarm.PortConfig{{TargetPort: 80, PublishedPort: 30000}}}
	task.GenericResources = []swarm.GenericResource{{NamedResourceSpec: &swarm.NamedGenericResource{Kind: "gpu", Value: "0"}}}
	network, secret, config, volume := &state.Network{}, &state.Secret{}, &state.Config{}, &state.Volume{}
	network.ID, network.Spec.Name = "net1", "front"
	secret.ID, secret.Spec.Name, secret.Spec.Data = "sec1", "password", []byte("x")
	config.ID, config.Spec.Name, config.Spec.Data = "con1", "nginx.conf", []byte("y")
	volume.Name = "data"
	return [][]state.Change{
		{state.Put(cluster), state.Put(node)},
		{state.Put(service), state.Put(revision), state.Put(task)},
		{state.Put(network), state.Put(secret), state.Put(config), state.Put(volume)},
		{state.Put(&state.Request{ID: "r1", Status: 201, Body: []byte(`{"ID":"web"}`)}), state.Delete(state.KindTask, "gone")},
	}
}

// goldenRollouts are the fields of 2026-11-26.
func goldenRollouts() [][]state.Change {
	service, revision := statetest.Service("web", 2)
	service.UpdateResumed = time.Unix(97, 0).UTC()
	service.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateUpdating}
	revision.RollbackTo = 7
	job, first := statetest.Service("job", 1, func(s *swarm.ServiceSpec) {
		s.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: new(uint64(2)), TotalCompletions: new(uint64(5))}}
	})
	job.JobStatus = &swarm.JobStatus{JobIteration: swarm.Version{Index: 3}, LastExecution: time.Unix(96, 0).UTC()}
	task := statetest.Task("t1", "job", 0, "n1", statetest.Desired(taskstate.Complete))
	task.JobIteration = &swarm.Version{Index: 3}
	return [][]state.Change{{state.Put(service), state.Put(revision)}, {state.Put(job), state.Put(first), state.Put(task)}}
}

// goldenRun holds a revision with every field that a service of Swarm lacks.
func goldenRun() [][]state.Change {
	swappiness := int64(0)
	service, revision := statetest.Service("web", 2)
	revision.Run = &runspec.Spec{
		Pull: runspec.PullMissing, Platform: "linux/arm64", Domainname: "example", MacAddress: "02:42:ac:11:00:02", ExposedPorts: []string{"80/tcp"},
		Privileged: true, SecurityOpt: []string{"seccomp=unconfined"}, PublishAllPorts: true, Runtime: "runc",
		Annotations: map[string]string{"a": "b"}, StorageOpt: map[string]string{"size": "1G"}, Tmpfs: map[string]string{"/run": "exec"}, ShmSize: 1 << 26,
		IpcMode: "host", PidMode: "host", UTSMode: "host", UsernsMode: "host", CgroupnsMode: "private",
		Resources: runspec.Resources{
			CgroupParent: "/apps", CPUShares: 512, CPUPeriod: 100000, CPUQuota: 50000, CPURealtimePeriod: 1000000, CPURealtimeRuntime: 950000,
			CpusetCpus: "0-1", CpusetMems: "0", MemoryReservation: 1 << 24, MemorySwap: -1, KernelMemory: 1 << 25, MemorySwappiness: &swappiness,
			OomKillDisable: true, BlkioWeight: 300, BlkioWeightDevice: []blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 200}},
			BlkioDeviceReadBps: throttle(1), BlkioDeviceWriteBps: throttle(2), BlkioDeviceReadIOps: throttle(3), BlkioDeviceWriteIOps: throttle(4),
			Devices:           []container.DeviceMapping{{PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rwm"}},
			DeviceCgroupRules: []string{"c 1:3 r"},
			DeviceRequests:    []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}, Options: map[string]string{}}},
		},
	}
	return [][]state.Change{{state.Put(service), state.Put(revision)}}
}

// goldenDrain holds a node that is drained gently.
func goldenDrain() [][]state.Change {
	node := statetest.Node("n1", statetest.Drained)
	node.StartFirst = true
	return [][]state.Change{{state.Put(node)}}
}

// goldenMove holds a task that is moved, after a try that failed.
func goldenMove() [][]state.Change {
	cluster := &state.Cluster{Rebalance: state.RebalanceAuto}
	cluster.ID, cluster.Spec.Name = "cluster1", "default"
	node := statetest.Node("n2")
	node.ReturnedAt = time.Unix(95, 0).UTC()
	service, revision := statetest.Service("web", 1)
	service.Rebalance, service.RebalanceAsked = state.RebalanceOff, time.Unix(96, 0).UTC()
	old, heir := statetest.Task("t1", "web", 1, "n1"), statetest.Task("t2", "web", 1, "n2", statetest.Observed(taskstate.Starting))
	old.MoveTo, heir.Moves = "n2", "t1"
	old.Unmoved = state.Unmoved{Count: 2, Until: time.Unix(99, 0).UTC(), Err: "no such image"}
	return [][]state.Change{{state.Put(cluster), state.Put(node)}, {state.Put(service), state.Put(revision), state.Put(old), state.Put(heir)}}
}

func throttle(rate uint64) []blkiodev.ThrottleDevice {
	return []blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: rate}}
}

// goldens are what fixtures are made from, by the names of their files. What a
// version adds to the format gets a name of its own.
func goldens() map[string][][]state.Change {
	return map[string][][]state.Change{
		"all": goldenUpdates(), "networks": goldenNetworks(), "values": goldenValues(), "updates": goldenRollouts(),
		"runspec": goldenRun(), "drain": goldenDrain(), "move": goldenMove(),
	}
}

func TestEveryVersionOfEntryIsRead(t *testing.T) {
	for name, updates := range goldens() {
		fixture(t, "testdata/entries/v1/"+name+".json", func() []byte {
			data, err := entry(newDB(t), time.Unix(1_700_000_000, 0), updates...).Encode()
			if err != nil {
				t.Fatal(err)
			}
			return data
		})
	}
	paths, err := filepath.Glob("testdata/entries/v*/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		e, err := state.DecodeEntry(data)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		db := newDB(t)
		if err := db.Apply(e); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		checkHash(t, path, db)
	}
}

func TestEveryVersionOfSnapshotIsRead(t *testing.T) {
	for name, updates := range goldens() {
		fixture(t, "testdata/snapshots/v1/"+name+".snapshot", func() []byte {
			db := newDB(t)
			if err := db.Apply(entry(db, time.Unix(1_700_000_000, 0), updates...)); err != nil {
				t.Fatal(err)
			}
			var buf bytes.Buffer
			if err := db.View().WriteSnapshot(&buf); err != nil {
				t.Fatal(err)
			}
			return buf.Bytes()
		})
	}
	paths, err := filepath.Glob("testdata/snapshots/v*/*.snapshot")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		db := newDB(t)
		if err := db.Restore(bytes.NewReader(data)); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		checkHash(t, path, db)
	}
}

// checkHash compares the state with the hash that the fixture was recorded
// with: reading without an error is not enough, nothing may be lost.
func checkHash(t *testing.T, path string, db *state.DB) {
	t.Helper()
	got, err := db.View().Hash()
	if err != nil {
		t.Fatal(err)
	}
	want := fixture(t, path+".hash", func() []byte { return []byte(got + "\n") })
	if got != strings.TrimSpace(string(want)) {
		t.Errorf("%s: state hash %s, recorded %s", path, got, want)
	}
}
