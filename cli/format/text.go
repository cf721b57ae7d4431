package format

import (
	"fmt"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
)

// TruncateID is the first 12 characters.
func TruncateID(id string) string {
	const short = 12
	if len(id) > short {
		return id[:short]
	}
	return id
}

// Ellipsis cuts s to width characters, the last of them "…".
func Ellipsis(s string, width int) string {
	r := []rune(s)
	if len(r) <= width || width < 1 {
		return s
	}
	return string(r[:width-1]) + "…"
}

// Title is Docker's way to print a state: "running" as "Running".
func Title(s string) string {
	if len(s) < 2 {
		return strings.ToLower(s)
	}
	return strings.ToUpper(s[:1]) + strings.ToLower(s[1:])
}

// Ago is "2 minutes ago".
func Ago(t, now time.Time) string {
	return strings.ToLower(units.HumanDuration(now.Sub(t))) + " ago"
}

// Image is an image reference without its digest, where it has a tag too.
func Image(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	tagged, ok := ref.(reference.NamedTagged)
	if !ok {
		return image
	}
	short, err := reference.WithTag(reference.TrimNamed(tagged), tagged.Tag())
	if err != nil {
		return image
	}
	return reference.FamiliarString(short)
}

// NaturalLess orders web2 before web10.
func NaturalLess(a, b string) bool {
	for a != "" && b != "" {
		da, db := digits(a), digits(b)
		if da == "" || db == "" {
			if a[0] != b[0] {
				return a[0] < b[0]
			}
			a, b = a[1:], b[1:]
			continue
		}
		na, nb := strings.TrimLeft(da, "0"), strings.TrimLeft(db, "0")
		if len(na) != len(nb) {
			return len(na) < len(nb)
		}
		if na != nb {
			return na < nb
		}
		if len(da) != len(db) { // equal numbers: fewer zeros first
			return len(da) < len(db)
		}
		a, b = a[len(da):], b[len(db):]
	}
	return len(a) < len(b)
}

func digits(s string) string {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i]
}

// Quote is `"text"`, or nothing for nothing.
func Quote(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf(`"%s"`, s)
}
