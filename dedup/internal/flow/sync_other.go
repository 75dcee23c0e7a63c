//go:build !linux

package flow

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
)

// SyncTree makes everything below dir permanent. Contents are already, task by task; names of folders may not be.
func SyncTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	slices.Reverse(dirs)
	for _, d := range dirs {
		err = errors.Join(err, SyncFolder(d))
	}
	return err
}
