package dedup

import (
	"bytes"
	"context"
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// The other half of the verify stage: a partition replays the removals of the sample and looks for kept texts that
// are identical.

// keptText is a kept document of the sample.
type keptText struct {
	name    string
	text    []byte
	windows []uint64 // their hashes, once they were needed
}

func (a *verifyActor) Extract(ctx context.Context, part *shuffle.Partition, _ *executor.Attempt) ([]executor.Task, error) {
	var sum verifySum
	all := []flow.Layout{verifySums, verifyHash, verifyTexts}
	hashes := make(map[lsh.Hash128]uint64)
	texts := make(map[lsh.Hash128]*keptText)
	err := flow.EachRecordOf(ctx, part, all, func(which int, w []uint64, blob []byte) error {
		switch which {
		case 0:
			s, err := decodeSum(blob)
			sum.add(&s)
			return err
		case 1:
			h := lsh.Hash128{Hi: w[0], Lo: w[1]}
			if other, ok := hashes[h]; ok && !(a.set.IsReference(other) && a.set.IsReference(w[2])) {
				sum.problem(fmt.Sprintf("%s and %s have the same text and are both kept", a.at(other), a.at(w[2])))
				return nil
			}
			hashes[h] = w[2]
		default:
			if t, err := textRecordOf(w, blob); err != nil {
				return err
			} else if t.evidence == 0 {
				texts[t.group] = &keptText{name: t.name, text: bytes.Clone(t.text)}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	hashes = nil
	err = flow.EachRecordOf(ctx, part, all, func(which int, w []uint64, blob []byte) error {
		if which != 2 {
			return nil
		}
		t, err := textRecordOf(w, blob)
		if err != nil || t.evidence == 0 {
			return err
		}
		if texts[t.group] == nil {
			if len(sum.Missing) < maxProblems {
				sum.Missing = append(sum.Missing, t.name+" was removed for a document that was not kept")
			}
			return nil
		}
		sum.Replayed++
		if why := a.replay(&t, texts[t.group]); why != "" {
			sum.Wrong++
			sum.problem(t.name + why)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []executor.Task{flow.PartTask(part.Index(), &sum)}, nil
}

// at names a document by its ordinal.
func (a *verifyActor) at(ord uint64) string { return whereIn(a.set, ord) }

// replay computes a removal again and says what is wrong with it, or "".
func (a *verifyActor) replay(t *textRecord, kept *keptText) string {
	if t.evidence == evidenceExact {
		if !bytes.Equal(t.text, kept.text) {
			return " was removed as identical with " + kept.name + " and is not"
		}
		return ""
	}
	if kept.windows == nil {
		a.windows.Set(kept.text)
		kept.windows = a.windows.Hashes(nil)
	}
	a.windows.Set(t.text)
	if o := a.windows.Overlap(kept.windows); o.Intersection != t.inter || o.Union != t.union {
		return fmt.Sprintf(" was removed for %s at a similarity of %d/%d; computed again it is %d/%d", kept.name, t.inter, t.union, o.Intersection, o.Union)
	}
	return ""
}
