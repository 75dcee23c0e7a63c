//go:build ucx && cgo

package main

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup"
)

// TestJobOverUCX: several processes that talk over UCX give the result of one, and the record says what they talked over.
func TestJobOverUCX(t *testing.T) {
	in, digest, _ := jobInput(t)
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, "0123456789abcdef0123456789abcdef\n")
	for _, c := range []struct {
		size            int
		transport, want string
		env             map[string]string
	}{
		{2, "ucx", "ucx", nil},
		{4, "ucx", "ucx", nil},
		{2, "ucx", "ucx", map[string]string{"UCX_TLS": "tcp"}},
		{2, "auto", "ucx", nil},
		{2, "tcp", "tcp", nil},
		{2, "auto", "tcp", map[string]string{"DOVETAIL_UCX_LIB": "/does/not/exist"}},
	} {
		t.Run(fmt.Sprint(c.size, c.transport, c.env), func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			out := filepath.Join(t.TempDir(), "out")
			for r, k := range startJob(t, c.size, "--input", in, "--output", out, "--transport", c.transport, "--secret-file", secret) {
				if err := k.wait(t, 3*time.Minute); err != nil {
					t.Errorf("rank %d: %v: %s", r, err, k.err.String())
				}
			}
			res, err := dedup.ReadResult(out)
			if err != nil {
				t.Fatal(err)
			}
			if res.Digest != digest || res.Stages.Transport != c.want {
				t.Errorf("digest %s over %s, want %s over %s", res.Digest, res.Stages.Transport, digest, c.want)
			}
		})
	}
}

// TestSuspendedUCX is [TestSuspended] over UCX, through shared memory and over TCP.
func TestSuspendedUCX(t *testing.T) {
	over := func(tls string) func(t *testing.T, args []string) []*rank {
		return func(t *testing.T, args []string) []*rank {
			t.Setenv("UCX_TLS", tls)
			return startJob(t, 3, append(args, "--transport", "ucx")...)
		}
	}
	suspend(t, map[string]func(t *testing.T, args []string) []*rank{"shared memory": over("self,sm"), "TCP": over("self,tcp")})
}
