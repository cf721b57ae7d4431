// Package repotest holds the repository's laws as tests: what may import
// what, how long a file may be, that documents say what is there. A law that
// is only written down is broken within a month.
package repotest
