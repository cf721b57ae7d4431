package assignment

import (
	"fmt"
	"log/slog"
)

// Value is what a secret or config holds. It never changes.
type Value struct {
	ID string `json:"id"`
	// Template says that Data is a Go template, to be expanded for each task.
	Template bool `json:"template,omitempty"`
	Data     Data `json:"data"`
}

// Data is the content of a secret or config. It shows itself only to who
// converts it, never in a log or message.
type Data []byte

// String implements fmt.Stringer.
func (d Data) String() string { return fmt.Sprintf("[%d bytes]", len(d)) }

// Format keeps every verb from printing the content.
func (d Data) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(d.String())) }

// LogValue implements slog.LogValuer.
func (d Data) LogValue() slog.Value { return slog.StringValue(d.String()) }
