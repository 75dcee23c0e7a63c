package corpus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Local returns the file system of the machine. Relative names are relative to the working folder.
func Local() FS { return local{} }

type local struct{}

type localObject struct {
	*os.File
	size int64
}

func (o localObject) Size() int64 { return o.size }

func (local) Open(ctx context.Context, name string) (Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	f, err := os.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("open %s: not a regular file", name)
	}
	if err != nil {
		return nil, firstError(err, f.Close())
	}
	return localObject{f, st.Size()}, nil
}

func (local) Stat(ctx context.Context, name string) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, context.Cause(ctx)
	}
	st, err := os.Stat(filepath.FromSlash(name))
	if err != nil {
		return Info{}, err
	}
	return localInfo(st), nil
}

func localInfo(st fs.FileInfo) Info {
	return Info{Name: st.Name(), Size: st.Size(), ModTime: st.ModTime(), Mode: st.Mode()}
}

func (local) List(ctx context.Context, name string) ([]Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	entries, err := os.ReadDir(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	infos := make([]Info, 0, len(entries))
	for _, e := range entries {
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since the folder was read
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, localInfo(st))
	}
	return infos, nil
}

func (local) Canonical(ctx context.Context, name string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", context.Cause(ctx)
	}
	abs, err := filepath.Abs(filepath.FromSlash(name))
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	return filepath.ToSlash(real), err
}
