//go:build docker

package compat

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// normal takes out of texts what no two clusters have in common.
type normal struct {
	rules []rule
}

type rule struct {
	pattern *regexp.Regexp
	to      string
}

// newNormal takes the addresses and directory of a lab out as well.
func newNormal(known ...string) *normal {
	n := &normal{}
	for i := 0; i+1 < len(known); i += 2 {
		n.add(regexp.QuoteMeta(known[i])+`\b`, known[i+1])
	}
	n.add(`S[WH]MTKN-1-[0-9a-z]{50}-[0-9a-z]{25}`, "TOKEN")
	n.add(`(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----`, "CERTIFICATE")
	n.add(`MBMxETAPBgNVBAMT[0-9A-Za-z]+`, "ISSUER")
	n.add(`MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE[0-9A-Za-z+/]+=*`, "PUBLICKEY")
	n.add(`\b([A-Z2-7]{4}:){11}[A-Z2-7]{4}\b`, "ENGINE-ID")
	n.add(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| ?[+-]\d\d:?\d\d( UTC)?)`, "TIME")
	n.add(`(?i)(about an? |less than a )?(\d+ )?(milliseconds?|seconds?|minutes?) ago`, "AGO")
	n.add(`(?i)up (about an? |less than a )?(\d+ )?(seconds?|minutes?)`, "Up A-WHILE")
	n.add(`\b[0-9a-f]{64}\b`, "HASH")
	n.add(`\b[0-9a-z]{25}\b`, "ID")
	n.add(`\b[0-9a-f]{12}\b`, "SHORT")
	return n
}

func (n *normal) add(pattern, to string) {
	n.rules = append(n.rules, rule{regexp.MustCompile(pattern), to})
}

// text is s without what differs by nature. Runs of blanks become two: the
// width of a column follows from what was taken out.
func (n *normal) text(s string) string {
	for _, r := range n.rules {
		s = r.pattern.ReplaceAllLiteralString(s, r.to)
	}
	s = shortID.ReplaceAllStringFunc(s, func(word string) string {
		if strings.ContainsAny(word, "0123456789") {
			return "SHORT"
		}
		return word
	})
	s = shortFirst.ReplaceAllString(s, "SHORT$1")
	return blanks.ReplaceAllLiteralString(s, "  ")
}

// lines is the text of an answer as it is compared.
func (n *normal) lines(s step, out string) string {
	text := n.text(strings.TrimRight(out, "\n"))
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	if s.last {
		lines = lines[len(lines)-1:]
	}
	if s.sorted {
		slices.Sort(lines)
	}
	return strings.Join(lines, "\n")
}

// leaves is the JSON in out as a map from path to value. ok is false when out
// is something else. Several documents in lines count as an array.
func (n *normal) leaves(s step, out string) (leaves map[string]string, ok bool) {
	out = strings.TrimSpace(out)
	if out == "" || !strings.ContainsAny(out[:1], "[{") {
		return nil, false
	}
	var docs []any
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var doc any
		if d.Decode(&doc) != nil {
			return nil, false
		}
		docs = append(docs, doc)
	}
	leaves = map[string]string{}
	var doc any = docs
	if len(docs) == 1 {
		doc = docs[0]
	}
	if list, ok := doc.([]any); ok && s.sorted {
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(nameOf(a), nameOf(b)) })
	}
	n.walk(s, "", doc, leaves)
	return leaves, true
}

// nameOf is what a user calls an object of the API.
func nameOf(v any) string {
	object, _ := v.(map[string]any)
	for _, field := range []string{"Spec", "Description"} {
		in, _ := object[field].(map[string]any)
		for _, key := range []string{"Name", "Hostname"} {
			if name, ok := in[key].(string); ok && name != "" {
				return name
			}
		}
	}
	return ""
}

// targetOf is where a mount is in the container.
func targetOf(v any) string {
	mount, _ := v.(map[string]any)
	for _, key := range []string{"Target", "Destination"} {
		if target, ok := mount[key].(string); ok {
			return target
		}
	}
	return ""
}

func (n *normal) walk(s step, path string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			into[path] = "{}"
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			n.walk(s, path+"."+n.text(key), v[key], into)
		}
	case []any:
		if strings.HasSuffix(path, ".Mounts") { // in containers their order is that of a map
			slices.SortFunc(v, func(a, b any) int { return strings.Compare(targetOf(a), targetOf(b)) })
		}
		if len(v) == 0 {
			into[path] = "[]"
		}
		for i, e := range v {
			if s.shape { // all elements on top of each other
				n.walk(s, path+"[]", e, into)
			} else {
				n.walk(s, fmt.Sprintf("%s[%d]", path, i), e, into)
			}
		}
	case string:
		into[path] = n.text(v)
		if strings.HasSuffix(path, ".ID") {
			into[path] = "ID"
		}
	case float64:
		into[path] = fmt.Sprint(v)
		if arbitraryNumber.MatchString(path) {
			into[path] = "NUMBER"
		}
	default:
		into[path] = fmt.Sprint(v)
	}
	if s.shape {
		if _, leaf := into[path]; leaf && into[path] != "{}" && into[path] != "[]" {
			into[path] = fmt.Sprintf("%T", v)
		}
	}
}

// compareLeaves tells where two answers differ, but for what is known to.
func compareLeaves(swarm, shoal map[string]string, known []*difference) string {
	paths := maps.Clone(swarm)
	maps.Copy(paths, shoal)
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		want, inSwarm := swarm[path]
		got, inShoal := shoal[path]
		if want == got && inSwarm == inShoal || isKnown(known, path) {
			continue
		}
		if inSwarm {
			fmt.Fprintf(&b, "-%s %s\n", path, want)
		}
		if inShoal {
			fmt.Fprintf(&b, "+%s %s\n", path, got)
		}
	}
	return b.String()
}

func isKnown(known []*difference, path string) bool {
	for _, d := range known {
		if d.path.MatchString(path) {
			d.seen = true
			return true
		}
	}
	return false
}

var (
	shortID         = regexp.MustCompile(`\b[0-9a-z]{12}\b`)
	shortFirst      = regexp.MustCompile(`(?m)^[0-9a-z]{12}( +|$)`) // no digit need be in it
	blanks          = regexp.MustCompile(` {2,}`)
	arbitraryNumber = regexp.MustCompile(`(\.Index|\.Pid|\.PID|\.time|\.timeNano)$`)
)

func TestNormalTakesOutWhatDiffersByNature(t *testing.T) {
	n := newNormal("10.213.4.1", "ADDR1")
	for in, want := range map[string]string{
		"zcs4pk8qz8bl8hyhr5ltq3ngs *   h1": "ID *  h1",
		"web.1   Running 5 seconds ago":    "web.1  Running AGO",
		"zcs4pk8qz8bl   web":               "SHORT  web",
		"the availability":                 "the availability",
		"10.213.4.1:2377 10.213.4.11":      "ADDR1:2377 10.213.4.11",
		"2026-11-23T12:46:53.123456789Z":   "TIME",
	} {
		if got := n.text(in); got != want {
			t.Errorf("text(%q) = %q, want %q", in, got, want)
		}
	}
}
