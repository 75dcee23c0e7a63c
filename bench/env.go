package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/dovetail-dedup/dovetail/bench/data"
)

// Env is where workloads find what they need. The zero Env, with Scratch set, measures on the sources of the Go distribution
// and knows no other programs.
type Env struct {
	// Dir has the data sets that `dovetail bench data` made; "" is none.
	Dir string
	// Rivals has the environments of other programs; "" is none.
	Rivals string
	// Program is the dovetail that is measured as a program; "" runs the library of this process instead.
	Program string
	// Version is that of the program, for the record.
	Version string
	// Scratch is an existing folder for what workloads write.
	Scratch string
	// Cold drops input files from the page cache before every run of a program.
	Cold bool
	// Patient runs slow rivals in every round too.
	Patient bool
	// Quick makes everything small: to see that it works, not to measure.
	Quick bool
	// Note is told what happens; nil is nobody.
	Note func(string)
}

func (e *Env) note(format string, a ...any) {
	if e.Note != nil {
		e.Note(fmt.Sprintf(format, a...))
	}
}

// set returns a data set. The error wraps ErrUnavailable if it was not made.
func (e *Env) set(name string) (*data.Set, error) {
	if e.Dir == "" {
		return nil, unavailable("the data set %s was not made (dovetail bench data)", name)
	}
	s, err := data.Open(e.Dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unavailable("the data set %s was not made (dovetail bench data)", name)
	}
	return s, err
}

// texts returns documents of a set, up to a number of bytes, or of the Go distribution if there is no such set, and says
// which.
func (e *Env) texts(ctx context.Context, name string, limit int64) (docs []data.Doc, from string, err error) {
	if e.Quick {
		limit = min(limit, 2<<20)
	}
	s, err := e.set(name)
	if errors.Is(err, ErrUnavailable) {
		docs, err = data.GoTree(ctx, limit)
		return docs, "sources of " + runtime.Version(), err
	}
	if err != nil {
		return nil, "", err
	}
	n := int64(0)
	err = s.Each(func(d data.Doc) bool {
		n += int64(len(d.Text))
		docs = append(docs, d)
		return n < limit
	})
	return docs, name, err
}

// input returns the folder of a data set, or writes one of the Go distribution's sources if there is no such set.
func (e *Env) input(ctx context.Context, name string) (dir, from string, bytes, docs int64, err error) {
	s, err := e.set(name)
	if err == nil && !e.Quick {
		return s.Dir(), s.String(), s.TextBytes, s.Documents, nil
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return "", "", 0, 0, err
	}
	limit := int64(64 << 20)
	if e.Quick {
		limit = 2 << 20
	}
	texts, err := data.GoTree(ctx, limit)
	if err != nil {
		return "", "", 0, 0, err
	}
	if dir, err = os.MkdirTemp(e.Scratch, "input-*"); err != nil {
		return "", "", 0, 0, err
	}
	for _, d := range texts {
		bytes += int64(len(d.Text))
	}
	err = data.WriteDocs(filepath.Join(dir, "part-0.parquet"), texts)
	return dir, "sources of " + runtime.Version(), bytes, int64(len(texts)), err
}

// temp returns a new folder.
func (e *Env) temp(name string) (string, error) { return os.MkdirTemp(e.Scratch, name+"-*") }

// settle puts the files of a folder in the page cache or, for a cold run, drops them from it.
func (e *Env) settle(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if e.Cold {
			return dropCache(f)
		}
		_, err = io.Copy(io.Discard, f)
		return err
	})
}

// Cache says in what state files are before a run.
func (e *Env) Cache() string {
	if e.Cold {
		return "cold"
	}
	return "warm"
}
