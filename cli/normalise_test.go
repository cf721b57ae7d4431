package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testTree() *command {
	return newShell(Config{}).root
}

func TestNormalise(t *testing.T) {
	tests := []struct{ in, want string }{
		{"service create nginx --replicas 3", "service create -- nginx --replicas 3"},
		{"service create --replicas 3 nginx sh -c date", "service create --replicas=3 -- nginx sh -c date"},
		{"service update web --replicas 3", "service update --replicas=3 -- web"},
		{"service update --replicas=3 web --force", "service update --replicas=3 --force=true -- web"},
		{"service create --mount type=bind,src=/a,dst=/b nginx", "service create --mount=type=bind,src=/a,dst=/b -- nginx"},
		{"service create -eA=1 -p8080:80 nginx", "service create --env=A=1 --publish=8080:80 -- nginx"},
		{"service create -e A=1 -p 8080:80 nginx", "service create --env=A=1 --publish=8080:80 -- nginx"},
		{"service create -e=A=1 nginx", "service create --env=A=1 -- nginx"},
		{"service create -dtq nginx", "service create --detach=true --tty=true --quiet=true -- nginx"},
		{"service create -dteA=1 nginx", "service create --detach=true --tty=true --env=A=1 -- nginx"},
		{"service create -t=false nginx", "service create --tty=false -- nginx"},
		{"service create --tty=false nginx", "service create --tty=false -- nginx"},
		{"service create -- nginx -d", "service create -- nginx -d"},
		{"service create nginx -- -d", "service create -- nginx -- -d"},
		{"service update web -- --force", "service update -- web --force"},
		{"service ps web -q db", "service ps --quiet=true -- web db"},
		{"-H unix:///x service ls -q", "--host=unix:///x service ls --quiet=true --"},
		{"-Hunix:///x node ls", "--host=unix:///x node ls --"},
		{"service list", "service ls --"},
		{"node remove -f n1", "node rm --force=true -- n1"},
		{"service ps -", "service ps -- -"},
		{"service inspect help", "service inspect -- help"},
		{"service create --env -x nginx", "service create --env=-x -- nginx"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			l, err := normalise(testTree(), strings.Fields(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Fields(tt.want), l.args); diff != "" {
				t.Errorf("normalise (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNormaliseRefusesWhatDockerRefuses(t *testing.T) {
	tests := []struct {
		in, want string
		code     int
	}{
		{"service create -replicas 3 nginx", "unknown shorthand flag: 'r' in -replicas", 125},
		{"service creat", "shoal: unknown command: shoal service creat", 1},
		{"servce", "shoal: unknown command: shoal servce", 1},
		{"service -D create", "unknown shorthand flag: 'D' in -D", 125},
		{"service --debug create", "unknown flag: --debug", 125},
		{"service create --replica 3 nginx", "unknown flag: --replica", 125},
		{"service create -dx nginx", "unknown shorthand flag: 'x' in -dx", 125},
		{"service create --replicas", "flag needs an argument: --replicas", 125},
		{"service create -p", "flag needs an argument: 'p' in -p", 125},
		{"service create ---d nginx", "bad flag syntax: ---d", 125},
		{"service create --=d nginx", "bad flag syntax: --=d", 125},
		{"service ls -H unix:///x", "unknown shorthand flag: 'H' in -H", 125},
		{"help servce", "shoal: unknown command: shoal servce", 1},
		{"service create -dé nginx", "unknown shorthand flag: 'é' in -dé", 125},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			_, err := normalise(testTree(), strings.Fields(tt.in))
			if err == nil {
				t.Fatal("accepted")
			}
			first, _, _ := strings.Cut(err.Error(), "\n")
			exit, ok := err.(*exitError) //nolint:errorlint // made here
			if first != tt.want || !ok || exit.code != tt.code {
				t.Errorf("got %q, exit %+v; want %q, exit %d", first, exit, tt.want, tt.code)
			}
		})
	}
}

func TestNormaliseHelp(t *testing.T) {
	for in, want := range map[string]string{
		"--help": "shoal", "": "shoal", "help": "shoal", "service": "shoal service", "service --help": "shoal service",
		"service create --help": "shoal service create", "service create -h nginx": "shoal service create",
		"service update web --help": "shoal service update", "help service create": "shoal service create",
		"service help create": "shoal service create",
	} {
		l, err := normalise(testTree(), strings.Fields(in))
		if err != nil || l.help == nil || l.help.path() != want {
			t.Errorf("%q: help %v, err %v; want help of %s", in, l, err, want)
		}
	}
	if l, err := normalise(testTree(), []string{"service", "create", "nginx", "--help"}); err != nil || l.help != nil {
		t.Errorf("--help after the image is the container's: %+v, %v", l, err)
	}
}

// What comes out is already normal, and operands are neither lost nor changed.
func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"service create -dtq -eA=1 nginx x", "service update web --replicas 3", "-H x node ls", "service create -- -x", "a --", "service ps -\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, " ")
		root := testTree()
		l, err := normalise(root, args)
		if err != nil || l.help != nil {
			return
		}
		again, err := normalise(root, l.args)
		if err != nil {
			t.Fatalf("%q: normal form %q is refused: %v", args, l.args, err)
		}
		if !slices.Equal(l.args, again.args) {
			t.Fatalf("%q: %q becomes %q", args, l.args, again.args)
		}
	})
}
