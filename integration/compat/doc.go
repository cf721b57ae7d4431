// Package compat compares shoal with Docker Swarm, as stock clients see them:
// the docker command 28 and Debian's 20.10, plain HTTP, Docker's client for Go,
// Debian's python3-docker and docker-compose.
//
// The tests have the build tag docker. They build two labs of three hosts: one
// is formed by the hosts' own engines, the other by shoal. Both get, in the same
// order, the commands in testdata/*.txt, with either docker command on labs of
// their own; then the programs of the other clients, which note what they are
// told (goProgram, testdata/clients). What the two print, on
// standard output and standard error, and their exit codes must be equal but
// for identifiers, addresses, tokens and ages.
//
// What differs on purpose stands beside the command, or in
// testdata/differences.txt, with its reason; one that no longer differs fails
// the test. docs/compatibility.md tells users about them.
package compat
