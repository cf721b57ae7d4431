package cli

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"shoal/internal/runspec"
)

// device is one of the host, or one that CDI knows by name.
type device struct {
	container.DeviceMapping
	cdi string
}

func (d device) key() string {
	if d.cdi != "" {
		return d.cdi
	}
	return d.PathInContainer
}

// parseDevice takes HOST[:CONTAINER][:PERMISSIONS].
func parseDevice(s string) ([]device, error) {
	if regexp.MustCompile(`^[A-Za-z][\w.-]*/[A-Za-z][\w-]*=[A-Za-z0-9][\w.:-]*$`).MatchString(s) {
		return []device{{cdi: s}}, nil
	}
	words := strings.Split(s, ":")
	d := container.DeviceMapping{PathOnHost: path.Clean(words[0]), CgroupPermissions: "rwm"}
	mode := regexp.MustCompile(`^(r?w?m?|r?m?w?|w?r?m?|w?m?r?|m?r?w?|m?w?r?)$`)
	switch {
	case len(words) == 2 && words[1] != "" && mode.MatchString(words[1]):
		d.CgroupPermissions = words[1]
	case len(words) == 2:
		d.PathInContainer = path.Clean(words[1])
	case len(words) == 3:
		d.PathInContainer, d.CgroupPermissions = words[1], words[2]
	}
	if d.PathInContainer == "" {
		d.PathInContainer = d.PathOnHost
	}
	switch {
	case len(words) > 3 || words[0] == "":
		return nil, fmt.Errorf("bad format for path: %s", s)
	case d.CgroupPermissions == "" || !mode.MatchString(d.CgroupPermissions):
		return nil, fmt.Errorf("bad mode specified: %s", d.CgroupPermissions)
	case !path.IsAbs(d.PathOnHost):
		return nil, fmt.Errorf("%s is not an absolute path", d.PathOnHost)
	case !path.IsAbs(d.PathInContainer):
		return nil, fmt.Errorf("%s is not an absolute path", d.PathInContainer)
	}
	return []device{{DeviceMapping: d}}, nil
}

// mergeDevices keeps those of the host apart from those of CDI, which are one
// request behind those for GPUs.
func mergeDevices(r *runspec.Spec, add []device, rm []string) {
	var have []device
	for _, d := range r.Devices {
		have = append(have, device{DeviceMapping: d})
	}
	for _, request := range cdiRequests(r.DeviceRequests) {
		for _, name := range request.DeviceIDs {
			have = append(have, device{cdi: name})
		}
	}
	requests := slices.DeleteFunc(slices.Clone(r.DeviceRequests), isCDI)
	var names []string
	r.Devices = nil
	for _, d := range merged(have, add, rm, device.key) {
		if d.cdi != "" {
			names = append(names, d.cdi)
			continue
		}
		r.Devices = append(r.Devices, d.DeviceMapping)
	}
	if len(names) > 0 {
		requests = append(requests, container.DeviceRequest{Driver: "cdi", DeviceIDs: names})
	}
	r.DeviceRequests = requests
}

func isCDI(d container.DeviceRequest) bool { return d.Driver == "cdi" }

func cdiRequests(all []container.DeviceRequest) (cdi []container.DeviceRequest) {
	for _, d := range all {
		if isCDI(d) {
			cdi = append(cdi, d)
		}
	}
	return cdi
}
