// Package dns resolves names of services, tasks and attached containers for the containers of this node.
package dns
