package simulate

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// Mutant is a bug, made of changes that a simulation must notice.
type Mutant struct {
	// Name says what the bug is.
	Name  string
	Edits []Edit
	// Seed is one that finds it in the world as it is now, and is played first. When the world changes another may: the seeds from 1
	// on are played then, which takes longer.
	Seed uint64
}

// Edit changes a file, whose path is relative to the module: Old occurs once in it and becomes New.
type Edit struct{ File, Old, New string }

// Mutants are bugs that package executor and package shuffle do not have: each a check left out or an order swapped that
// only faults show.
var Mutants = []Mutant{
	{
		Name: "attempts of a partition have the same numbers in every round (no epoch check)",
		Edits: []Edit{{
			File: "executor/round.go",
			Old:  "number := uint32(max(0, s.number-1))*attemptsPerRound + g.Tasks[0].Number",
			New:  "number := g.Tasks[0].Number",
		}, {
			File: "executor/root_shuffle.go",
			Old:  " || m.At/attemptsPerRound != int64(own.number-1) {",
			New:  " {",
		}},
		Seed: 263,
	},
	{
		Name: "the chunks of an attempt that is not the committed one count",
		Edits: []Edit{{
			File: "shuffle/machine_receive.go",
			Old:  "	for part := range got {\n",
			New:  "	for part := range map[int]Totals(nil) {\n",
		}},
		Seed: 3,
	},
	{
		Name: "the inserts of an attempt are committed without asking the root",
		Edits: []Edit{{
			File: "executor/far_hand.go",
			Old:  "	if !h.claims {\n		return true\n	}",
			New:  "	if true {\n		return true\n	}",
		}},
		Seed: 1,
	},
	{
		Name: "the credit for a chunk that was dropped is forgotten",
		Edits: []Edit{{
			File: "shuffle/step.go",
			Old:  "			if a.arrived {\n				s.placed[a.peer] += a.item.cost()\n			}",
			New:  "",
		}},
		Seed: 23,
	},
	{
		Name: "the credit for a chunk that was kept is forgotten",
		Edits: []Edit{{
			File: "shuffle/machine_receive.go",
			Old:  "	m.peers[p].returned += cost\n	m.outstanding -= cost",
			New:  "	m.peers[p].returned += cost / 2\n	m.outstanding -= cost / 2",
		}},
		Seed: 25,
	},
	{
		Name: "a message that comes twice counts twice",
		Edits: []Edit{{
			File: "shuffle/machine.go",
			Old:  "	if !fresh || m.err != nil {",
			New:  "	if _ = fresh; m.err != nil {",
		}},
		Seed: 22,
	},
	{
		Name: "the folder of a committed file is not synced",
		Edits: []Edit{{
			File: "executor/commit.go",
			Old:  "		if err := c.run.e.fs.SyncDir(dir); err != nil {",
			New:  "		if err := error(nil); dir == \"\" {",
		}},
		Seed: 2,
	},
	{
		Name: "files are committed before they are synced",
		Edits: []Edit{{
			File: "executor/commit.go",
			Old:  "			p.err = p.a.m.syncAll()\n",
			New:  "			p.err = nil\n",
		}},
		Seed: 1,
	},
	{
		Name: "the actors of a lost rank keep their tasks",
		Edits: []Edit{{
			File: "executor/root_stage.go",
			Old:  "		f.sc.fail(why)\n	}\n	f.fire(l, why)",
			New:  "		f.sc.fail(why)\n	}",
		}},
		Seed: 35,
	},
	{
		Name: "a shuffle does not hear of lost ranks",
		Edits: []Edit{{
			File: "executor/root_shuffle.go",
			Old:  "	r.event(rounds.Event{Kind: rounds.EvLost, Rank: l.rank})\n",
			New:  "",
		}},
		Seed: 1,
	},
	{
		Name: "partitions that are committed are extracted again in the next round",
		Edits: []Edit{{
			File: "executor/root_shuffle.go",
			Old:  "			parts.done[p] = true\n			bits[p/8] |= 1 << (p % 8)",
			New:  "			_ = bits",
		}},
		Seed: 404,
	},
	{
		Name: "an attempt has the number of the one before it",
		Edits: []Edit{{
			File: "executor/internal/handout/handout.go",
			Old:  "	f.next = max(f.next, number+1)",
			New:  "	f.next = max(f.next, number)",
		}},
		Seed: 1,
	},
	{
		Name: "heartbeats are forgotten",
		Edits: []Edit{{
			File: "executor/internal/control/conn.go",
			Old:  "	if !k.closing && k.err == nil && len(k.queue) == 0 {",
			New:  "	if false {",
		}},
		Seed: 25,
	},
	{
		Name: "all inserts are said to be committed when they are claimed",
		Edits: []Edit{{
			File: "executor/round.go",
			Old:  "	if !s.committing.wait(s.sc.ctx) {\n		return\n	}",
			New:  "",
		}},
		Seed: 7,
	},
	{
		Name: "a rank takes the others to be silent while it does not run itself",
		Edits: []Edit{{
			File: "executor/internal/control/patience.go",
			Old:  "if p.left--; p.left == 0 {",
			New:  "if p.left -= 1 + int(time.Since(p.due)/p.quarter); p.left <= 0 {",
		}},
		Seed: 8,
	},
}

// Apply returns the overlay for [Build] that gives the module at root this bug.
func (m *Mutant) Apply(root string) (map[string][]byte, error) {
	overlay := make(map[string][]byte)
	for _, e := range m.Edits {
		src, ok := overlay[e.File]
		if !ok {
			var err error
			if src, err = os.ReadFile(filepath.Join(root, e.File)); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(src, []byte(e.Old)); n != 1 {
			return nil, fmt.Errorf("simulate: mutant %q: %s has the text that it changes %d times, not once: write the mutant anew for the "+
				"code as it is now", m.Name, e.File, n)
		}
		overlay[e.File] = bytes.Replace(src, []byte(e.Old), []byte(e.New), 1)
	}
	return overlay, nil
}
