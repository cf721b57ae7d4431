package repotest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func documents(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "docs/*/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			found = append(found, strings.TrimPrefix(filepath.ToSlash(path), root+"/"))
		}
	}
	if len(found) < 5 {
		t.Fatalf("only %d documents found", len(found))
	}
	return found
}

func TestLinksInDocumentsResolve(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, doc), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := doc
			if target != "" {
				path = filepath.Join(filepath.Dir(doc), target)
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s links to %s, which is not there", doc, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, path)), anchor) {
				t.Errorf("%s links to %s, which has no such heading", doc, m[1])
			}
		}
	}
}

// anchors are the names under which a document's headings can be linked.
func anchors(doc string) []string {
	var names []string
	drop := regexp.MustCompile(`[^a-z0-9 _-]`)
	for line := range strings.Lines(doc) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			name := drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			names = append(names, strings.ReplaceAll(name, " ", "-"))
		}
	}
	return names
}

func TestDecisionsAreNumberedAndComplete(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(root, "docs/adr/*.md"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d decisions, err %v", len(paths), err)
	}
	for i, path := range paths {
		name := filepath.Base(path)
		if want := fmt.Sprintf("%04d-", i+1); !strings.HasPrefix(name, want) {
			t.Errorf("%s should begin with %s: numbers have no gaps and are never reused", name, want)
		}
		text := read(t, "docs/adr/"+name)
		for _, part := range []string{"## Context", "## Decision", "## What it costs", "## What would change our mind"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no part %q", name, part)
			}
		}
	}
}

func TestEveryDirectDependencyIsExplained(t *testing.T) {
	explained := ""
	paths, err := filepath.Glob(filepath.Join(root, "docs/adr/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		explained += read(t, "docs/adr/"+filepath.Base(path))
	}
	require := regexp.MustCompile(`^\t([a-z][^ ]+) v[^ ]+$`)
	for line := range strings.Lines(read(t, "go.mod")) {
		if m := require.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil && !strings.Contains(explained, "`"+m[1]+"`") {
			t.Errorf("go.mod requires %s, and no decision in docs/adr says why", m[1])
		}
	}
}

func TestEveryTargetOfTheMakefileHasHelp(t *testing.T) {
	makefile := read(t, "Makefile")
	target := regexp.MustCompile(`(?m)^([a-z][a-z-]*):(.*)$`)
	var names []string
	for _, m := range target.FindAllStringSubmatch(makefile, -1) {
		names = append(names, m[1])
		if !strings.Contains(m[2], "## ") {
			t.Errorf("target %s has no ## line for make help", m[1])
		}
		if !strings.Contains(makefile, " "+m[1]+" ") && !strings.Contains(makefile, " "+m[1]+"\n") {
			t.Errorf("target %s is not in .PHONY", m[1])
		}
	}
	for _, want := range []string{"help", "setup", "build", "fmt", "lint", "test", "race", "integration", "docker", "bench", "demo", "lab", "lab-down", "check"} {
		if !slices.Contains(names, want) {
			t.Errorf("the Makefile has no target %s", want)
		}
	}
}

func TestDocumentsKeepTheirLength(t *testing.T) {
	if n := strings.Count(read(t, "ARCHITECTURE.md"), "\n"); n > 150 {
		t.Errorf("ARCHITECTURE.md has %d lines, more than 150: it is a map, not the land", n)
	}
}

func TestChangelogEntriesHaveTheirFields(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(root, "docs/changelog/unreleased/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text := read(t, "docs/changelog/unreleased/"+filepath.Base(path))
		if !regexp.MustCompile(`(?m)^kind: (added|changed|fixed|removed)$`).MatchString(text) {
			t.Errorf("%s has no kind: added, changed, fixed or removed", path)
		}
		for _, field := range []string{"text: ", "issue: "} {
			if !strings.Contains(text, "\n"+field) {
				t.Errorf("%s has no line %q", path, field)
			}
		}
	}
}

func TestRepositoryStandsAlone(t *testing.T) {
	// split, so that this file passes
	words := []string{"../" + "shared", "/" + "work/", "tool " + "library", "lorem " + "ipsum"}
	for _, path := range tracked(t) {
		b, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			continue // deleted, and not yet committed
		}
		for _, word := range words {
			if strings.Contains(string(b), word) {
				t.Errorf("%s mentions %q: the repository stands alone", path, word)
			}
		}
	}
}
