// Package runfolder holds what runs with an output folder and a work folder have in common: the result appears at once
// when it is complete, what was finished is kept until then, and folders that belong to something else are left alone.
package runfolder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dovetail-dedup/dovetail/executor"
)

// ErrOutput is wrapped when the output folder cannot be used.
var ErrOutput = errors.New("output folder cannot be used")

// ErrResume is wrapped when the work folder belongs to a run with other options or another input.
var ErrResume = errors.New("work folder belongs to another run")

// Folders are where a run puts things. Paths are absolute.
type Folders struct {
	Output string
	// Work holds a folder for each kind of run, named by Hash.
	Work string
	// Hash is 16 hexadecimal digits that name the options that decide results.
	Hash string
}

// New makes the paths absolute and follows links, so that a result goes where a link leads; an empty work is output with ".work" behind it.
func New(output, work, hash string) (f Folders, err error) {
	if output == "" {
		return f, errors.New("--output: name the folder for the result")
	}
	if f.Output, err = resolve(output); err != nil {
		return f, err
	}
	if work == "" {
		work = f.Output + ".work"
	}
	f.Work, err = resolve(work)
	f.Hash = hash
	return f, err
}

// resolve makes a path absolute and follows the links of as much of it as exists.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for at := abs; ; at = filepath.Dir(at) {
		real, err := filepath.EvalSymlinks(at)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return abs, nil // whoever uses it says what is wrong with it
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// Dir is the work folder of runs with these options.
func (f *Folders) Dir() string { return filepath.Join(f.Work, f.Hash) }

// Staging is where a run builds its result, beside the output. The random id of the work folder is in its name, so it
// belongs to that run alone, whatever else runs or was left there.
func (f *Folders) Staging(w *executor.Work) string {
	return fmt.Sprintf("%s.%016x.partial", f.Output, w.RunID())
}

// CheckApart refuses folders of which one lies in another: a result in the input would be the input of the next run.
// files are the names of the input files, inputs what the user named.
func (f *Folders) CheckApart(files, inputs []string) error {
	for _, dir := range []string{f.Output, f.Work} {
		for _, name := range files {
			if abs, err := filepath.Abs(name); err == nil && below(abs, dir) {
				return fmt.Errorf("%w: the input %s lies in %s; choose an --output and a --work outside of the input", ErrOutput, name, dir)
			}
		}
		for _, in := range inputs {
			root := in
			if st, err := os.Stat(in); err != nil {
				root = globRoot(in)
			} else if !st.IsDir() {
				root = ""
			}
			if root != "" && Within(dir, root) {
				return fmt.Errorf("%w: %s lies in the input %s; choose an --output and a --work outside of the input", ErrOutput, dir, in)
			}
		}
	}
	if Within(f.Work, f.Output) || Within(f.Output, f.Work) {
		return fmt.Errorf("%w: --output %s and --work %s lie in one another; choose another --work", ErrOutput, f.Output, f.Work)
	}
	return nil
}

// globRoot returns the folder below which a glob finds files at any depth, or "".
func globRoot(glob string) string {
	before, _, any := strings.Cut(glob, "**")
	if !any {
		return ""
	}
	if i := strings.IndexAny(before, "*?[{"); i >= 0 {
		before = before[:i]
	}
	return filepath.Dir(before + "x") // up to the last separator
}

// Within reports whether name is dir or lies below it, whatever links lead to either.
func Within(name, dir string) bool {
	name, err := resolve(name)
	if err != nil {
		return false
	}
	dir, err = resolve(dir)
	return err == nil && below(name, dir)
}

// below is Within for absolute paths, by their names.
func below(name, dir string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// Empty reports whether there is nothing in the output folder, or no such folder, and finds out whether the result could be
// put there, before hours of work.
func (f *Folders) Empty() (bool, error) {
	entries, err := os.ReadDir(f.Output)
	switch {
	case err == nil && len(entries) > 0:
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	if err := CheckWritable(filepath.Dir(f.Output)); err != nil {
		return false, err
	}
	return true, f.checkReplaceable()
}

// checkReplaceable finds out whether an empty output folder can make room for the result: a mount point cannot, nor a
// folder of somebody else in a folder with the sticky bit.
func (f *Folders) checkReplaceable() error {
	st, err := os.Stat(f.Output)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		if err = removeEmpty(f.Output); err == nil {
			err = os.Mkdir(f.Output, st.Mode().Perm())
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %s cannot be replaced by the result (%w); name a folder in it, or another one", ErrOutput, f.Output, err)
	}
	return nil
}

// Others returns names of staging folders that are not staging.
func (f *Folders) Others(staging string) (others []string) {
	all, err := filepath.Glob(f.Output + ".????????????????.partial")
	for _, o := range all {
		if err == nil && o != staging {
			others = append(others, o)
		}
	}
	return others
}

// CheckOtherWork refuses a work folder in which a run with other options was left. differs says, of what that run left as
// the meta of its folder, in which options.
func (f *Folders) CheckOtherWork(differs func(meta []byte) string) error {
	return f.each(func(dir string) error {
		if dir == f.Dir() {
			return nil
		}
		w, err := executor.OpenWork(dir, nil)
		if err != nil {
			return err
		}
		how := differs(w.Meta())
		if err := w.Close(); err != nil {
			return err
		}
		return fmt.Errorf("%w: %s was left by a run with other options (%s); finish that one, or start anew with --restart", ErrResume, dir, how)
	})
}

// Discard removes what runs left, those with other options too. The lock of a run that still goes on protects it.
func (f *Folders) Discard() error {
	err := f.each(func(dir string) error {
		w, err := executor.OpenWork(dir, nil)
		if errors.Is(err, executor.ErrLogDamaged) {
			return executor.RemoveAll(dir) // which staging folder was its cannot be told any more
		}
		if err != nil {
			return err
		}
		err = errors.Join(executor.RemoveAll(f.Staging(w)), executor.RemoveAll(dir))
		_ = w.Close() // its folder is gone, with the lock
		return err
	})
	if err != nil {
		return err
	}
	return removeEmpty(f.Work)
}

// Tidy removes what a run with these options left that was killed in its last moment, when its result was in place.
func (f *Folders) Tidy() error {
	if _, err := os.Stat(f.Dir()); err == nil {
		return f.Discard()
	}
	_ = removeEmpty(f.Work) // the one around it may be left; if it is not empty, it is for someone else
	return nil
}

// each calls do for each folder of a run in Work, and refuses anything else in it.
func (f *Folders) each(do func(dir string) error) error {
	entries, err := os.ReadDir(f.Work)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if n := e.Name(); len(n) != 16 || strings.Trim(n, "0123456789abcdef") != "" {
			return fmt.Errorf("%w: %s holds %s, which is not a run's; choose another --work", ErrResume, f.Work, n)
		}
		if err := do(filepath.Join(f.Work, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// RemoveWork removes the work folder of a run that is complete.
func (f *Folders) RemoveWork() error {
	return errors.Join(executor.RemoveAll(f.Dir()), removeEmpty(f.Work))
}

// removeEmpty removes a folder if it is there and empty, and nothing else: os.Remove would take a file as well.
func removeEmpty(dir string) error {
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// PutInPlace makes staging permanent and the output.
func (f *Folders) PutInPlace(staging string) error {
	if err := executor.RemoveTemporary(staging); err != nil {
		return err
	}
	if err := SyncTree(staging); err != nil {
		return err
	}
	// An empty folder of that name may exist, and only an empty one can be removed.
	if err := removeEmpty(f.Output); err != nil {
		return fmt.Errorf("%w: something else was put there while this run went on: %w", ErrOutput, err)
	}
	if err := os.Rename(staging, f.Output); err != nil {
		return fmt.Errorf("%w: %w", ErrOutput, err)
	}
	return SyncFolder(filepath.Dir(f.Output))
}

// WriteSynced writes a file and waits until it is on disk.
func WriteSynced(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// SyncFolder makes the names in a folder permanent.
func SyncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// InputFile identifies a file that was read.
type InputFile struct {
	Path    string    `json:"path"`
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mtime"`
	Footer  string    `json:"footer"`
	// Reference marks a file of the reference set.
	Reference bool `json:"reference,omitempty"`
}

// name tells files apart: those of the input and of the reference set may have one path.
func (f *InputFile) name() string {
	if f.Reference {
		return "--against " + f.Path
	}
	return f.Path
}

// DiffInputs says in a few words how two lists of input files differ; it is empty if they do not.
func DiffInputs(was, is []InputFile) string {
	byName := make(map[string]InputFile, len(was))
	for _, f := range was {
		byName[f.name()] = f
	}
	var changed, added, gone []string
	for _, f := range is {
		name := f.name()
		old, ok := byName[name]
		delete(byName, name)
		switch {
		case !ok:
			added = append(added, name)
		case old.Size != f.Size || old.Footer != f.Footer || !old.ModTime.Equal(f.ModTime):
			changed = append(changed, name)
		}
	}
	for _, f := range was {
		if _, ok := byName[f.name()]; ok {
			gone = append(gone, f.name())
		}
	}
	var out []string
	say := func(what string, files []string) {
		if len(files) == 0 {
			return
		}
		s := what + " " + files[0]
		if len(files) > 1 {
			s += fmt.Sprintf(" and %d more", len(files)-1)
		}
		out = append(out, s)
	}
	say("changed:", changed)
	say("added:", added)
	say("gone:", gone)
	return strings.Join(out, "; ")
}

// MakeBelow makes the folder rel below root, which must exist: a process that wakes up when its run is long over must not
// bring back a folder that was put in place or removed.
func MakeBelow(root, rel string) error {
	dir := filepath.Join(root, rel)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if rel = filepath.Clean(rel); rel == "." {
		_, err := os.Stat(root)
		return err
	}
	if parent := filepath.Dir(rel); parent != "." {
		if err := MakeBelow(root, parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
