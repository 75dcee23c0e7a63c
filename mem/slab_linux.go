package mem

import "golang.org/x/sys/unix"

// mapSlabs reserves room for some slabs, which take no memory before they are touched.
func mapSlabs() (all [][]byte) {
	const n = 32
	m, err := unix.Mmap(-1, 0, (n+1)*slabBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	adviseHuge(m)
	m = m[-addressOf(m)&(slabBytes-1):]
	for i := range n {
		all = append(all, m[i*slabBytes:(i+1)*slabBytes:(i+1)*slabBytes])
	}
	return all
}

// returnSlab gives the memory of a slab back to the system; its addresses stay.
func returnSlab(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTNEED) }
