package shuffle_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

func TestSmoke(t *testing.T) {
	for _, cp := range []bool{false, true} {
		for _, size := range []int{1, 2, 3, 8} {
			t.Run(fmt.Sprint(cp, size), func(t *testing.T) {
				alloc := mem.NewChecked(t, mem.Host())
				ts := inproc.New(size, inproc.Options{Alloc: alloc, Copy: cp})
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				var wg sync.WaitGroup
				for r := range size {
					wg.Add(1)
					go func() {
						defer wg.Done()
						c, err := shuffle.NewCommunicator(ts[r])
						if err != nil {
							t.Error(err)
							return
						}
						defer c.Close()
						s, err := shuffle.New(shuffle.Options{Comm: c, TotalParts: 10})
						if err != nil {
							t.Error(err)
							return
						}
						defer s.Close()
						in := s.Begin(uint64(r), 0)
						for p := range 10 {
							b, err := s.Alloc(ctx, 1000)
							if err != nil {
								t.Error(err)
								return
							}
							for i := range b.Bytes() {
								b.Bytes()[i] = byte(p)
							}
							if err := in.Insert(ctx, shuffle.Chunk{Partition: p, Rows: 1, Meta: []byte("x"), Data: b}); err != nil {
								t.Error(err)
								return
							}
						}
						if err := in.Commit(ctx); err != nil {
							t.Error(err)
						}
						if err := s.InsertFinished(ctx); err != nil {
							t.Error(err)
						}
						if err := s.Wait(ctx); err != nil {
							t.Error(err)
						}
						for _, p := range s.LocalPartitions() {
							cs, err := s.Extract(ctx, p)
							if err != nil || len(cs) != size {
								t.Error(p, len(cs), err)
							}
							for i, c := range cs {
								if int(c.Task) != i || c.Data.Bytes()[999] != byte(p) || string(c.Meta) != "x" {
									t.Error("bad", c)
								}
							}
							shuffle.ReleaseAll(cs)
						}
						fmt.Printf("%+v\n", s.Statistics())
					}()
				}
				wg.Wait()
			})
		}
	}
}
