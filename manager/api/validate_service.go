package api

import (
	"math"
	"strings"

	"github.com/docker/docker/api/types/swarm"
)

const (
	maxServiceName = 63 // of a DNS label
	// maxReplicas is beyond any cluster: a typing error must not fill the
	// managers' memory with tasks.
	maxReplicas = 1_000_000
)

// validateService checks a canonical spec: first what Swarm refuses, in its
// words, then what this version of shoal cannot honour yet.
func validateService(spec *swarm.ServiceSpec) error {
	if err := checkEnums(spec); err != nil {
		return err
	}
	checks := []func(*swarm.ServiceSpec) error{
		validateName,
		func(s *swarm.ServiceSpec) error { return validateLabels("Labels", s.Labels) },
		validateMode,
		validateTask,
		validateJob,
		func(s *swarm.ServiceSpec) error { return validateUpdate("UpdateConfig", s.UpdateConfig) },
		func(s *swarm.ServiceSpec) error { return validateUpdate("RollbackConfig", s.RollbackConfig) },
		validateEndpoint,
		validateNetworks,
		validateValues,
		checkLater,
	}
	for _, check := range checks {
		if err := check(spec); err != nil {
			return err
		}
	}
	return nil
}

// checkEnums refuses words that mean nothing. Swarm takes unknown protocols
// and publish modes for the default.
func checkEnums(spec *swarm.ServiceSpec) error {
	modes := 0
	for _, set := range []bool{spec.Mode.Replicated != nil, spec.Mode.Global != nil, spec.Mode.ReplicatedJob != nil, spec.Mode.GlobalJob != nil} {
		if set {
			modes++
		}
	}
	if modes > 1 {
		return invalid("must specify only one service mode")
	}
	if err := checkRuntime(spec.TaskTemplate); err != nil {
		return err
	}
	for _, u := range []*swarm.UpdateConfig{spec.UpdateConfig, spec.RollbackConfig} {
		if u == nil {
			continue
		}
		switch u.FailureAction {
		case swarm.UpdateFailureActionPause, swarm.UpdateFailureActionContinue, swarm.UpdateFailureActionRollback:
		default:
			return invalid("unrecognized update failure action %s", u.FailureAction)
		}
		if u.Order != swarm.UpdateOrderStopFirst && u.Order != swarm.UpdateOrderStartFirst {
			return invalid("unrecognized update order %s", u.Order)
		}
	}
	if p := spec.TaskTemplate.RestartPolicy; p != nil {
		switch p.Condition {
		case swarm.RestartPolicyConditionNone, swarm.RestartPolicyConditionOnFailure, swarm.RestartPolicyConditionAny:
		default:
			return invalid("invalid RestartCondition: %q", p.Condition)
		}
	}
	if e := spec.EndpointSpec; e != nil && e.Mode != swarm.ResolutionModeVIP && e.Mode != swarm.ResolutionModeDNSRR {
		return invalid("invalid resolution mode: %q", e.Mode)
	}
	return nil
}

func checkRuntime(t swarm.TaskSpec) error {
	switch {
	case t.Runtime == swarm.RuntimePlugin && t.PluginSpec != nil:
		return unsupported("TaskTemplate.PluginSpec", `install plugins with "docker plugin install" on each node`)
	case t.Runtime != swarm.RuntimeContainer && t.Runtime != swarm.RuntimePlugin, t.NetworkAttachmentSpec != nil:
		return invalid("unsupported runtime")
	case t.ContainerSpec == nil || t.PluginSpec != nil:
		return invalid("mismatched Runtime and *Spec fields")
	}
	return nil
}

func validateName(spec *swarm.ServiceSpec) error {
	switch name := spec.Name; {
	case name == "":
		return rpcInvalid("meta: name must be provided")
	case len(name) > maxServiceName:
		return rpcInvalid("name must be 63 characters or fewer")
	case !isServiceName(name):
		return rpcInvalid("name must be valid as a DNS name component")
	}
	return nil
}

// isServiceName: letters, digits, and inside also '-' and '_'.
func isServiceName(name string) bool {
	return every(name, func(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '_' }) &&
		isAlphanumeric(name[0]) && isAlphanumeric(name[len(name)-1])
}

func validateLabels(field string, labels map[string]string) error {
	for k := range labels {
		if strings.TrimSpace(k) == "" {
			return rpcInvalid("%s: a label needs a key", field)
		}
	}
	return nil
}

// validateJob: a job is not updated, it runs again.
func validateJob(spec *swarm.ServiceSpec) error {
	if isJob(spec.Mode) && spec.UpdateConfig != nil {
		return rpcInvalid("Jobs may not have an update config: leave UpdateConfig out")
	}
	job := spec.Mode.ReplicatedJob
	if job == nil {
		return nil
	}
	if n := *job.MaxConcurrent; n > maxReplicas {
		return rpcInvalid("Mode.ReplicatedJob.MaxConcurrent: %d is more than the %d tasks that one service may have", n, maxReplicas)
	}
	if n := *job.TotalCompletions; n > maxReplicas {
		return rpcInvalid("Mode.ReplicatedJob.TotalCompletions: %d is more than the %d tasks that one service may have", n, maxReplicas)
	}
	return nil
}

func validateMode(spec *swarm.ServiceSpec) error {
	switch m := spec.Mode.Replicated; {
	case m == nil:
		return nil
	case *m.Replicas > math.MaxInt64:
		return rpcInvalid("Number of replicas must be non-negative") // what Swarm sees of such a number
	case *m.Replicas > maxReplicas:
		return rpcInvalid("Mode.Replicated.Replicas: %d is more than the %d that one service may have", *m.Replicas, maxReplicas)
	}
	return nil
}

func validateUpdate(field string, u *swarm.UpdateConfig) error {
	switch {
	case u == nil:
		return nil
	case u.Delay < 0:
		return rpcInvalid("TaskSpec: update-delay cannot be negative (%s.Delay)", field)
	case u.Monitor < 0:
		return rpcInvalid("TaskSpec: update-monitor cannot be negative (%s.Monitor)", field)
	case !(u.MaxFailureRatio >= 0 && u.MaxFailureRatio <= 1):
		return rpcInvalid("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1 (%s.MaxFailureRatio)", field)
	}
	return nil
}

// checkLater refuses what a later version will do, with a way out.
func checkLater(spec *swarm.ServiceSpec) error {
	c := spec.TaskTemplate.ContainerSpec
	switch {
	case c.Privileges != nil && c.Privileges.CredentialSpec != nil:
		return unsupported("ContainerSpec.Privileges.CredentialSpec", "it is for Windows nodes, leave it out")
	}
	return nil
}
