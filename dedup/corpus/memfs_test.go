package corpus

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"
)

// memFS is a file system in memory without folders of its own, as an object store is: a folder is there as
// long as a name begins with it.
type memFS struct {
	mu    sync.Mutex
	files map[string]memFile
	fail  map[string]error // names that cannot be read
	reads map[string]int64 // bytes read
}

type memFile struct {
	data  []byte
	mtime time.Time
	mode  fs.FileMode
}

func newMemFS(files map[string]string) *memFS {
	m := &memFS{files: map[string]memFile{}, fail: map[string]error{}, reads: map[string]int64{}}
	for name, data := range files {
		m.put(name, []byte(data))
	}
	return m
}

func (m *memFS) put(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[m.clean(name)] = memFile{data, time.Unix(1700000000, 0), 0o644}
}

func (*memFS) clean(name string) string { return path.Clean("/" + name) }

func (m *memFS) readBytes(name string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads[m.clean(name)]
}

type memObject struct {
	*bytes.Reader
	fs   *memFS
	name string
}

func (o memObject) Close() error { return nil }

func (o memObject) ReadAt(p []byte, off int64) (int, error) {
	o.fs.mu.Lock()
	err := o.fs.fail[o.name]
	o.fs.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := o.Reader.ReadAt(p, off)
	o.fs.mu.Lock()
	o.fs.reads[o.name] += int64(n)
	o.fs.mu.Unlock()
	return n, err
}

func (m *memFS) Open(ctx context.Context, name string) (Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = m.clean(name)
	f, ok := m.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return memObject{bytes.NewReader(f.data), m, name}, context.Cause(ctx)
}

func (m *memFS) Stat(ctx context.Context, name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = m.clean(name)
	if f, ok := m.files[name]; ok {
		return Info{Name: path.Base(name), Size: int64(len(f.data)), ModTime: f.mtime, Mode: f.mode}, nil
	}
	for other := range m.files {
		if strings.HasPrefix(other, strings.TrimSuffix(name, "/")+"/") {
			return Info{Name: path.Base(name), Mode: fs.ModeDir | 0o755}, nil
		}
	}
	return Info{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

func (m *memFS) List(ctx context.Context, name string) ([]Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	prefix := strings.TrimSuffix(m.clean(name), "/") + "/"
	found := map[string]Info{}
	for other, f := range m.files {
		rest, ok := strings.CutPrefix(other, prefix)
		if !ok {
			continue
		}
		if dir, _, deep := strings.Cut(rest, "/"); deep {
			found[dir] = Info{Name: dir, Mode: fs.ModeDir | 0o755}
		} else {
			found[rest] = Info{Name: rest, Size: int64(len(f.data)), ModTime: f.mtime, Mode: f.mode}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("list %s: %w", name, fs.ErrNotExist)
	}
	var infos []Info
	for _, i := range found {
		infos = append(infos, i)
	}
	return infos, nil
}

func (m *memFS) Canonical(ctx context.Context, name string) (string, error) {
	if _, err := m.Stat(ctx, name); err != nil {
		return "", err
	}
	return m.clean(name), nil
}
