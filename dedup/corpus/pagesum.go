package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/apache/thrift/lib/go/thrift"
)

// pageSums compares the pages of a column chunk with their checksums, where the file has them; the Parquet
// library reads past them. It lies between the file and the library, which reads a chunk from its start to its end,
// and follows the headers of the pages in what goes by. A header that it cannot read it leaves to the library.
type pageSums struct {
	src    io.ReaderAt
	at     int64 // the next byte of the chunk to be seen
	end    int64 // behind the chunk
	page   int   // pages begun
	head   []byte
	left   int64 // bytes of the page to come
	summed bool  // the page has a checksum
	any    bool  // some page had
	want   uint32
	have   uint32
	lost   bool  // not followed any more
	err    error // a checksum that does not match
}

// maxPageHeader is more than the library accepts.
const maxPageHeader = 16 << 20

var errChecksum = errors.New("the checksum does not match: its bytes are not those that were written")

// ReadAt reads from the file.
func (p *pageSums) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.src.ReadAt(b, off)
	switch {
	case p.err != nil:
		return 0, p.err
	case p.lost || n == 0 || off+int64(n) <= p.at: // read before
	case off > p.at:
		p.lost = true
	default:
		if p.follow(b[p.at-off : n]); p.err != nil {
			return 0, p.err
		}
	}
	return n, err
}

// follow takes the bytes that follow those seen.
func (p *pageSums) follow(b []byte) {
	b = b[:min(int64(len(b)), p.end-p.at)]
	p.at += int64(len(b))
	for len(b) > 0 && !p.lost && p.err == nil {
		if p.left == 0 {
			b = p.header(b)
			continue
		}
		n := min(int64(len(b)), p.left)
		if p.summed {
			p.have = crc32.Update(p.have, crc32.IEEETable, b[:n])
		}
		b, p.left = b[n:], p.left-n
		p.check()
	}
}

func (p *pageSums) check() {
	if p.left == 0 && p.summed && p.have != p.want {
		p.err = fmt.Errorf("page %d: %w", p.page-1, errChecksum)
	}
}

// header takes bytes of a page's header and returns those behind it.
func (p *pageSums) header(b []byte) []byte {
	had := len(p.head)
	all := b
	if had > 0 {
		p.head = append(p.head, b...)
		all = p.head
	}
	size, sum, n, ok := pageHeader(all)
	if !ok {
		if had == 0 {
			p.head = append(p.head, b...)
		}
		p.lost = len(p.head) > maxPageHeader
		return nil
	}
	p.head = p.head[:0]
	p.page++
	p.left, p.summed, p.want, p.have = int64(size), sum != nil, 0, 0
	if sum != nil {
		p.want, p.any = uint32(*sum), true
	}
	p.check()
	return b[n-had:]
}

// finish looks at what the library had no need to read.
func (p *pageSums) finish() error {
	if p.any {
		return p.rest()
	}
	return p.err
}

// rest reads to the end of the chunk.
func (p *pageSums) rest() error {
	if !p.lost && p.err == nil && p.at < p.end {
		buf := make([]byte, 64<<10)
		for p.at < p.end && p.err == nil && !p.lost {
			n := min(int64(len(buf)), p.end-p.at)
			if n, err := p.ReadAt(buf[:n], p.at); err != nil && (n == 0 || err != io.EOF) {
				return err
			}
		}
	}
	return p.err
}

// pageHeader reads the header of a page that b begins with: the size of the page as it is stored, its checksum, nil
// if it has none, and the length of the header. ok is false if b holds no whole header.
func pageHeader(b []byte) (size int32, sum *int32, n int, ok bool) {
	ctx := context.Background()
	buf := &thrift.TMemoryBuffer{Buffer: bytes.NewBuffer(b)}
	in := thrift.NewTCompactProtocolConf(buf, &thrift.TConfiguration{MaxMessageSize: maxPageHeader})
	if _, err := in.ReadStructBegin(ctx); err != nil {
		return 0, nil, 0, false
	}
	const compressedSize, checksum = 3, 4
	size = -1
	for {
		_, typ, id, err := in.ReadFieldBegin(ctx)
		if err != nil {
			return 0, nil, 0, false
		}
		if typ == thrift.STOP {
			break
		}
		if typ == thrift.I32 && (id == compressedSize || id == checksum) {
			v, err := in.ReadI32(ctx)
			if err != nil {
				return 0, nil, 0, false
			}
			if id == checksum {
				sum = &v
			} else {
				size = v
			}
		} else if err := in.Skip(ctx, typ); err != nil {
			return 0, nil, 0, false
		}
	}
	return size, sum, len(b) - buf.Len(), size >= 0
}
