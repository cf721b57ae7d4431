package lab

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// saved is what another process needs to take a detached lab over; the
// hosts' trees are in a file each, because hosts come and go on their own.
type saved struct {
	Num    int
	Hosts  int
	Shoal  string
	Switch *tree
	Cuts   [][2]string
}

const (
	savedName = "lab.json"
	treeName  = "tree.json"
)

// save writes down what a later Open needs. The caller holds l.mu, or is the
// only one that knows the lab.
func (l *Lab) save() error {
	if !l.cfg.Detach {
		return nil
	}
	s := saved{Num: l.num, Hosts: len(l.hosts), Shoal: l.cfg.Shoal, Switch: l.sw}
	for c := range l.cuts {
		s.Cuts = append(s.Cuts, [2]string{c.from, c.to})
	}
	return writeJSON(filepath.Join(l.cfg.Dir, savedName), s)
}

// save writes down which processes are the host's.
func (h *Host) save() error {
	if !h.lab.cfg.Detach {
		return nil
	}
	return writeJSON(filepath.Join(h.Dir, treeName), h.tree)
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// Open takes over a detached lab. With no lab in dir the error is
// fs.ErrNotExist.
func Open(dir string) (*Lab, error) {
	var s saved
	if err := readJSON(filepath.Join(dir, savedName), &s); err != nil {
		return nil, err
	}
	l := &Lab{
		cfg: Config{Dir: dir, Hosts: s.Hosts, Shoal: s.Shoal, Detach: true},
		num: s.Num, sw: s.Switch, log: slog.Default(), cuts: map[cut]bool{},
	}
	for i := range s.Hosts {
		h := newHost(l, i+1)
		h.tree = &tree{}
		// a host that was never on has no file
		if err := readJSON(filepath.Join(h.Dir, treeName), h.tree); err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		l.hosts = append(l.hosts, h)
	}
	for _, c := range s.Cuts {
		l.cuts[cut{c[0], c[1]}] = true
	}
	return l, nil
}
