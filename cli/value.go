package cli

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// text is any string.
type text string

func (t *text) Set(s string) error { *t = text(s); return nil }
func (t *text) String() string     { return string(*t) }

// toggle is true or false.
type toggle bool

func (t *toggle) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("not a boolean")
	}
	*t = toggle(b)
	return nil
}
func (t *toggle) String() string { return strconv.FormatBool(bool(*t)) }

// choice is one of a few words.
type choice struct {
	p     *string
	words []string
}

func (c *choice) Set(s string) error {
	if slices.Contains(c.words, s) {
		*c.p = s
		return nil
	}
	return fmt.Errorf("must be one of %s", quoteAll(c.words))
}

func (c *choice) String() string {
	if c.p == nil {
		return ""
	}
	return *c.p
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	return strings.Join(quoted, ", ")
}

// count is a whole number of 0 or more.
type count uint64

func (c *count) Set(s string) error {
	v, err := strconv.ParseUint(s, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && v > math.MaxInt64:
		return errors.New("must be at most 9223372036854775807")
	case err != nil:
		return errors.New("must be a whole number of 0 or more")
	}
	*c = count(v)
	return nil
}
func (c *count) String() string { return strconv.FormatUint(uint64(*c), 10) }

// integer is a whole number between two bounds.
type integer struct {
	p        *int64
	min, max int64
}

func (i *integer) Set(s string) error {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < i.min || v > i.max {
		if i.max == math.MaxInt64 {
			return fmt.Errorf("must be a whole number of %d or more", i.min)
		}
		return fmt.Errorf("must be a whole number from %d to %d", i.min, i.max)
	}
	*i.p = v
	return nil
}

func (i *integer) String() string {
	if i.p == nil {
		return ""
	}
	return strconv.FormatInt(*i.p, 10)
}

// ratio is a number from 0 to 1.
type ratio float32

func (r *ratio) Set(s string) error {
	v, err := strconv.ParseFloat(s, 32)
	if err != nil || math.IsNaN(v) || v < 0 || v > 1 {
		return errors.New("must be a number from 0 to 1")
	}
	*r = ratio(v)
	return nil
}
func (r *ratio) String() string { return strconv.FormatFloat(float64(*r), 'g', -1, 32) }

// span is a duration of 0 or more; one that is not 0 is at least least.
type span struct {
	p     *time.Duration
	least time.Duration
}

func (d *span) Set(s string) error {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return errors.New(`must be a duration such as "500ms", "10s" or "1m30s"`)
	case v < 0:
		return errors.New("duration cannot be negative")
	case v != 0 && v < d.least:
		return fmt.Errorf("must be 0 or at least %s", d.least)
	}
	*d.p = v
	return nil
}

func (d *span) String() string {
	if d.p == nil || *d.p == 0 {
		return ""
	}
	return d.p.String()
}

// words is a string split as a shell would.
type words []string

func (w *words) Set(s string) error {
	split, err := splitWords(s)
	if err != nil {
		return err
	}
	*w = split
	return nil
}
func (w *words) String() string { return strings.Join(*w, " ") }

// splitWords splits at blanks outside of quotes; a backslash takes the next
// character literally except inside single quotes.
func splitWords(s string) ([]string, error) {
	var (
		out     []string
		word    strings.Builder
		inWord  bool
		quote   rune
		escaped bool
	)
	for _, r := range s {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\n' || r == '\r':
			if inWord {
				out = append(out, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("missing closing %c", quote)
	}
	if escaped {
		return nil, errors.New("nothing after the last backslash")
	}
	if inWord {
		out = append(out, word.String())
	}
	return out, nil
}
