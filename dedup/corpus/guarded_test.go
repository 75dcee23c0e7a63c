package corpus

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// A panic of a library is an error; one of our own is not blamed on a file.
func TestGuarded(t *testing.T) {
	err := guarded(func() error {
		_ = slices.Grow([]int(nil), -1) // panics in package slices
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "cannot be decoded") {
		t.Error(err)
	}
	err = guarded(func() error {
		(*bytes.Buffer)(nil).WriteByte(1) // a nil pointer in package bytes
		return nil
	})
	if err == nil {
		t.Error("no error")
	}
	for name, f := range map[string]func() error{
		"index":  func() error { var s []int; _ = s[len(name(t))]; return nil },
		"nil":    func() error { var b *Batch; b.Ord = nil; return nil },
		"thrown": func() error { panic("own") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic was swallowed", name)
				}
			}()
			_ = guarded(f)
		}()
	}
}

func name(t *testing.T) string { return t.Name() }
