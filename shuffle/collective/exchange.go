package collective

import (
	"context"
	"fmt"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Barrier returns when all ranks have called it.
func (g *Group) Barrier(ctx context.Context) error {
	r, err := g.move(ctx, &descriptor{kind: barrier}, func(out *sender) error { return out.bytes(0, g.size, nil) })
	r.Release()
	return err
}

// AllGather gives every rank what each rank has: any number of bytes, which AllGather copies. The caller releases the
// result.
func (g *Group) AllGather(ctx context.Context, data []byte) (*Received, error) {
	return g.move(ctx, &descriptor{kind: allGather}, func(out *sender) error { return out.bytes(0, g.size, data) })
}

// AllToAll sends parts[i] to rank i, and returns what all ranks sent to this one, which the caller releases. There is
// one part for every rank, this one included; each may be empty. The bytes are copied.
func (g *Group) AllToAll(ctx context.Context, parts [][]byte) (*Received, error) {
	return g.move(ctx, &descriptor{kind: allToAll}, func(out *sender) error {
		if len(parts) != g.size {
			return fmt.Errorf("%d parts for %d ranks; give one for each, empty ones too", len(parts), g.size)
		}
		for to, data := range parts {
			if err := out.bytes(to, to+1, data); err != nil {
				return err
			}
		}
		return nil
	})
}

// Broadcast gives every rank what root has. The data of the others is not looked at. In the result, which the caller
// releases, only root's part is not empty.
func (g *Group) Broadcast(ctx context.Context, root int, data []byte) (*Received, error) {
	return g.move(ctx, &descriptor{kind: broadcast, root: root}, func(out *sender) error {
		if err := g.checkRoot(root); err != nil {
			return err
		}
		if g.rank != root {
			data = nil
		}
		return out.bytes(0, g.size, data)
	})
}

// Gather gives root what each rank has. The caller releases the result, which is empty on the others.
func (g *Group) Gather(ctx context.Context, root int, data []byte) (*Received, error) {
	return g.move(ctx, &descriptor{kind: gather, root: root}, func(out *sender) error {
		if err := g.checkRoot(root); err != nil {
			return err
		}
		if err := out.bytes(0, root, nil); err != nil {
			return err
		}
		if err := out.bytes(root, root+1, data); err != nil {
			return err
		}
		return out.bytes(root+1, g.size, nil)
	})
}

func (g *Group) checkRoot(root int) error {
	if root < 0 || root >= g.size {
		return fmt.Errorf("root %d is not one of %d ranks", root, g.size)
	}
	return nil
}

// move is a call that brings bytes.
func (g *Group) move(ctx context.Context, d *descriptor, send func(*sender) error) (r *Received, err error) {
	err = g.exchange(ctx, d, send, func(ctx context.Context, s *shuffle.Shuffler, agree *agreement) error {
		r, err = g.receive(ctx, s, agree)
		return err
	})
	if err != nil {
		r.Release()
		return nil, err
	}
	return r, nil
}
