package dedup

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncTree makes everything below dir permanent. Contents are already, task by task; names of folders may not be.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
