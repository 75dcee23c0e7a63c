package corpus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/dovetail-dedup/dovetail/mem"
)

// source is an open file of the set. It remembers the first error of the file system, because libraries
// between it and the reader wrap or swallow errors, and a disk that fails must not look like a file that is
// damaged. One goroutine uses it at a time.
type source struct {
	obj  Object
	name string
	ctx  context.Context
	err  error
}

// open opens file i and makes sure that it still has the size it was resolved with.
func (s *Set) open(ctx context.Context, i int) (*source, error) {
	if i < 0 || i >= len(s.Files) {
		return nil, fmt.Errorf("corpus: file %d of a set of %d", i, len(s.Files))
	}
	f := &s.Files[i]
	src, err := openSource(ctx, s.FS, f.Name)
	if err != nil {
		return nil, err
	}
	if n := src.obj.Size(); n != f.Size {
		err := changed(f, fmt.Sprintf("its size is %d bytes, it was %d", n, f.Size))
		return nil, firstError(err, src.Close())
	}
	return src, nil
}

func openSource(ctx context.Context, fsys FS, name string) (*source, error) {
	obj, err := fsys.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("corpus: %w", err)
	}
	return &source{obj: obj, name: name, ctx: ctx}, nil
}

// ReadAt reads from the file unless the context has ended.
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if s.ctx.Err() != nil {
		s.err = context.Cause(s.ctx)
		return 0, s.err
	}
	n, err := s.obj.ReadAt(p, off)
	if err != nil && err != io.EOF && s.err == nil {
		s.err = err
	}
	return n, err
}

// section returns a reader of bytes [from, to) of the file.
func (s *source) section(from, to int64) *io.SectionReader {
	return io.NewSectionReader(s, from, to-from)
}

func (s *source) Close() error { return s.obj.Close() }

// place is where in a file something is wrong; the zero value is the file as a whole.
type place struct {
	line  int64 // number from 1
	row   int64 // number from 0, plus 1
	group int   // number from 0, plus 1
}

// fault makes the error to report when err came up while the file was decoded: the file system's or the
// allocator's if it was theirs, otherwise a FileError of the given kind.
func (s *source) fault(kind error, at place, err error) error {
	if s.err != nil {
		return fmt.Errorf("corpus: %s: %w", s.name, s.err)
	}
	return fault(s.name, kind, at, err)
}

func fault(name string, kind error, at place, err error) error {
	var fe *FileError
	if errors.As(err, &fe) || errors.Is(err, mem.ErrNoMemory) {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = errors.New("the file ends too early")
	}
	return &FileError{Name: name, Line: at.line, Row: at.row - 1, RowGroup: at.group - 1, Kind: kind, Err: err}
}

// guarded calls f and turns a panic of a library into an error: f decodes untrusted bytes, and not all that is wrong
// with them ends in an error. A panic in code of this project is a fault of its own, not the file's, and goes on.
func guarded(f func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case refused:
			err = r.err
		default:
			if ourPanic() {
				panic(fmt.Errorf("%v\n%s", r, debug.Stack()))
			}
			err = fmt.Errorf("cannot be decoded: %v", r)
		}
	}()
	return f()
}

// ourPanic reports, while a panic is being recovered from, whether it arose in this project.
func ourPanic() bool {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	raised := false
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic" || f.Function == "runtime.panicmem":
			raised = true // what follows was running at the time
		case raised && !strings.HasPrefix(f.Function, "runtime."):
			return strings.HasPrefix(f.Function, project)
		}
		if !more {
			return false
		}
	}
}

const project = "github.com/dovetail-dedup/dovetail/"
