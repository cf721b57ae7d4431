//go:build docker

package compat

import (
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// serviceSpec is a service of n tasks that say a line and then wait.
func serviceSpec(name string, n uint64) swarm.ServiceSpec {
	return swarm.ServiceSpec{
		Annotations: named(name),
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{
				Image: "web:1", Env: []string{"A=1"}, Hostname: "{{.Service.Name}}-{{.Task.Slot}}",
				Mounts: []mount.Mount{{Type: mount.TypeTmpfs, Target: "/scratch"}},
			},
			Resources:     &swarm.ResourceRequirements{Reservations: &swarm.Resources{MemoryBytes: 8 << 20}},
			RestartPolicy: &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionAny},
		},
		Mode:         swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &n}},
		UpdateConfig: &swarm.UpdateConfig{Parallelism: 2, FailureAction: swarm.UpdateFailureActionPause, Monitor: 500 * time.Millisecond},
		EndpointSpec: &swarm.EndpointSpec{Ports: []swarm.PortConfig{{TargetPort: 8080, PublishedPort: 18080}}},
	}
}

func (k *sdk) services() error {
	secret, err := k.api.SecretCreate(k.ctx, swarm.SecretSpec{Annotations: named("key"), Data: []byte("value")})
	k.note("secret for a service", secret, err)
	net, err := k.api.NetworkCreate(k.ctx, "back", network.CreateOptions{Driver: "overlay"})
	k.note("network for a service", net, err)
	spec := serviceSpec("web", 2)
	spec.TaskTemplate.ContainerSpec.Secrets = []*swarm.SecretReference{{
		SecretID: secret.ID, SecretName: "key", File: &swarm.SecretReferenceFileTarget{Name: "key", UID: "0", GID: "0", Mode: 0o444},
	}}
	spec.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "back", Aliases: []string{"site"}}}
	made, err := k.api.ServiceCreate(k.ctx, spec, swarm.ServiceCreateOptions{})
	k.note("service create", made, err)
	if err != nil {
		return err
	}
	_, err = k.api.ServiceCreate(k.ctx, spec, swarm.ServiceCreateOptions{})
	k.note("service create again", nil, err)
	k.note("tasks running", nil, k.awaitRunning("web", 2, nil))
	service, _, err := k.api.ServiceInspectWithRaw(k.ctx, "web", swarm.ServiceInspectOptions{})
	k.note("service inspect", service, err)
	full, _, err := k.api.ServiceInspectWithRaw(k.ctx, made.ID, swarm.ServiceInspectOptions{InsertDefaults: true})
	k.note("service inspect with defaults", full, err)
	list, err := k.api.ServiceList(k.ctx, swarm.ServiceListOptions{Filters: by("label", "a=b"), Status: true})
	k.note("service list", list, err)
	for _, filter := range [][]string{{"mode", "global"}, {"name", "we"}, {"id", made.ID[:6]}, {"label", "nosuch"}} {
		list, err = k.api.ServiceList(k.ctx, swarm.ServiceListOptions{Filters: by(filter...)})
		k.note("service list by "+filter[0], len(list), err)
	}
	tasks, err := k.tasks("web")
	k.note("task list", tasks, err)
	if len(tasks) == 0 {
		return errors.New("the service has no tasks")
	}
	task, _, err := k.api.TaskInspectWithRaw(k.ctx, tasks[0].ID)
	k.note("task inspect", []any{task.Spec, task.Slot, task.ServiceID, task.DesiredState, task.Status.State}, err)
	tasks, err = k.tasks("web", "desired-state", "shutdown")
	k.note("task list of none", tasks, err)
	k.note("secret in use", nil, k.api.SecretRemove(k.ctx, "key"))
	k.note("network in use", nil, k.api.NetworkRemove(k.ctx, "back"), "differs the same, then all who use it", "shoal in use")
	if err := k.updates(made.ID); err != nil {
		return err
	}
	k.note("service remove", nil, k.api.ServiceRemove(k.ctx, "web"))
	k.note("service remove again", nil, k.api.ServiceRemove(k.ctx, "web"))
	k.note("secret remove", nil, k.api.SecretRemove(k.ctx, "key"))
	err = k.await("the network to be free", func() (string, bool) {
		err := k.api.NetworkRemove(k.ctx, "back")
		return fmt.Sprint(err), err == nil
	})
	k.note("network remove", nil, err)
	return nil
}

// updates scales, updates and rolls back a service of two tasks.
func (k *sdk) updates(id string) error {
	service, _, err := k.api.ServiceInspectWithRaw(k.ctx, id, swarm.ServiceInspectOptions{})
	if err != nil {
		return err
	}
	three := uint64(3)
	spec := service.Spec
	spec.Mode.Replicated.Replicas = &three
	updated, err := k.api.ServiceUpdate(k.ctx, id, service.Version, spec, swarm.ServiceUpdateOptions{})
	k.note("service scale", updated, err)
	_, err = k.api.ServiceUpdate(k.ctx, id, service.Version, spec, swarm.ServiceUpdateOptions{})
	k.note("service update out of sequence", nil, err)
	k.note("three tasks running", nil, k.awaitRunning("web", 3, nil))

	spec.TaskTemplate.ContainerSpec.Env = []string{"A=2"}
	service, _, err = k.api.ServiceInspectWithRaw(k.ctx, id, swarm.ServiceInspectOptions{})
	k.note("service after the scale", service.Spec, err)
	updated, err = k.api.ServiceUpdate(k.ctx, id, service.Version, spec, swarm.ServiceUpdateOptions{RegistryAuthFrom: swarm.RegistryAuthFromSpec})
	k.note("service update", updated, err)
	k.note("new tasks running", nil, k.awaitUpdate(id, swarm.UpdateStateCompleted, "A=2"))
	service, _, err = k.api.ServiceInspectWithRaw(k.ctx, id, swarm.ServiceInspectOptions{})
	k.note("service after the update", service, err)
	tasks, err := k.tasks("web", "desired-state", "running")
	k.note("tasks after the update", tasks, err)
	tasks, err = k.tasks("web", "desired-state", "shutdown")
	k.note("old tasks", len(tasks), err)

	updated, err = k.api.ServiceUpdate(k.ctx, id, service.Version, service.Spec, swarm.ServiceUpdateOptions{Rollback: "previous"})
	k.note("service rollback", updated, err)
	k.note("old tasks running", nil, k.awaitUpdate(id, swarm.UpdateStateRollbackCompleted, "A=1"))
	service, _, err = k.api.ServiceInspectWithRaw(k.ctx, id, swarm.ServiceInspectOptions{})
	k.note("service after the rollback", service, err)
	return nil
}

func (k *sdk) awaitUpdate(id string, state swarm.UpdateState, env string) error {
	err := k.await("the update to be "+string(state), func() (string, bool) {
		s, _, err := k.api.ServiceInspectWithRaw(k.ctx, id, swarm.ServiceInspectOptions{})
		return fmt.Sprint(s.UpdateStatus, err), err == nil && s.UpdateStatus != nil && s.UpdateStatus.State == state
	})
	if err != nil {
		return err
	}
	return k.awaitRunning("web", 3, func(t swarm.Task) bool { return t.Spec.ContainerSpec.Env[0] == env })
}

func (k *sdk) wrongServices() error {
	create := func(name string, change func(*swarm.ServiceSpec), how ...string) {
		spec := serviceSpec("wrong", 1)
		change(&spec)
		made, err := k.api.ServiceCreate(k.ctx, spec, swarm.ServiceCreateOptions{})
		k.note("service create "+name, made, err, how...)
		if err == nil { // without a name it gets one
			k.note("service remove "+name, nil, k.api.ServiceRemove(k.ctx, made.ID))
		}
	}
	create("without a name", func(s *swarm.ServiceSpec) { s.Name = "" })
	create("without an image", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "" })
	create("with a bad image", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "web:1:2" })
	create("with a bad constraint", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Placement = &swarm.Placement{Constraints: []string{"nonsense"}}
	}, "more")
	create("with a secret of none", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.ContainerSpec.Secrets = []*swarm.SecretReference{{SecretID: "nosuch", SecretName: "nosuch", File: &swarm.SecretReferenceFileTarget{Name: "x"}}}
	}, "more")
	create("on a network of none", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "nosuch"}}
	})
	create("with a port twice", func(s *swarm.ServiceSpec) {
		s.EndpointSpec.Ports = append(s.EndpointSpec.Ports, s.EndpointSpec.Ports...)
	}, "more")
	create("with little memory", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &swarm.Limit{MemoryBytes: 1}}
	}, "more")
	create("of two modes", func(s *swarm.ServiceSpec) { s.Mode.Global = &swarm.GlobalService{} })
	_, _, err := k.api.ServiceInspectWithRaw(k.ctx, "nosuch", swarm.ServiceInspectOptions{})
	k.note("service inspect of none", nil, err)
	_, _, err = k.api.ServiceInspectWithRaw(k.ctx, "", swarm.ServiceInspectOptions{})
	k.note("service inspect without a name", nil, err)
	_, err = k.api.ServiceUpdate(k.ctx, "nosuch", swarm.Version{Index: 1}, serviceSpec("nosuch", 1), swarm.ServiceUpdateOptions{})
	k.note("service update of none", nil, err)
	_, err = k.api.ServiceList(k.ctx, swarm.ServiceListOptions{Filters: by("colour", "red")})
	k.note("service list with a bad filter", nil, err, "differs in lower case, as later engines say it", "shoal invalid filter 'colour'")
	_, _, err = k.api.TaskInspectWithRaw(k.ctx, "nosuch")
	k.note("task inspect of none", nil, err)
	_, err = lines(k.api.ServiceLogs(k.ctx, "nosuch", container.LogsOptions{ShowStdout: true}))
	k.note("service logs of none", nil, err)
	_, err = lines(k.api.TaskLogs(k.ctx, "nosuch", container.LogsOptions{ShowStdout: true}))
	k.note("task logs of none", nil, err)
	return nil
}

// jobs runs a job, a global service, and reads what they said.
func (k *sdk) jobs() error {
	two := uint64(2)
	spec := serviceSpec("job", 1)
	spec.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &two, TotalCompletions: &two}}
	spec.UpdateConfig, spec.EndpointSpec, spec.TaskTemplate.RestartPolicy = nil, nil, nil
	spec.TaskTemplate.ContainerSpec.Command = []string{"/bin/echo", "done"}
	made, err := k.api.ServiceCreate(k.ctx, spec, swarm.ServiceCreateOptions{})
	k.note("job create", made, err)
	err = k.await("the job to be done", func() (string, bool) {
		list, err := k.api.ServiceList(k.ctx, swarm.ServiceListOptions{Filters: by("name", "job"), Status: true})
		return fmt.Sprint(list, err), err == nil && len(list) == 1 && list[0].ServiceStatus != nil && list[0].ServiceStatus.CompletedTasks == two
	})
	k.note("job done", nil, err)
	service, _, err := k.api.ServiceInspectWithRaw(k.ctx, "job", swarm.ServiceInspectOptions{})
	k.note("job inspect", service, err)
	tasks, err := k.tasks("job")
	k.note("job tasks", tasks, err)
	if len(tasks) == 0 {
		return errors.New("the job has no tasks")
	}
	said, err := lines(k.api.ServiceLogs(k.ctx, "job", container.LogsOptions{ShowStdout: true, ShowStderr: true}))
	k.note("job logs", said, err, "sorted")
	said, err = lines(k.api.TaskLogs(k.ctx, tasks[0].ID, container.LogsOptions{ShowStdout: true, Tail: "1"}))
	k.note("task logs", said, err)
	_, err = lines(k.api.ServiceLogs(k.ctx, "job", container.LogsOptions{}))
	k.note("logs of no stream", nil, err, "differs Swarm answers 500", "shoal ^InvalidArgument: .*choose at least one stream")
	k.note("job remove", nil, k.api.ServiceRemove(k.ctx, made.ID))

	spec = serviceSpec("all", 1)
	spec.Mode, spec.EndpointSpec = swarm.ServiceMode{Global: &swarm.GlobalService{}}, nil
	made, err = k.api.ServiceCreate(k.ctx, spec, swarm.ServiceCreateOptions{})
	k.note("global create", made, err)
	k.note("global running", nil, k.awaitRunning("all", 2, nil))
	service, _, err = k.api.ServiceInspectWithRaw(k.ctx, "all", swarm.ServiceInspectOptions{})
	k.note("global inspect", service, err)
	k.note("global remove", nil, k.api.ServiceRemove(k.ctx, "all"))
	return nil
}
