package shuffle

// seqSet remembers which numbers from 1 on were seen: all up to a base, and a few beyond it.
type seqSet struct {
	base  uint64
	ahead map[uint64]struct{}
}

// maxAhead bounds the numbers kept beyond a gap. A transport reorders by less than it has in flight.
const maxAhead = 1 << 16

// add records n and reports whether it is new. ok is false if the gap before n can be no reordering.
func (s *seqSet) add(n uint64) (fresh, ok bool) {
	if n <= s.base {
		return false, true
	}
	if n != s.base+1 {
		if _, seen := s.ahead[n]; seen {
			return false, true
		}
		if len(s.ahead) >= maxAhead {
			return false, false
		}
		if s.ahead == nil {
			s.ahead = make(map[uint64]struct{})
		}
		s.ahead[n] = struct{}{}
		return true, true
	}
	s.base++
	for len(s.ahead) > 0 {
		if _, seen := s.ahead[s.base+1]; !seen {
			break
		}
		s.base++
		delete(s.ahead, s.base)
	}
	return true, true
}
