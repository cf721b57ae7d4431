package assignment

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestDataShowsItselfToNobody(t *testing.T) {
	value := Value{ID: "v1", Data: Data("canary")}
	line := Down{Values: []Value{value}}
	var logged bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
		slog.New(h).Info("value", "data", value.Data)
	}
	texts := []string{logged.String(), value.Data.String(), fmt.Sprint(value.Data)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, value), fmt.Sprintf(verb, &value), fmt.Sprintf(verb, line), fmt.Sprintf(verb, value.Data))
	}
	for _, text := range texts {
		for _, form := range []string{"canary", "63616e617279", "Y2FuYXJ5", "99 97 110", "0x63"} {
			if strings.Contains(text, form) {
				t.Errorf("%q gives the data away", text)
			}
		}
	}
	if string(value.Data) != "canary" {
		t.Error("the data is lost")
	}
}
