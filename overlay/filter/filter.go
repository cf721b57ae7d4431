// Package filter makes the nftables of a node agree with what it should have.
package filter
