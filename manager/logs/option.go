package logs

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	timestamp "github.com/docker/docker/api/types/time"
)

// options are what a client wants of the logs.
type options struct {
	stdout, stderr, follow, timestamps, details bool

	since, until string    // as given
	end          time.Time // until; zero: none
	tail         string    // "all" or a number of lines of each container
}

func parseOptions(q url.Values) (o options, err error) {
	o = options{
		stdout: truth(q, "stdout"), stderr: truth(q, "stderr"), follow: truth(q, "follow"), timestamps: truth(q, "timestamps"),
		details: truth(q, "details"), since: q.Get("since"), until: q.Get("until"), tail: q.Get("tail"),
	}
	if !o.stdout && !o.stderr {
		return o, errdefs.ErrInvalidArgument.WithMessage("Bad parameters: you must choose at least one stream")
	}
	if _, err := moment("since", o.since); err != nil {
		return o, err
	}
	if o.end, err = moment("until", o.until); err != nil {
		return o, err
	}
	if o.tail == "" {
		o.tail = "all"
	}
	return o, nil
}

// moment reads seconds since 1970, maybe with a fraction.
func moment(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	seconds, nanos, err := timestamp.ParseTimestamps(text, 0)
	if err != nil {
		return time.Time{}, errdefs.ErrInvalidArgument.WithMessage("invalid value for \"" + name + "\": " + err.Error())
	}
	return time.Unix(seconds, nanos), nil
}

// checkTail refuses what Swarm refuses, in its words and with its status.
func (o options) checkTail() error {
	if o.tail == "all" {
		return nil
	}
	n, err := strconv.Atoi(o.tail)
	switch {
	case err != nil:
		return errdefs.ErrUnknown.WithMessage("tail value must be a positive integer or \"all\"")
	case n < 0:
		return errdefs.ErrUnknown.WithMessage("negative tail values not supported")
	}
	return nil
}

// truth reads a boolean as Docker does: all is true but for these.
func truth(q url.Values, name string) bool {
	return !slices.Contains([]string{"", "0", "no", "false", "none"}, strings.ToLower(strings.TrimSpace(q.Get(name))))
}

// query is what an engine is asked for. Times are always asked for: they are
// where to go on after a break. last is the time of the last line that was
// read, fresh says that the container came while the logs were followed.
func (o options) query(last string, fresh bool) url.Values {
	q := url.Values{"stdout": {number(o.stdout)}, "stderr": {number(o.stderr)}, "timestamps": {"1"}, "tail": {o.tail}}
	if o.follow {
		q.Set("follow", "1")
	}
	if o.details {
		q.Set("details", "1")
	}
	if o.since != "" {
		q.Set("since", o.since)
	}
	if o.until != "" {
		q.Set("until", o.until)
	}
	if fresh { // all that it has said is new
		q.Set("tail", "all")
	}
	if at, err := time.Parse(time.RFC3339Nano, last); err == nil {
		at = at.Add(time.Nanosecond)
		q.Set("since", strconv.FormatInt(at.Unix(), 10)+"."+nanos(at))
		q.Set("tail", "all")
	}
	return q
}

func number(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func nanos(t time.Time) string {
	text := strconv.Itoa(t.Nanosecond())
	return strings.Repeat("0", 9-len(text)) + text
}
