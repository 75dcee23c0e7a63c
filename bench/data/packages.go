package data

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// kernels are two releases of one source tree.
var kernels = []string{"linux-source-6.1", "linux-source-6.12"}

// pages are documentation, in many languages, of several projects.
var pages = slices.Concat(
	prefixed("libreoffice-help-", "ca cs da de el en-gb en-us es et eu fi fr hu it ja ko nl pl pt pt-br ru sl sv tr vi zh-cn zh-tw"),
	prefixed("manpages", " -dev -cs -da -de -de-dev -es -fr -fr-dev -it -ja -ja-dev -nl -pl -pt-br -ro -ru -sv -tr -uk -zh"),
	strings.Fields("debian-handbook gnome-user-docs python3.11-doc postgresql-doc-15 git-doc apache2-doc perl-doc debian-policy "+
		"developers-reference debian-history vim-doc sqlite3-doc installation-guide-amd64"),
)

func prefixed(prefix, names string) []string {
	out := strings.Split(names, " ")
	for i := range out {
		out[i] = prefix + out[i]
	}
	return out
}

// Package is what a set was made of.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`

	path string
}

// fetch finds packages in the folder deb below dir, and gets those that are not there. It returns the names of those that
// cannot be had beside those that can.
func fetch(ctx context.Context, dir string, names []string, note func(string)) (have []Package, missing []string, err error) {
	dir = filepath.Join(dir, "deb")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		path, err := find(dir, name)
		if err != nil {
			return nil, nil, err
		}
		if path == "" {
			note("getting " + name)
			if path, err = download(ctx, dir, name); err != nil {
				missing = append(missing, name)
				note(err.Error())
				continue
			}
		}
		p, err := describe(ctx, name, path)
		if err != nil {
			return nil, nil, err
		}
		have = append(have, p)
	}
	return have, missing, nil
}

// find returns the file of a package, or "".
func find(dir, name string) (string, error) {
	all, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if err != nil || len(all) == 0 {
		return "", err
	}
	return slices.Max(all), nil
}

func download(ctx context.Context, dir, name string) (string, error) {
	cmd := exec.CommandContext(ctx, "apt-get", "download", "-q", name)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w: %s (put %s_VERSION.deb into %s by hand, or run apt-get update)",
			name, err, lastLine(out), name, dir)
	}
	path, err := find(dir, name)
	if err == nil && path == "" {
		err = fmt.Errorf("apt-get download %s left no file in %s", name, dir)
	}
	return path, err
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

func describe(ctx context.Context, name, path string) (Package, error) {
	out, err := exec.CommandContext(ctx, "dpkg-deb", "--field", path, "Version").Output()
	if err != nil {
		return Package{}, fmt.Errorf("dpkg-deb --field %s: %w", path, err)
	}
	size, sum, err := fileSum(path)
	return Package{Name: name, Version: strings.TrimSpace(string(out)), Size: size, SHA256: sum, path: path}, err
}
