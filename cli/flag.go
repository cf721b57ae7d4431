package cli

import (
	"fmt"
	"strings"
)

// value is what a flag holds; Docker's option types are values.
type value interface {
	Set(string) error
	String() string
}

// flag is one flag of one command. It is the urfave/cli value too, so that it
// notes what was given and keeps its own words for a refusal. Only the long
// name is registered there: urfave/cli copies values between aliases by
// setting them again, which would double every list.
type flag struct {
	value
	name, short string
	kind        string // in --help: "string", "duration", "" for a switch
	usage       string
	defaults    string   // in --help, where it is not the zero value
	allowed     string   // added to a refusal
	words       []string // for completion
	boolean     bool
	changed     bool
	refused     *error
}

// Set implements urfave/cli's Generic.
func (f *flag) Set(s string) error {
	if err := f.value.Set(s); err != nil {
		err = fmt.Errorf("invalid argument %q for %q flag: %w", s, f.names(), err)
		if f.allowed != "" {
			err = fmt.Errorf("%w (allowed: %s)", err, f.allowed)
		}
		if *f.refused == nil {
			*f.refused = err
		}
		return err
	}
	f.changed = true
	return nil
}

// IsBoolFlag tells package flag that no value is needed.
func (f *flag) IsBoolFlag() bool { return f.boolean }

func (f *flag) names() string {
	if f.short == "" {
		return "--" + f.name
	}
	return "-" + f.short + ", --" + f.name
}

// wants adds to a refusal what would have been allowed.
func (f *flag) wants(allowed string) { f.allowed = allowed }

// def is the default that --help shows.
func (f *flag) def(text string) { f.defaults = text }

// flags are the flags of one command and what was given for them.
type flags struct {
	list    []*flag
	refused error // the first value that was refused
}

func (f *flags) add(v value, kind, names, usage string) *flag {
	name, short, _ := strings.Cut(names, ",")
	fl := &flag{value: v, name: name, short: short, kind: kind, usage: usage, refused: &f.refused}
	f.list = append(f.list, fl)
	return fl
}

func (f *flags) toggle(p *bool, names, usage string) {
	fl := f.add((*toggle)(p), "", names, usage)
	fl.boolean = true
	fl.wants("true or false")
}

func (f *flags) text(p *string, names, usage string) *flag {
	return f.add((*text)(p), "string", names, usage)
}

func (f *flags) choice(p *string, names, usage string, words ...string) *flag {
	fl := f.add(&choice{p: p, words: words}, "string", names, usage)
	fl.words = words
	return fl
}

func (f *flags) find(name string) *flag {
	for _, fl := range f.list {
		if fl.name == name {
			return fl
		}
	}
	return nil
}

func (f *flags) findShort(c string) *flag {
	for _, fl := range f.list {
		if fl.short == c {
			return fl
		}
	}
	return nil
}

// changed tells whether any of the named flags was given.
func (f *flags) changed(names ...string) bool {
	for _, name := range names {
		if fl := f.find(name); fl != nil && fl.changed {
			return true
		}
	}
	return false
}

// given lists the flags that were given.
func (f *flags) given() []string {
	var names []string
	for _, fl := range f.list {
		if fl.changed {
			names = append(names, fl.name)
		}
	}
	return names
}
