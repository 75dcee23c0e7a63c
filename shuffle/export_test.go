package shuffle

import "os"

// What tests of other packages may do to a shuffler.

// FillDisk makes every later write to a spill file fail as on a full disk.
func (s *Shuffler) FillDisk() error {
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	d := s.store
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = &spillFile{f: f, name: "", chunks: 1}
	d.files[d.last] = struct{}{}
	return nil
}

// DamageSpill flips a bit in the middle of every spill file and returns the number of files.
func (s *Shuffler) DamageSpill() (int, error) {
	d := s.store
	d.mu.Lock()
	defer d.mu.Unlock()
	for file := range d.files {
		var b [1]byte
		if _, err := file.f.ReadAt(b[:], file.size/2); err != nil {
			return 0, err
		}
		if _, err := file.f.WriteAt([]byte{b[0] ^ 1}, file.size/2); err != nil {
			return 0, err
		}
	}
	return len(d.files), nil
}

// OnDisk returns how many chunks of each local partition are on disk.
func (s *Shuffler) OnDisk() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make([]int, len(s.m.parts))
	for i := range s.m.parts {
		for _, it := range s.m.parts[i].items {
			if it.place == onDisk {
				counts[i]++
			}
		}
		for _, r := range s.parts[i].runs {
			counts[i] += int(r.chunks)
		}
	}
	return counts
}

// Held returns how many bytes of data the shuffler believes to have in memory.
func (s *Shuffler) Held() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}
