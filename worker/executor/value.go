package executor

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/mount"

	"shoal/worker/assignment"
	"shoal/worker/engine"
	"shoal/worker/file"
)

// Values knows the secrets and configs of this node's tasks.
type Values interface {
	// Value returns the secret or config with this id. If there is none, all says
	// whether a manager has sent all of them in this life of the worker.
	Value(id string) (value assignment.Value, ok, all bool)
}

// Files keeps the files of tasks: file.Store is one.
type Files interface {
	// Put replaces the files of a task and returns their paths.
	Put(taskID string, files []file.File) ([]string, error)
	// Remove removes the files of a task, if there are any.
	Remove(taskID string) error
	// Tasks returns the ids of the tasks that have files.
	Tasks() ([]string, error)
}

// maxExpanded bounds what a template may grow to.
const maxExpanded = 4 << 20

// fileRef is a secret or config that a task receives as a file.
type fileRef struct {
	secret   bool
	id, name string
	target   string // as the spec has it
	uid, gid string
	mode     os.FileMode
}

func (r fileRef) kind() string {
	if r.secret {
		return "secret"
	}
	return "config"
}

// path is that in the container.
func (r fileRef) path() string {
	switch {
	case path.IsAbs(r.target):
		return path.Clean(r.target)
	case r.secret:
		return path.Join("/run/secrets", r.target)
	}
	return path.Join("/", r.target)
}

// references lists the files of a task's container.
func references(t assignment.Task) (list []fileRef, err error) {
	if t.Spec == nil || t.Spec.Task.ContainerSpec == nil {
		return nil, nil
	}
	c := t.Spec.Task.ContainerSpec
	for _, ref := range c.Secrets {
		if ref.File == nil {
			return nil, invalid("secret reference %s: it has no target", ref.SecretName)
		}
		list = append(list, fileRef{true, ref.SecretID, ref.SecretName, ref.File.Name, ref.File.UID, ref.File.GID, ref.File.Mode})
	}
	for _, ref := range c.Configs {
		if ref.File == nil {
			return nil, refused("config reference %s: credential specs are not available on this node", ref.ConfigName)
		}
		list = append(list, fileRef{false, ref.ConfigID, ref.ConfigName, ref.File.Name, ref.File.UID, ref.File.GID, ref.File.Mode})
	}
	return list, nil
}

// hasFiles reports whether a task receives files.
func hasFiles(t assignment.Task) bool {
	list, err := references(t)
	return len(list) > 0 || err != nil
}

// deliver writes the files of a task and mounts them into its container, each
// by itself and read only.
func (e *Executor) deliver(o order, s engine.Spec) (engine.Spec, error) {
	refs, err := references(o.task)
	if err != nil || len(refs) == 0 {
		return s, err
	}
	if e.cfg.Files == nil || e.cfg.Values == nil {
		return s, refused("Secrets and Configs are not available on this node")
	}
	files := make([]file.File, len(refs))
	x := payload{scope: scopeOf(o.task, o.host.node), refs: refs, env: s.Config.Env, value: e.value}
	for i, ref := range refs {
		if files[i], err = x.file(ref); err != nil {
			return s, err
		}
	}
	paths, err := e.cfg.Files.Put(o.task.ID, files)
	if err != nil {
		return s, fmt.Errorf("files of the task: %w", err)
	}
	host := *s.HostConfig
	host.Mounts = append([]mount.Mount(nil), host.Mounts...)
	for i, ref := range refs {
		host.Mounts = append(host.Mounts, mount.Mount{
			Type: mount.TypeBind, Source: paths[i], Target: ref.path(), ReadOnly: true,
			BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate},
		})
	}
	s.HostConfig = &host
	return s, nil
}

// value returns what a reference is to. A worker that has just started waits
// for a manager: values are on no disk.
func (e *Executor) value(ref fileRef) (assignment.Value, error) {
	value, ok, all := e.cfg.Values.Value(ref.id)
	switch {
	case ok:
		return value, nil
	case !all:
		return value, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("waiting for a manager to send %s %s", ref.kind(), ref.name))
	}
	return value, refused("%s not found: %s", ref.kind(), ref.name)
}

// payload is what templates in secrets and configs see: what those of the spec
// do, and the task's environment, secrets and configs.
type payload struct {
	scope
	refs  []fileRef
	env   []string
	value func(fileRef) (assignment.Value, error)
}

func (x payload) file(ref fileRef) (f file.File, err error) {
	value, err := x.value(ref)
	if err != nil {
		return f, err
	}
	if f.Data = value.Data; value.Template {
		if f.Data, err = x.expandValue(ref, string(value.Data)); err != nil {
			return f, err
		}
	}
	for field, into := range map[*string]*int{&ref.uid: &f.UID, &ref.gid: &f.GID} {
		if *field == "" {
			continue
		}
		if *into, err = strconv.Atoi(*field); err != nil {
			return f, invalid("owner of %s %s: %q is not a number", ref.kind(), ref.name, *field)
		}
	}
	f.Mode = ref.mode
	return f, nil
}

func (x payload) expandValue(ref fileRef, text string) ([]byte, error) {
	functions := template.FuncMap{
		"join": join, "env": x.lookUpEnv,
		"secret": func(target string) (string, error) { return x.lookUp(true, target) },
		"config": func(target string) (string, error) { return x.lookUp(false, target) },
	}
	tmpl, err := template.New("").Option("missingkey=error").Funcs(functions).Parse(text)
	var out bounded
	if err == nil {
		err = tmpl.Execute(&out, x.scope)
	}
	if err != nil {
		return nil, invalid("template of %s %s: %s", ref.kind(), ref.name, templateError(ref, text, err))
	}
	return out.Bytes(), nil
}

// templateError is what may be said of a template that cannot be expanded:
// what quotes a secret goes no further.
func templateError(ref fileRef, text string, err error) string {
	if !ref.secret && !strings.Contains(text, "secret") {
		return err.Error()
	}
	if line := regexp.MustCompile(`^template: :(\d+):`).FindStringSubmatch(err.Error()); line != nil {
		return "error in line " + line[1]
	}
	return "it cannot be expanded"
}

// lookUp returns the value that the task has at a target, as it is stored.
func (x payload) lookUp(secret bool, target string) (string, error) {
	for _, ref := range x.refs {
		if ref.secret == secret && ref.target == target {
			value, err := x.value(ref)
			return string(value.Data), err
		}
	}
	return "", fmt.Errorf("%s target %s not found", fileRef{secret: secret}.kind(), target)
}

func (x payload) lookUpEnv(name string) string {
	for _, kv := range x.env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v
		}
	}
	return ""
}

// bounded is a buffer that may not grow past maxExpanded.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxExpanded {
		return 0, fmt.Errorf("the result is longer than %d bytes", maxExpanded)
	}
	return b.Buffer.Write(p)
}
