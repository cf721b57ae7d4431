// Package link makes the devices, addresses, forwarding entries, neighbours, routes and rules of a node agree with what it should have.
package link
