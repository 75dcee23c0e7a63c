package tcp

import "github.com/dovetail-dedup/dovetail/mem"

// places walks through the bytes of a list of buffers.
type places struct {
	piece int // index of the buffer
	at    int // bytes of it that are done
}

// next returns the following bytes, at most n, and steps over them. It returns none at the end.
func (p *places) next(bufs []*mem.Buffer, n int) []byte {
	for p.piece < len(bufs) {
		b := bufs[p.piece].Bytes()[p.at:]
		if len(b) > 0 {
			b = b[:min(n, len(b))]
			p.at += len(b)
			return b
		}
		p.piece, p.at = p.piece+1, 0
	}
	return nil
}
