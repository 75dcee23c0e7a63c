package mem

import "golang.org/x/sys/unix"

// adviseHuge asks for huge pages. A system without them says so, which changes nothing.
func adviseHuge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
