package shuffle

import "fmt"

func (c *Communicator) Dump() {
	c.mu.Lock()
	fmt.Printf("comm %d: ready %d slots %d free %d\n", c.rank, len(c.ready), len(c.slots), len(c.free))
	for p := range c.boxes {
		fmt.Printf("   box %d: control %d data %d under %d\n", p, len(c.boxes[p].control), len(c.boxes[p].data), c.boxes[p].underWay)
	}
	ops := c.active()
	c.mu.Unlock()
	for _, s := range ops {
		s.mu.Lock()
		m := s.m
		fmt.Printf("  op %v rank %d done %v held %d queued %d outstanding %d pool %d wants %v load %+v spiller %+v owed %v placed %v\n", s.key, c.rank, s.isDone, s.held, m.queued, m.outstanding, receivePool(m.cfg.window, m.cfg.maxChunk), m.wants, s.load, s.spiller, s.owed, s.placed)
		if s.opts.Budget != nil {
			fmt.Printf("    budget %+v\n", s.opts.Budget.Stats())
		}
		if s.pool != nil {
			fmt.Printf("    pool room %d live %d\n", s.pool.room, len(s.pool.live))
		}
		for p := range m.peers {
			pe := &m.peers[p]
			fmt.Printf("   peer %d: greeted %v queue %d (%d) spent %d credit %d asked %d share %d underway %d pending %d | arrived %d given %d returned %d wish %d known %v\n", p, pe.greeted, pe.queue.len(), pe.queue.cost, pe.spent, pe.credit, pe.asked, pe.share, pe.underWay, pe.pending, pe.arrived, pe.given, pe.returned, pe.wish, pe.known)
			if pe.queue.len() > 0 {
				fmt.Printf("      head place %d loading %v size %d\n", pe.queue.at(0).place, pe.queue.at(0).loading, pe.queue.at(0).size)
			}
		}
		s.mu.Unlock()
	}
}
