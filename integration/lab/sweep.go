package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// Sweep removes what labs whose processes are gone have left in the file
// system, and returns the names of what it removed. A lab that lives has its
// link, and is left alone.
func Sweep() ([]string, error) {
	dirs, err := filepath.Glob(defaultDir(0)[:len(defaultDir(0))-1] + "*")
	if err != nil {
		return nil, err
	}
	cgroups, err := cgroupDirs("shoal-lab-*")
	if err != nil {
		return nil, err
	}
	var removed []string
	var errs []error
	for _, path := range append(dirs, cgroups...) {
		num, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), "shoal-lab-"))
		if err != nil || linkExists(num) {
			continue
		}
		if strings.HasPrefix(path, cgroupRoot) {
			err = removeCgroup(path)
		} else {
			err = os.RemoveAll(path)
		}
		removed = append(removed, path)
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

// cgroupDirs finds a cgroup in every hierarchy: below the root in version 2,
// below each controller in version 1.
func cgroupDirs(name string) ([]string, error) {
	v2, err := filepath.Glob(filepath.Join(cgroupRoot, name))
	if err != nil {
		return nil, err
	}
	v1, err := filepath.Glob(filepath.Join(cgroupRoot, "*", name))
	return append(v2, v1...), err
}

func removeCgroups(num int) error {
	dirs, err := cgroupDirs(labName(num))
	errs := []error{err}
	for _, dir := range dirs {
		errs = append(errs, removeCgroup(dir))
	}
	return errors.Join(errs...)
}

// removeCgroup removes a cgroup and those below it, deepest first. A cgroup
// stays busy for a moment after its last process has ended.
func removeCgroup(dir string) error {
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		return nil // a cgroup that is gone is what we want
	})
	slices.Reverse(all)
	errs := []error{err}
	for _, path := range all {
		errs = append(errs, retryBusy(func() error { return unix.Rmdir(path) }))
	}
	return errors.Join(errs...)
}

func retryBusy(remove func() error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for range 250 { // 5 s
		err := remove()
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		<-tick.C
	}
	return remove()
}

// Leaks lists what is left of the lab after Close: processes, links, cgroups,
// mounts and files. An empty list is what a test wants to see.
func (l *Lab) Leaks() []string {
	var leaks []string
	if linkExists(l.num) {
		leaks = append(leaks, "link "+linkName(l.num))
	}
	dirs, _ := cgroupDirs(labName(l.num))
	for _, dir := range dirs {
		leaks = append(leaks, "cgroup "+dir)
	}
	if _, err := os.Stat(l.Dir()); err == nil {
		leaks = append(leaks, "directory "+l.Dir())
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, l.Dir()+"/") {
			leaks = append(leaks, "mount "+strings.TrimSpace(line))
		}
	}
	return append(leaks, l.leakedProcesses()...)
}

// leakedProcesses are those in a namespace of the lab.
func (l *Lab) leakedProcesses() []string {
	ours := map[string]bool{}
	for _, t := range l.trees() {
		ours[t.PidNS], ours[t.NetNS] = true, true
	}
	delete(ours, "")
	procs, _ := filepath.Glob("/proc/[0-9]*")
	var leaks []string
	for _, dir := range procs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		netNS := namespace(pid, "net") // "" for a zombie, which only waits for its parent
		if netNS != "" && (ours[netNS] || ours[namespace(pid, "pid")]) {
			cmdline, _ := os.ReadFile(dir + "/cmdline")
			leaks = append(leaks, fmt.Sprintf("process %d %q", pid, strings.ReplaceAll(string(cmdline), "\x00", " ")))
		}
	}
	return leaks
}

func (l *Lab) trees() []*tree {
	trees := []*tree{}
	if l.sw != nil {
		trees = append(trees, l.sw)
	}
	for _, h := range l.hosts {
		if h.tree != nil {
			trees = append(trees, h.tree)
		}
	}
	return trees
}
