package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// pack writes a file or directory as an archive whose root has this name.
func pack(w io.Writer, source, name string) error {
	out := tar.NewWriter(w)
	err := filepath.WalkDir(source, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		return packOne(out, file, path.Join(name, filepath.ToSlash(below)), file == source)
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// packOne: a link that was named is followed, others are copied as links.
func packOne(out *tar.Writer, file, name string, follow bool) error {
	info, err := os.Lstat(file)
	if err == nil && follow {
		info, err = os.Stat(file)
	}
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	}
	if info.Mode()&fs.ModeSocket != 0 {
		return nil // means nothing elsewhere
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name = name
	if info.IsDir() {
		header.Name += "/"
	}
	if err := out.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(out, f)
	return err
}

// unpack writes an archive below dir, its root under this name. Nothing is
// written outside of dir, whatever the archive says: it comes from a container.
func unpack(r io.Reader, dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	in := tar.NewReader(r)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeLink {
			header.Linkname = renamed(header.Linkname, name)
		}
		if err := unpackOne(root, in, header, renamed(header.Name, name)); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
}

// renamed is a path of an archive whose first part, the root, is name instead.
func renamed(file, name string) string {
	_, below, _ := strings.Cut(path.Clean(file), "/")
	return filepath.FromSlash(path.Join(name, below))
}

func unpackOne(root *os.Root, in io.Reader, header *tar.Header, name string) error {
	mode := header.FileInfo().Mode().Perm()
	switch header.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, mode|0o700); err != nil {
			return err
		}
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, in)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	case tar.TypeSymlink, tar.TypeLink:
		if err := root.Remove(name); err != nil && !os.IsNotExist(err) {
			return err
		}
		if header.Typeflag == tar.TypeLink {
			return root.Link(header.Linkname, name)
		}
		return root.Symlink(header.Linkname, name)
	default:
		return nil // devices and pipes are not files to have
	}
	return root.Chtimes(name, header.ModTime, header.ModTime)
}
