package executor

import "sync"

// addCounter adds c to the counter of its name, or appends it. There are few, so looking at each is quick.
func addCounter(cs []counter, c counter) []counter {
	for i := range cs {
		if cs[i].name == c.name {
			cs[i].n += c.n
			return cs
		}
	}
	return append(cs, c)
}

// counters is a sum that many add to.
type counters struct {
	mu   sync.Mutex
	list []counter
}

func (s *counters) add(cs []counter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range cs {
		s.list = addCounter(s.list, c)
	}
}
