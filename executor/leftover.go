package executor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// placedPattern matches the names that placedTemp makes.
var placedPattern = regexp.MustCompile(`^\.dovetail-[0-9a-f]{16}-\d+\.\d+\.tmp$`)

// RemoveTemporary removes, in dir and the folders below it, the temporary files that attempts of [Attempt.Place] leave
// when a machine stops. Those of a process that was killed are removed when its work folder is opened again, but a machine may lose
// the record of a file and keep the file. dir belongs to one run, which has ended.
func RemoveTemporary(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ioError("looking for temporary files", err)
		}
		if !d.Type().IsRegular() || !placedPattern.MatchString(d.Name()) {
			return nil
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ioError("removing what an unfinished attempt left", err)
		}
		return nil
	})
}
