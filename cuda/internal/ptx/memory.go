package ptx

import (
	"encoding/binary"
	"fmt"
	"sort"
)

// Memory is the global memory of a device: arrays with gaps between them. It serves one launch at a time.
type Memory struct {
	arrays []*Array // by address
	next   uint64
	launch uint32 // number of the current launch
}

// Array is a piece of memory that was allocated.
type Array struct {
	// Name is for messages.
	Name string
	// Addr is the address on the device.
	Addr uint64
	// Size is in bytes.
	Size int64

	pages  map[int64]*page
	zeroed bool
	last   *page // the page that was used last, and its number
	lastAt int64
}

const (
	pageBytes = 4096
	firstAddr = 0x1000_0000_0000
	arrayGap  = 1 << 20
)

// page is a part of an array that was touched.
type page struct {
	data    [pageBytes]byte
	written [pageBytes / 64]uint64 // one bit for each byte
	// What was accessed by whom: one cell for each four bytes, or, once there was an access to less, for each byte.
	cells []cell
	bytes bool
}

// NewMemory returns memory without arrays.
func NewMemory() *Memory { return &Memory{next: firstAddr} }

// Alloc allocates an array, aligned to 256 bytes, that nothing was written to. It takes memory for the pages that are touched.
func (m *Memory) Alloc(name string, size int64) *Array {
	a := &Array{Name: name, Addr: m.next, Size: size, pages: map[int64]*page{}}
	m.arrays = append(m.arrays, a)
	m.next += (uint64(size) + 2*arrayGap) / arrayGap * arrayGap
	return a
}

// Zero makes an array that nobody has touched all zeros.
func (a *Array) Zero() { a.zeroed = true }

// Free ends the life of an array: whoever uses it faults.
func (m *Memory) Free(a *Array) {
	for i, x := range m.arrays {
		if x == a {
			m.arrays = append(m.arrays[:i], m.arrays[i+1:]...)
			return
		}
	}
}

// Find returns the array that an address is in or, if it is in none, nil.
func (m *Memory) Find(addr uint64) *Array {
	i := sort.Search(len(m.arrays), func(i int) bool { return m.arrays[i].Addr > addr }) - 1
	if i < 0 || addr-m.arrays[i].Addr >= uint64(m.arrays[i].Size) {
		return nil
	}
	return m.arrays[i]
}

// near names the array before an address, for messages.
func (m *Memory) near(addr uint64) string {
	i := sort.Search(len(m.arrays), func(i int) bool { return m.arrays[i].Addr > addr }) - 1
	if i < 0 {
		return "far from all arrays"
	}
	a := m.arrays[i]
	return fmt.Sprintf("%d bytes behind the beginning of %s, which has %d", addr-a.Addr, a.Name, a.Size)
}

func (a *Array) page(n int64) *page {
	if a.last != nil && a.lastAt == n {
		return a.last
	}
	p := a.pages[n]
	if p == nil {
		p = &page{}
		if a.zeroed {
			for i := range p.written {
				p.written[i] = ^uint64(0)
			}
		}
		a.pages[n] = p
	}
	a.last, a.lastAt = p, n
	return p
}

// Write writes bytes, from the host.
func (a *Array) Write(at int64, data []byte) error {
	if at < 0 || at+int64(len(data)) > a.Size {
		return fmt.Errorf("ptx: write of bytes %d to %d of %s, which has %d", at, at+int64(len(data)), a.Name, a.Size)
	}
	for len(data) > 0 {
		p, from := a.page(at/pageBytes), at%pageBytes
		n := copy(p.data[from:], data)
		p.mark(from, n)
		data, at = data[n:], at+int64(n)
	}
	return nil
}

// Read reads bytes, to the host. It fails if some were never written.
func (a *Array) Read(at int64, data []byte) error {
	if at < 0 || at+int64(len(data)) > a.Size {
		return fmt.Errorf("ptx: read of bytes %d to %d of %s, which has %d", at, at+int64(len(data)), a.Name, a.Size)
	}
	for len(data) > 0 {
		p, from := a.page(at/pageBytes), at%pageBytes
		n := copy(data, p.data[from:])
		if i := p.unwritten(from, n); i >= 0 {
			return fmt.Errorf("ptx: byte %d of %s was never written", at+i-from, a.Name)
		}
		data, at = data[n:], at+int64(n)
	}
	return nil
}

// mark notes that bytes were written.
func (p *page) mark(from int64, n int) {
	for i := from; i < from+int64(n); i++ {
		p.written[i/64] |= 1 << (i % 64)
	}
}

// unwritten returns the first of n bytes that was not written, or -1.
func (p *page) unwritten(from int64, n int) int64 {
	for i := from; i < from+int64(n); i++ {
		if p.written[i/64]&(1<<(i%64)) == 0 {
			return i
		}
	}
	return -1
}

// get and put move a value of 1, 2, 4 or 8 bytes that does not cross a page: pages are aligned and so is the value.
func (p *page) get(at int64, size uint8) uint64 {
	b := p.data[at:]
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

func (p *page) put(at int64, size uint8, v uint64) {
	b := p.data[at:]
	switch size {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(b, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(b, uint32(v))
	default:
		binary.LittleEndian.PutUint64(b, v)
	}
	p.written[at/64] |= (1<<size - 1) << (at % 64)
}

func (p *page) has(at int64, size uint8) bool {
	want := uint64(1<<size-1) << (at % 64)
	return p.written[at/64]&want == want
}
