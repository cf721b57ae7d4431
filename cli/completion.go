package cli

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// completeCommand is what the scripts call: the words so far, the last of them
// unfinished. It never runs a command's action.
const completeCommand = "__complete"

// completeTimeout: a user waits with a finger on the tab key.
const completeTimeout = time.Second

//go:embed scripts
var scripts embed.FS

func (s *shell) completionCommand() *command {
	shells := []string{"bash", "zsh", "fish"}
	return &command{
		name: "completion", operands: "bash|zsh|fish", short: "Print the completion script for a shell", min: 1, max: 1,
		long:      "Load it with: source <(shoal completion bash)",
		completes: strings.Join(shells, " "),
		run: func(_ context.Context, args []string) error {
			if !slices.Contains(shells, args[0]) {
				return fmt.Errorf("unknown shell %q: must be one of %s", args[0], quoteAll(shells))
			}
			script, err := scripts.ReadFile("scripts/" + args[0])
			if err != nil {
				return err
			}
			_, err = s.out.Write(script)
			return err
		},
	}
}

// complete prints the candidates for the last word, one a line.
func (s *shell) complete(ctx context.Context, words []string) error {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	for _, c := range s.candidates(ctx, words[:len(words)-1], last) {
		if strings.HasPrefix(c, last) {
			fmt.Fprintln(s.out, c)
		}
	}
	return nil
}

func (s *shell) candidates(ctx context.Context, before []string, last string) []string {
	c, pending, operands, ended := s.position(before)
	if c == nil {
		return nil
	}
	if pending != nil {
		return pending.words
	}
	if name, _, glued := strings.Cut(strings.TrimPrefix(last, "--"), "="); glued && strings.HasPrefix(last, "--") && !ended {
		var out []string
		if f := c.flags.find(name); f != nil {
			for _, w := range f.words {
				out = append(out, "--"+name+"="+w)
			}
		}
		return out
	}
	if strings.HasPrefix(last, "-") && !ended {
		return c.flagNames()
	}
	if len(c.commands) > 0 {
		var out []string
		for _, sub := range c.commands {
			if !sub.hidden {
				out = append(out, sub.name)
			}
		}
		return out
	}
	if c.max >= 0 && operands >= c.max {
		return nil
	}
	return s.operandNames(ctx, c)
}

func (c *command) flagNames() []string {
	out := []string{"--help"}
	for _, f := range c.flags.list {
		out = append(out, "--"+f.name)
	}
	sort.Strings(out)
	return out
}

// position walks the finished words: the command they end in, the flag that
// waits for its value, and how many operands there were. Flags of the root are
// taken too, so that the names come from the host that was given.
func (s *shell) position(words []string) (c *command, pending *flag, operands int, ended bool) {
	c = s.root
	for _, w := range words {
		switch {
		case pending != nil:
			if c == s.root {
				_ = pending.Set(w) // a bad host completes nothing
			}
			pending = nil
		case ended:
			operands++
		case w == "--":
			ended = true
		case isFlag(w):
			pending = c.waiting(w)
		case len(c.commands) > 0:
			if c = c.find(w); c == nil {
				return nil, nil, 0, false
			}
		default:
			operands++
			ended = c.stopAtOperand
		}
	}
	return c, pending, operands, ended
}

// waiting is the flag of w if its value is the next word.
func (c *command) waiting(w string) *flag {
	if strings.HasPrefix(w, "--") {
		f := c.flags.find(w[2:]) // nil with a glued value
		if f == nil || f.boolean {
			return nil
		}
		return f
	}
	for i, r := range w[1:] {
		f := c.flags.findShort(string(r))
		if f == nil {
			return nil
		}
		if !f.boolean {
			if 1+i+len(string(r)) < len(w) {
				return nil
			}
			return f
		}
	}
	return nil
}

// operandNames asks the daemon for names; without one there are none.
func (s *shell) operandNames(ctx context.Context, c *command) []string {
	if !slices.Contains([]string{"service", "node", "network", "secret", "config"}, c.completes) {
		return strings.Fields(c.completes)
	}
	api, err := s.connect()
	if err != nil {
		return nil
	}
	switch c.completes {
	case "node":
		return nodeNames(ctx, api)
	case "network":
		return networkNames(ctx, api)
	case "secret", "config":
		return valueNames(ctx, api, valueKind(c.completes))
	}
	services, err := api.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return nil
	}
	var out []string
	for _, service := range services {
		name := service.Spec.Name
		if c.name == "scale" {
			name += "="
		}
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

func networkNames(ctx context.Context, api *client.Client) (out []string) {
	networks, err := api.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return nil
	}
	for _, n := range networks {
		out = append(out, n.Name)
	}
	sort.Strings(out)
	return out
}

func valueNames(ctx context.Context, api *client.Client, k valueKind) (out []string) {
	if k == configKind {
		configs, _ := api.ConfigList(ctx, swarm.ConfigListOptions{}) // without an answer there are no names
		for _, c := range configs {
			out = append(out, c.Spec.Name)
		}
	} else {
		secrets, _ := api.SecretList(ctx, swarm.SecretListOptions{})
		for _, s := range secrets {
			out = append(out, s.Spec.Name)
		}
	}
	sort.Strings(out)
	return out
}

func nodeNames(ctx context.Context, api *client.Client) []string {
	nodes, err := api.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return nil
	}
	out := []string{"self"}
	for _, n := range nodes {
		out = append(out, n.Description.Hostname)
	}
	sort.Strings(out)
	return out
}
