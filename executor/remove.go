package executor

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// removePatience is how long those have that still make files in a folder that is removed: a rank that has yet to hear that its stage
// has failed, or the process of an actor whose parent was killed.
const removePatience = 2 * time.Second

// RemoveAll removes a folder and what is in it, like os.RemoveAll, but bears with others who are about to end and still put
// files into it. It gives up when they have not ended after two seconds.
func RemoveAll(dir string) error {
	again := time.NewTicker(10 * time.Millisecond) // they are other processes, which nothing here tells of their end
	defer again.Stop()
	for end := time.After(removePatience); ; {
		err := os.RemoveAll(dir)
		if !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
			return err
		}
		select {
		case <-again.C:
		case <-end:
			return err
		}
	}
}
