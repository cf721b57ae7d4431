package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Image is a container image: one static program under some names in /bin.
type Image struct {
	Ref     string   // such as "web:1"
	Program string   // path of a static binary on this machine
	Names   []string // in /bin; the first one is the image's command
	Env     []string
}

// Tar is the image in the form of `docker save`. The same image gives the
// same bytes, so that it has the same ID on every engine.
func (i Image) Tar() ([]byte, error) {
	program, err := os.ReadFile(i.Program)
	if err != nil {
		return nil, err
	}
	layer, err := i.layer(program)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": time.Unix(0, 0).UTC(),
		"config": map[string]any{"Cmd": []string{"/bin/" + i.Names[0]}, "Env": append([]string{"PATH=/bin"}, i.Env...)},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
	if err != nil {
		return nil, err
	}
	configName := digest(config) + ".json"
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": configName, "RepoTags": []string{i.Ref}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []struct {
		name string
		data []byte
	}{{configName, config}, {"layer.tar", layer}, {"manifest.json", manifest}} {
		if err := writeFile(w, f.name, f.data); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

// layer is the image's file system.
func (i Image) layer(program []byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, dir := range []string{"bin/", "tmp/", "etc/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	if err := writeFile(w, path.Join("bin", i.Names[0]), program); err != nil {
		return nil, err
	}
	for _, name := range i.Names[1:] {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: path.Join("bin", name), Linkname: i.Names[0], Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

func writeFile(w *tar.Writer, name string, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// LoadImage gives an image, as Image.Tar makes it, to the host's engine.
func (h *Host) LoadImage(ctx context.Context, tarball []byte) error {
	client := unixClient(h.DockerSocket())
	client.Timeout = time.Minute
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://host/images/load?quiet=1", bytes.NewReader(tarball))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	// a failure after the first byte is reported in the stream
	if resp.StatusCode != http.StatusOK || strings.Contains(string(said), `"error"`) {
		return fmt.Errorf("load an image on %s: %s: %s", h.Name, resp.Status, said)
	}
	return nil
}

// LoadImage gives an image to all engines.
func (l *Lab) LoadImage(ctx context.Context, i Image) error {
	tarball, err := i.Tar()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range l.hosts {
		g.Go(func() error { return h.LoadImage(ctx, tarball) })
	}
	return g.Wait()
}

// WebImage is the sample image, whose program is built from examples/web.
func WebImage(ref, program string) Image {
	return Image{Ref: ref, Program: program, Names: []string{"web", "sleep", "stubborn", "exit", "crash", "eat", "echo", "cat", "check", "get", "lookup"}}
}

// Build compiles the package pkg of this module into a static program out.
func Build(ctx context.Context, pkg, out string) error {
	_, err := command(ctx, "", "env", "CGO_ENABLED=0", "go", "build", "-tags", "hashicorpmetrics", "-trimpath", "-o", out, pkg)
	return err
}
