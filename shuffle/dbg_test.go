package shuffle

import "fmt"

func (w *world) dump() {
	for r, rank := range w.ranks {
		m := rank.m
		fmt.Printf("rank %d done %v outstanding %d pool %d share %d wants %v\n", r, rank.done, m.outstanding, receivePool(m.cfg.window, m.cfg.maxChunk), m.share, m.wants)
		for p := range m.peers {
			pe := &m.peers[p]
			fmt.Printf("   peer %d: queue %d (%d) spent %d credit %d asked %d share %d underway %d pending %d | arrived %d given %d returned %d wish %d known %v\n", p, pe.queue.len(), pe.queue.cost, pe.spent, pe.credit, pe.asked, pe.share, pe.underWay, pe.pending, pe.arrived, pe.given, pe.returned, pe.wish, pe.known)
		}
	}
}
