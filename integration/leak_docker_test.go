//go:build docker

package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"shoal/integration/lab"
)

// cycles of create, scale and remove that must leave a daemon as it was.
const cycles = 20

func TestDaemonsDoNotGrow(t *testing.T) {
	s := formSite(t, 2, 1)
	via := s.Host(1)
	cycle := func() {
		t.Helper()
		create(t, s.shoal[via], spec("web", 2, "/bin/sleep", "1000000"))
		s.converged(t, via, "web", 2)
		scale(t, s.shoal[via], "web", 4)
		s.converged(t, via, "web", 4)
		ok(t, s.shoal[via].ServiceRemove(t.Context(), "web"))
		s.awaitEmpty(t, "web")
	}
	cycle() // what is made once and kept is there after this
	goroutines, files := map[*lab.Host]float64{}, map[*lab.Host]int{}
	for _, h := range s.Hosts() {
		goroutines[h], files[h] = metric(t, h, "go_goroutines"), openFiles(t, h)
	}
	for range cycles {
		cycle()
	}
	// A few come and go with requests and probes; a leak would be one a cycle.
	const slack = cycles / 2
	for _, h := range s.Hosts() {
		waitFor(t, "as many goroutines and files as before on "+h.Name, func() (string, bool) {
			g, f := metric(t, h, "go_goroutines"), openFiles(t, h)
			return fmt.Sprintf("goroutines %v, were %v; files %d, were %d", g, goroutines[h], f, files[h]),
				g <= goroutines[h]+slack && f <= files[h]+slack
		})
		t.Logf("%s: goroutines %v then %v, files %d then %d", h.Name,
			goroutines[h], metric(t, h, "go_goroutines"), files[h], openFiles(t, h))
	}
	for _, h := range s.Hosts() {
		if left, err := h.Docker(t.Context(), "ps", "-aq"); err != nil || left != "" {
			t.Errorf("%s has containers left: %s, err %v", h.Name, left, err)
		}
	}
}

// metric reads one that has no labels from h's daemon.
func metric(t testing.TB, h *lab.Host, name string) float64 {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.Addr+":"+metricsPort+"/metrics", nil)
	ok(t, err)
	r.Close = true // keep no connection, it would be counted
	response, err := http.DefaultClient.Do(r)
	ok(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	ok(t, err)
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			ok(t, err)
			return f
		}
	}
	t.Fatalf("%s has no metric %s", h.Name, name)
	return 0
}

func openFiles(t testing.TB, h *lab.Host) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.Daemon().PID()))
	ok(t, err)
	return len(open)
}
