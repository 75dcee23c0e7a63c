package data

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"
	"unicode/utf8"
)

// entries calls f for every regular file of a package. r is valid until f returns.
func entries(ctx context.Context, p Package, f func(name string, size int64, r io.Reader) error) error {
	return piped(ctx, nil, func(r io.Reader) error { return eachFile(r, f) }, "dpkg-deb", "--fsys-tarfile", p.path)
}

// piped runs a program and has use read what it writes. If use stops early, so does the program.
func piped(ctx context.Context, stdin io.Reader, use func(io.Reader) error, args ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = stdin
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := use(out); err != nil {
		cancel()
		_ = cmd.Wait() // it was stopped
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func eachFile(r io.Reader, f func(name string, size int64, r io.Reader) error) error {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := f(strings.TrimPrefix(path.Clean(h.Name), "/"), h.Size, t); err != nil {
			return err
		}
	}
}

// sourceFiles calls f for the files of the source tree that a kernel package has, with names relative to the tree.
func sourceFiles(ctx context.Context, p Package, f func(name string, size int64, r io.Reader) error) error {
	found := false
	err := entries(ctx, p, func(name string, _ int64, r io.Reader) error {
		if !strings.HasSuffix(name, p.Name+".tar.xz") {
			return nil
		}
		found = true
		return piped(ctx, r, func(r io.Reader) error {
			return eachFile(r, func(name string, size int64, r io.Reader) error {
				_, rel, _ := strings.Cut(name, "/")
				return f(rel, size, r)
			})
		}, "xz", "--decompress", "--stdout")
	})
	if err == nil && !found {
		err = fmt.Errorf("%s has no %s.tar.xz", p.path, p.Name)
	}
	return err
}

// text reads a file, unpacks it if its name says so, and returns it as UTF-8: what is not is taken for Latin-1.
func text(name string, r io.Reader) (base, content string, err error) {
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(r)
		if err != nil {
			return "", "", err
		}
		r, name = z, strings.TrimSuffix(name, ".gz")
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return "", "", err
	}
	if utf8.Valid(data) {
		return name, string(data), nil
	}
	runes := make([]rune, len(data))
	for i, b := range data {
		runes[i] = rune(b)
	}
	return name, string(runes), nil
}
