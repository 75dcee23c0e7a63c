package corpus

import (
	"context"
	"io"
	"io/fs"
	"time"
)

// FS is where files are: the local disk ([Local]) or, for instance, an object store. Names are
// slash-separated and mean what the file system wants them to mean; "" is never passed. Writing is not its
// business: [Set.Rewrite] takes an io.Writer, because whoever writes also decides when a file becomes
// visible. Implementations are safe for concurrent use.
type FS interface {
	// Open opens a file for random reads.
	Open(ctx context.Context, name string) (Object, error)
	// Stat describes a file or folder, following links. The error for a name that does not exist satisfies
	// errors.Is(err, fs.ErrNotExist).
	Stat(ctx context.Context, name string) (Info, error)
	// List describes the entries of a folder, links not followed, in any order.
	List(ctx context.Context, name string) ([]Info, error)
	// Canonical returns the one absolute name of an existing file or folder, with all links followed and
	// without "." and "..". Names are of the same file if, and only if, their canonical names are equal.
	Canonical(ctx context.Context, name string) (string, error)
}

// Object is an open file of fixed size. Reads at several places may run at the same time.
type Object interface {
	io.ReaderAt
	io.Closer
	// Size returns the length in bytes when the file was opened.
	Size() int64
}

// Info describes an entry of a file system.
type Info struct {
	Name    string      // the last part of the name
	Size    int64       // in bytes
	ModTime time.Time   // of the last change
	Mode    fs.FileMode // kind and permissions
}
