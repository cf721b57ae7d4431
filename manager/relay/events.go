package relay

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// events tells what the containers of the cluster do on this node. Of others,
// and of images, volumes and networks, managers hear nothing.
func (d *Door) events(w http.ResponseWriter, r *http.Request) error {
	query, err := containersOnly(r.URL.Query())
	if err != nil {
		return refuse(http.StatusBadRequest, "filters: %w", err)
	}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://docker/events?"+query.Encode(), nil)
	if err != nil {
		return refuse(http.StatusBadRequest, "events: %w", err)
	}
	answer, err := d.Engine.RoundTrip(request)
	if err != nil {
		return d.down(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		copyAnswer(w, answer)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	out := flushing{w, http.NewResponseController(w)}
	if out.Flush() != nil {
		return nil
	}
	in := json.NewDecoder(answer.Body)
	for {
		var raw json.RawMessage
		if in.Decode(&raw) != nil { // the end, or one of both has gone
			return nil
		}
		var e events.Message
		if json.Unmarshal(raw, &e) != nil || !d.Owns(e.Actor.Attributes) { // labels are attributes
			continue
		}
		if _, err := out.Write(append(raw, '\n')); err != nil {
			return nil
		}
	}
}

// containersOnly narrows a query of GET /events to containers.
func containersOnly(query url.Values) (url.Values, error) {
	args, err := filters.FromJSON(query.Get("filters"))
	if err != nil {
		return nil, err
	}
	for _, kind := range args.Get("type") {
		args.Del("type", kind)
	}
	args.Add("type", string(events.ContainerEventType))
	text, err := filters.ToJSON(args)
	if err != nil {
		return nil, err
	}
	narrow := url.Values{"filters": {text}}
	for _, bound := range []string{"since", "until"} {
		if v := query.Get(bound); v != "" {
			narrow.Set(bound, v)
		}
	}
	return narrow, nil
}
