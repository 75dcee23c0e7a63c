package flow

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SyncTree makes everything below dir permanent. Contents are already, task by task; names of folders may not be.
func SyncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
