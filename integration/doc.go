// Package integration tests whole clusters: several nodes in one process on
// fake engines, and, with the build tag docker, daemons on the hosts of a lab
// with a Docker Engine each.
package integration
