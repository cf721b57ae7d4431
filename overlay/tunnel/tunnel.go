// Package tunnel is the encrypted line between nodes: WireGuard in this process, on a TUN device.
package tunnel
