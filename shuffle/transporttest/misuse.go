package transporttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Wrong calls are errors that can be told apart, and break nothing.
func testShuffleMisuse(t *testing.T, c *cluster) {
	is := func(r int, what string, err, want error) {
		c.Helper()
		if !errors.Is(err, want) {
			c.Errorf("rank %d: %s: error is %v, want %v", r, what, err, want)
		}
	}
	c.each(func(r int) {
		s := c.open(r, shuffle.Options{TotalParts: len(c.comms), MaxChunk: 1000})
		if s == nil {
			return
		}
		defer s.Close()
		task := uint64(10 * r)
		in := s.Begin(task, 0)
		is(r, "begin twice", s.Begin(task, 0).Commit(c.ctx), shuffle.ErrTaskState)
		b, err := s.Alloc(c.ctx, 1001)
		c.ok(r, err)
		is(r, "chunk too large", in.Insert(c.ctx, shuffle.Chunk{Data: b}), shuffle.ErrChunkTooLarge)
		for _, ch := range []shuffle.Chunk{
			{Partition: -1}, {Partition: len(c.comms)}, {Rows: -1}, {Meta: make([]byte, shuffle.MaxMeta+1)},
		} {
			if ch.Data, err = s.Alloc(c.ctx, 5); err != nil {
				c.Error(err)
			}
			if in.Insert(c.ctx, ch) == nil {
				c.Errorf("rank %d: bad chunk %+v was taken", r, ch)
			}
		}
		largest, err := s.Alloc(c.ctx, 1000)
		c.ok(r, err)
		c.ok(r, in.Insert(c.ctx, shuffle.Chunk{Partition: (r + 1) % len(c.comms), Data: largest, Meta: make([]byte, shuffle.MaxMeta)}))
		is(r, "finish with an open attempt", s.InsertFinished(c.ctx), shuffle.ErrTaskState)
		ended, cancel := context.WithCancel(c.ctx)
		cancel()
		is(r, "insert with an ended context", in.Insert(ended, shuffle.Chunk{Rows: 1}), context.Canceled)
		c.ok(r, in.Commit(c.ctx))
		is(r, "commit twice", in.Commit(c.ctx), shuffle.ErrTaskState)
		is(r, "insert after commit", in.Insert(c.ctx, shuffle.Chunk{Rows: 1}), shuffle.ErrTaskState)
		again := s.Begin(task, 1)
		is(r, "commit another attempt", again.Commit(c.ctx), shuffle.ErrTaskState)
		c.ok(r, again.Abort())
		if _, err := s.Open(r); err == nil && len(c.comms) > 1 {
			c.Errorf("rank %d: an incomplete partition was opened", r)
		}
		c.ok(r, s.InsertFinished(c.ctx))
		is(r, "finish twice", s.InsertFinished(c.ctx), shuffle.ErrFinished)
		is(r, "begin after finish", s.Begin(task+1, 0).Commit(c.ctx), shuffle.ErrFinished)
		b, err = s.Alloc(c.ctx, 5)
		c.ok(r, err)
		is(r, "insert after finish", s.Insert(c.ctx, shuffle.Chunk{Data: b}), shuffle.ErrFinished)
		c.ok(r, s.Wait(c.ctx))
		if len(c.comms) > 1 {
			_, err = s.Extract(c.ctx, (r+1)%len(c.comms))
			is(r, "extract from another rank", err, shuffle.ErrNotLocal)
		}
		_, err = s.Extract(c.ctx, len(c.comms))
		is(r, "extract what does not exist", err, shuffle.ErrNotLocal)
		chunks, err := s.Extract(c.ctx, r)
		c.ok(r, err)
		if len(chunks) != 1 || chunks[0].Data.Len() != 1000 {
			c.Errorf("rank %d: %d chunks", r, len(chunks))
		}
		shuffle.ReleaseAll(chunks)
		_, err = s.Extract(c.ctx, r)
		is(r, "extract twice", err, shuffle.ErrExtracted)
		_, err = s.Open(r)
		is(r, "open after extract", err, shuffle.ErrExtracted)
		s.Close()
		_, err = s.Extract(c.ctx, r)
		is(r, "extract after close", err, shuffle.ErrClosed)
		is(r, "wait after close", s.Wait(c.ctx), shuffle.ErrClosed)
		is(r, "insert after close", s.Insert(c.ctx, shuffle.Chunk{Rows: 1}), shuffle.ErrClosed)
	})
	if _, err := shuffle.New(shuffle.Options{Op: shuffle.MaxOps, SpillDir: "/does/not/exist", SpillMemoryLimit: -1}); err == nil {
		t.Error("bad options were taken")
	} else {
		for _, fault := range []string{"Comm", "Op", "TotalParts", "SpillDir", "SpillMemoryLimit"} {
			if !strings.Contains(err.Error(), fault) {
				t.Errorf("the error does not name %s: %v", fault, err)
			}
		}
	}
}

// Ranks that were started with different options are told so.
func testMismatch(t *testing.T, mk Make) {
	for name, change := range map[string]func(o *shuffle.Options){
		"TotalParts": func(o *shuffle.Options) { o.TotalParts = 5 },
		"Owner":      func(o *shuffle.Options) { o.Owner = shuffle.Contiguous },
		"MaxChunk":   func(o *shuffle.Options) { o.MaxChunk = 1 << 10 },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, mk, 2, 0)
			c.each(func(r int) {
				o := shuffle.Options{TotalParts: 4}
				if r == 1 {
					change(&o)
				}
				s := c.open(r, o)
				if s == nil {
					return
				}
				defer s.Close()
				_ = s.InsertFinished(c.ctx)
				err := s.Wait(c.ctx)
				if !errors.Is(err, shuffle.ErrAborted) || !strings.Contains(fmt.Sprint(err), name) {
					c.Errorf("rank %d: %v", r, err)
				}
			})
		})
	}
}
