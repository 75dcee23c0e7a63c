package executor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/executor/internal/vfs"
)

// ShareWork gives all ranks the work folder that open opens on the root, or its error. All ranks must see the folder under the
// same path. On other ranks the result reads committed files and takes new ones, but asks the root for everything that is in
// the log. Without a job it is open().
func (j *Job) ShareWork(ctx context.Context, open func() (*Work, error)) (*Work, error) {
	if j == nil {
		return open()
	}
	var w *Work
	data, err := j.Share(ctx, "work folder", func() ([]byte, error) {
		var err error
		if w, err = open(); err != nil {
			return nil, err
		}
		j.mu.Lock()
		j.work = w
		j.mu.Unlock()
		flags := byte(0)
		if w.resumed {
			flags = 1
		}
		b := binary.LittleEndian.AppendUint64([]byte{flags}, w.runID)
		b = binary.LittleEndian.AppendUint32(b, w.epoch)
		return append(appendString(b, w.dir), w.meta...), nil
	})
	if err != nil || w != nil {
		return w, err
	}
	d := decoder{b: data}
	flags, head := d.byte(), d.take(12)
	w = &Work{fs: vfs.OS, dir: d.string(), remote: j, resumed: flags == 1, made: make(map[string]bool)}
	if d.err != nil || !filepath.IsAbs(w.dir) {
		return nil, fmt.Errorf("executor: rank 0 describes its work folder in a way that makes no sense")
	}
	w.runID, w.epoch, w.meta = binary.LittleEndian.Uint64(head), binary.LittleEndian.Uint32(head[8:]), d.b
	if _, err := w.fs.Stat(w.dir); err != nil {
		return nil, fmt.Errorf("executor: rank %d does not see the work folder of rank 0: %w; it must be on storage that all ranks share, "+
			"under one path", j.cfg.Rank, err)
	}
	return w, nil
}

// serve answers what another rank asks about the log.
func (w *Work) serve(m *control.Message) *control.Message {
	fail := func(err error) *control.Message {
		return &control.Message{Flags: flagFailed, Text: err.Error()}
	}
	if w == nil {
		return fail(errors.New("executor: there is no work folder"))
	}
	if m.Kind == kindIntend {
		if err := w.intend(m.Stage, m.Text); err != nil {
			return fail(err)
		}
		return &control.Message{Flags: flagYes}
	}
	w.mu.Lock()
	st := w.files[m.Text]
	var verified bool
	if st != nil {
		verified = st.verified
	}
	w.mu.Unlock()
	if st == nil {
		return fail(fmt.Errorf("executor: %s is not a committed file of work folder %s", m.Text, w.dir))
	}
	if m.Kind == kindRevoke && len(m.Names) == 1 {
		return fail(w.revoke(st, errors.New(m.Names[0])))
	}
	r := &control.Message{Flags: flagYes, N: st.info.size, At: int64(st.info.crc)}
	if verified {
		r.Flags |= flagVerified
	}
	return r
}

// find returns what OpenCommitted must know of a file.
func (w *Work) find(name string) (*openState, error) {
	if w.remote == nil {
		w.mu.Lock()
		st, ok := w.files[name]
		closed := w.closed
		w.mu.Unlock()
		switch {
		case closed:
			return nil, w.errClosed()
		case !ok:
			return nil, fmt.Errorf("executor: %s is not a committed file of work folder %s", name, w.dir)
		}
		return st, nil
	}
	m, err := w.remote.ask(context.Background(), &control.Message{Kind: kindLookup, Text: name})
	if err != nil {
		return nil, err
	}
	if m.Flags&flagFailed != 0 {
		return nil, &RemoteError{Rank: 0, Text: m.Text}
	}
	return &openState{
		info: fileInfo{name: name, size: m.N, crc: uint32(m.At)}, verified: m.Flags&flagVerified != 0,
	}, nil
}

// revokeRemote has the root take back the commit that a file belongs to.
func (w *Work) revokeRemote(st *openState, cause error) error {
	m, err := w.remote.ask(context.Background(), &control.Message{Kind: kindRevoke, Text: st.info.name, Names: []string{cause.Error()}})
	if err != nil {
		return errors.Join(cause, err)
	}
	return fmt.Errorf("%w: %w", ErrFileDamaged, &RemoteError{Rank: 0, Text: m.Text})
}

// makeDirIn makes a folder in one that exists. A rank that was taken for lost may wake up when the job is long over and its
// folder gone, and must not bring that back.
func makeDirIn(dir string, perm fs.FileMode) error {
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
