package data

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// GoTree returns the sources and tests of the Go distribution, the text that is on any machine that builds this, up to a
// number of bytes, as documents in an order in which similar ones are apart.
func GoTree(ctx context.Context, limit int64) ([]Doc, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	root := strings.TrimSpace(string(out))
	var docs []Doc
	err = filepath.WalkDir(filepath.Join(root, "src"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Size() == 0 || info.Size() > maxSource {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil || !utf8.Valid(content) {
			return err
		}
		rel, err := filepath.Rel(root, path)
		docs = append(docs, Doc{filepath.ToSlash(rel), string(content)})
		return err
	})
	if err != nil {
		return nil, err
	}
	docs = shuffled(docs)
	n := int64(0)
	for i, d := range docs {
		if n += int64(len(d.Text)); n > limit {
			return docs[:i], nil
		}
	}
	return docs, nil
}
