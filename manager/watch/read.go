package watch

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/docker/docker/api/types/events"
)

// Read reads a stream of events, and calls emit with each until its end.
func Read(stream io.Reader, emit func(events.Message) error) error {
	in := json.NewDecoder(stream)
	for {
		var e events.Message
		if err := in.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := emit(e); err != nil {
			return err
		}
	}
}
