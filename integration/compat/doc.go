// Package compat compares shoal with Docker Swarm, as the stock docker command
// and plain HTTP see them.
//
// The test has the build tag docker. It builds two labs of three hosts and
// gives both, in the same order, the commands in testdata/*.txt: one lab is
// formed by the hosts' own engines, the other by shoal. What the two print, on
// standard output and standard error, and their exit codes must be equal but
// for identifiers, addresses, tokens and ages.
//
// What differs on purpose stands beside the command, or in
// testdata/differences.txt, with its reason; one that no longer differs fails
// the test. docs/compatibility.md tells users about them.
package compat
