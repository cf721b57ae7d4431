package cli

import (
	"math"
	"time"

	"github.com/docker/cli/opts"
	"github.com/docker/cli/opts/swarmopts"
)

// serviceFlags hold what service create and service update have in common. A
// field counts only when its flag was given; lists have a flag that adds, and
// in update one that removes.
type serviceFlags struct {
	*flags
	update bool // names of list flags: --env-add instead of --env

	wait waitFlags

	workdir, user, hostname, stopSignal, isolation string
	entrypoint                                     words
	tty, readOnly, init, interactive               bool
	limitCPU, reserveCPU                           opts.NanoCPUs
	limitMemory, reserveMemory                     opts.MemBytes
	limitPids, oomScoreAdj                         int64
	stopGrace                                      time.Duration
	replicas, maxConcurrent, maxPerNode            count

	restartCondition            string
	restartDelay, restartWindow time.Duration
	restartAttempts             count
	updates, rollbacks          changeFlags

	endpointMode                 string
	registryAuth, noResolveImage bool
	run                          runFlags
	rebalance                    string
	logDriver                    string
	logOpts                      []string
	health                       healthFlags
	credential                   credentialSpec
	capAdd, capDrop              []string

	labels, containerLabels, env, groups, constraints pair
	dns, dnsOptions, dnsSearch, hosts, sysctls        pair
	generic                                           pair
	prefs, prefsRemoved                               placementPrefs
	ports, portsRemoved                               swarmopts.PortOpt
	mounts                                            opts.MountOpt
	networks                                          opts.NetworkOpt
	secrets                                           swarmopts.SecretOpt
	configs                                           swarmopts.ConfigOpt
	ulimits                                           *opts.UlimitOpt
	// removed by key or target
	mountsRemoved, networksRemoved, secretsRemoved, configsRemoved, ulimitsRemoved []string
}

// pair is a list flag: what to add and what to remove.
type pair struct{ add, rm []string }

// changeFlags are --update-* or --rollback-*.
type changeFlags struct {
	parallelism          count
	delay, monitor       time.Duration
	failureAction, order string
	maxFailureRatio      ratio
}

type healthFlags struct {
	cmd                                           string
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int64
	none                                          bool
}

func newServiceFlags(update bool) *serviceFlags {
	s := &serviceFlags{flags: &flags{}, update: update, ulimits: opts.NewUlimitOpt(nil)}
	s.wait.add(s.flags)
	s.addContainer()
	s.addResources()
	s.addPolicies()
	s.addHealth()
	s.addLists()
	s.addRun()
	return s
}

func (s *serviceFlags) addContainer() {
	s.text(&s.workdir, "workdir,w", "Working directory inside the container")
	s.text(&s.user, "user,u", "Username or UID (format: NAME|UID[:GROUP|GID])")
	s.text(&s.hostname, "hostname", "Container hostname")
	s.add(&s.entrypoint, "command", "entrypoint", "Overwrite the default ENTRYPOINT of the image")
	s.toggle(&s.init, "init", "Use an init inside each container to forward signals and reap processes")
	s.toggle(&s.tty, "tty,t", "Allocate a pseudo-TTY")
	s.toggle(&s.interactive, "interactive,i", "Keep STDIN of the container open")
	s.toggle(&s.readOnly, "read-only", "Mount the container's root filesystem as read only")
	s.add(&stopSignal{&s.stopSignal}, "signal", "stop-signal", "Signal to stop the container")
	s.add(&span{p: &s.stopGrace}, "duration", "stop-grace-period", "Time to wait before force killing a container (ns|us|ms|s|m|h)").def("10s")
	s.choice(&s.isolation, "isolation", "Service container isolation mode", "default", "process", "hyperv")
	s.add(&s.credential, "credential-spec", "credential-spec", "Credential spec for a managed service account (Windows only)")
	s.text(&s.logDriver, "log-driver", "Logging driver for the service")
	s.add(opts.NewListOptsRef(&s.logOpts, opts.ValidateEnv), "list", "log-opt", "Logging driver options").wants("NAME=VALUE")
	s.add(opts.NewListOptsRef(&s.capAdd, validateCapability), "list", "cap-add", "Add Linux capabilities")
	s.add(opts.NewListOptsRef(&s.capDrop, validateCapability), "list", "cap-drop", "Drop Linux capabilities")
	s.toggle(&s.registryAuth, "with-registry-auth", "Send registry authentication details to the nodes")
	s.toggle(&s.noResolveImage, "no-resolve-image", "Do not query the registry to resolve image digest and supported platforms")
}

func (s *serviceFlags) addResources() {
	const cores, bytes = `a number of CPUs such as "0.5" or "2"`, `a size such as "512m" or "2g"`
	s.add(cpus{&s.limitCPU}, "decimal", "limit-cpu", "Limit CPUs").wants(cores)
	s.add(cpus{&s.reserveCPU}, "decimal", "reserve-cpu", "Reserve CPUs").wants(cores)
	s.add(positive{&s.limitMemory}, "bytes", "limit-memory", "Limit memory").wants(bytes)
	s.add(positive{&s.reserveMemory}, "bytes", "reserve-memory", "Reserve memory").wants(bytes)
	s.add(&integer{p: &s.limitPids, min: -1, max: math.MaxInt64}, "int", "limit-pids", "Limit maximum number of processes").def("0 = unlimited")
	s.add(&integer{p: &s.oomScoreAdj, min: -1000, max: 1000}, "int", "oom-score-adj", "Tune the host's OOM preferences (-1000 to 1000)")
	s.add(&s.replicas, "uint", "replicas", "Number of tasks")
	s.add(&s.maxConcurrent, "uint", "max-concurrent", "Number of job tasks to run concurrently").def("equal to --replicas")
	s.add(&s.maxPerNode, "uint", "replicas-max-per-node", "Maximum number of tasks per node").def("0 = unlimited")
}

func (s *serviceFlags) addPolicies() {
	s.choice(&s.restartCondition, "restart-condition", "Restart when condition is met", "none", "on-failure", "any").def(`"any"`)
	s.add(&span{p: &s.restartDelay}, "duration", "restart-delay", "Delay between restart attempts (ns|us|ms|s|m|h)").def("5s")
	s.add(&s.restartAttempts, "uint", "restart-max-attempts", "Maximum number of restarts before giving up").def("0 = unlimited")
	s.add(&span{p: &s.restartWindow}, "duration", "restart-window", "Window used to evaluate the restart policy (ns|us|ms|s|m|h)")
	s.addChange(&s.updates, "update", "updated", "pause", "continue", "rollback")
	s.addChange(&s.rollbacks, "rollback", "rolled back", "pause", "continue")
	s.addRebalance(&s.rebalance, "the cluster's")
	s.choice(&s.endpointMode, "endpoint-mode", "Endpoint mode", "vip", "dnsrr").def(`"vip"`)
}

func (s *serviceFlags) addChange(c *changeFlags, kind, done string, actions ...string) {
	s.add(&c.parallelism, "uint", kind+"-parallelism", "Maximum number of tasks "+done+" simultaneously (0: all at once)").def("1")
	s.add(&span{p: &c.delay}, "duration", kind+"-delay", "Delay between one group of tasks and the next (ns|us|ms|s|m|h)").def("0s")
	s.add(&span{p: &c.monitor}, "duration", kind+"-monitor", "Duration after each task "+kind+" to monitor for failure (ns|us|ms|s|m|h)").def("5s")
	s.choice(&c.failureAction, kind+"-failure-action", "Action on "+kind+" failure", actions...).def(`"pause"`)
	s.add(&c.maxFailureRatio, "float", kind+"-max-failure-ratio", "Failure rate to tolerate during "+kind+" (0 to 1)").def("0")
	s.choice(&c.order, kind+"-order", "Order of stop and start on "+kind, "start-first", "stop-first").def(`"stop-first"`)
}

func (s *serviceFlags) addHealth() {
	h := &s.health
	s.text(&h.cmd, "health-cmd", "Command to run to check health")
	s.add(&span{p: &h.interval, least: time.Millisecond}, "duration", "health-interval", "Time between running the check (ms|s|m|h)")
	s.add(&span{p: &h.timeout, least: time.Millisecond}, "duration", "health-timeout", "Maximum time to allow one check to run (ms|s|m|h)")
	s.add(&span{p: &h.startPeriod, least: time.Millisecond}, "duration", "health-start-period", "Start period before failures count (ms|s|m|h)")
	s.add(&span{p: &h.startInterval, least: time.Millisecond}, "duration", "health-start-interval", "Time between running the check during the start period (ms|s|m|h)")
	s.add(&integer{p: &h.retries, min: 0, max: math.MaxInt32}, "int", "health-retries", "Consecutive failures needed to report unhealthy")
	s.toggle(&h.none, "no-healthcheck", "Disable any container-specified HEALTHCHECK")
}

// listFlag adds --NAME in create, and --NAME-add with --NAME-rm in update.
func (s *serviceFlags) listFlag(add, rm value, kind, name, short, what string) *flag {
	if !s.update {
		if short != "" {
			name += "," + short
		}
		return s.add(add, kind, name, what)
	}
	s.add(rm, kind, name+"-rm", "Remove from: "+what)
	return s.add(add, kind, name+"-add", "Add or update in: "+what)
}

func (s *serviceFlags) pairFlag(p *pair, name, short, what string, valid opts.ValidatorFctType) *flag {
	return s.listFlag(opts.NewListOptsRef(&p.add, valid), opts.NewListOptsRef(&p.rm, validateKey), "list", name, short, what)
}

func (s *serviceFlags) addLists() {
	s.pairFlag(&s.labels, "label", "l", "Service labels", opts.ValidateLabel).wants("KEY=VALUE")
	s.pairFlag(&s.containerLabels, "container-label", "", "Container labels", opts.ValidateLabel).wants("KEY=VALUE")
	s.pairFlag(&s.env, "env", "e", "Environment variables", opts.ValidateEnv).wants("NAME=VALUE, or NAME of a variable that is set here")
	s.pairFlag(&s.groups, "group", "", "Supplementary user groups of the container", validateKey)
	s.pairFlag(&s.constraints, "constraint", "", "Placement constraints", validateConstraint)
	s.pairFlag(&s.dns, "dns", "", "Custom DNS servers", opts.ValidateIPAddress).wants("an IP address")
	s.pairFlag(&s.dnsOptions, "dns-option", "", "DNS options", validateKey)
	s.pairFlag(&s.dnsSearch, "dns-search", "", "Custom DNS search domains", opts.ValidateDNSSearch).wants("a domain name")
	s.pairFlag(&s.hosts, "host", "", "Custom host-to-IP mappings (host:ip)", opts.ValidateExtraHost).wants("HOST:IP")
	s.pairFlag(&s.sysctls, "sysctl", "", "Sysctl options", opts.ValidateSysctl).wants("net.* fs.mqueue.* or a namespaced kernel.* as NAME=VALUE")
	s.pairFlag(&s.generic, "generic-resource", "", "User defined resources", validateGeneric)
	s.listFlag(&s.prefs, &s.prefsRemoved, "pref", "placement-pref", "", "Placement preferences")
	s.listFlag(&s.ports, &s.portsRemoved, "port", "publish", "p", "Published ports").wants("[PUBLISHED:]TARGET[/tcp|udp|sctp], or target=,published=,protocol=,mode=ingress|host")
	s.listFlag(&mountValue{&s.mounts}, opts.NewListOptsRef(&s.mountsRemoved, validateKey), "mount", "mount", "", "Filesystem mounts (by target)").wants("type=bind|volume|tmpfs,source=,target=,...")
	s.listFlag(&networkValue{&s.networks}, opts.NewListOptsRef(&s.networksRemoved, validateKey), "network", "network", "", "Network attachments").wants("NETWORK, or name=,alias=,driver-opt=")
	s.listFlag(&s.secrets, opts.NewListOptsRef(&s.secretsRemoved, validateKey), "secret", "secret", "", "Secrets exposed to the service").wants("SECRET, or source=,target=,uid=,gid=,mode=")
	s.listFlag(&s.configs, opts.NewListOptsRef(&s.configsRemoved, validateKey), "config", "config", "", "Configurations exposed to the service").wants("CONFIG, or source=,target=,uid=,gid=,mode=")
	s.listFlag(s.ulimits, opts.NewListOptsRef(&s.ulimitsRemoved, validateKey), "ulimit", "ulimit", "", "Ulimit options").wants("NAME=SOFT[:HARD]")
}
