// Package network keeps the networks of a node: what the managers say of them, the networks on the engine, and the data plane.
package network
