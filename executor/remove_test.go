package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestRemoveAllWhileOthersWrite: files that others make meanwhile are no failure, if they end.
func TestRemoveAllWhileOthersWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spill")
	for i := range 4 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprint("rank-", i)), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	stop := time.Now().Add(200 * time.Millisecond)
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			own := filepath.Join(dir, fmt.Sprint("rank-", i))
			for n := 0; time.Now().Before(stop); n++ {
				_ = os.MkdirAll(own, 0o777) // what is removed is made again
				_ = os.WriteFile(filepath.Join(own, fmt.Sprint(n)), nil, 0o666)
			}
		})
	}
	var err error
	for err == nil && time.Now().Before(stop) {
		err = RemoveAll(dir)
	}
	writers.Wait()
	if err == nil {
		err = RemoveAll(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}
