package runfolder

import (
	"errors"
	"fmt"
	"os"
)

// CheckWritable finds out whether something can be put into a folder, which it makes if need be.
func CheckWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("%w: %w", ErrOutput, err)
	}
	err := probe(dir)
	if err == errNameless {
		err = probeNamed(dir)
	}
	if err != nil {
		return fmt.Errorf("%w: cannot write in %s: %w", ErrOutput, dir, err)
	}
	return nil
}

// errNameless says that there are no files without a name here.
var errNameless = errors.New("no files without a name")

// probeNamed makes a file and removes it. Who is killed in between leaves it.
func probeNamed(dir string) error {
	f, err := os.CreateTemp(dir, ".dovetail-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
