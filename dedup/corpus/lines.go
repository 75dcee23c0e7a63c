package corpus

import (
	"bytes"
	"errors"
	"io"

	"github.com/dovetail-dedup/dovetail/mem"
)

// lineReader cuts a stream into lines. Its buffer grows to the longest line that next returned.
type lineReader struct {
	r          io.Reader
	alloc      mem.Allocator
	limit      int64 // of memory for the buffer, including the one it replaces while growing; 0 = none
	buf        *mem.Buffer
	start, end int // the bytes read and not yet returned
	eof        bool
	peak       int64 // the most bytes held
}

const lineBuffer = 256 << 10

var errLongLine = errors.New("line longer than the limit")

// next returns the next line with the \n it ends with, if it does; the bytes are good until the next call.
// At the end of the stream it returns io.EOF. A line that would exceed the limit gives errLongLine.
func (l *lineReader) next() ([]byte, error) {
	seen := l.start
	for {
		var b []byte
		if l.buf != nil {
			b = l.buf.Bytes()
		}
		if i := bytes.IndexByte(b[seen:l.end], '\n'); i >= 0 {
			line := b[l.start : seen+i+1]
			l.start = seen + i + 1
			return line, nil
		}
		if l.eof {
			if l.start == l.end {
				return nil, io.EOF
			}
			line := b[l.start:l.end]
			l.start = l.end
			return line, nil
		}
		n := l.end - l.start
		if err := l.more(); err != nil {
			return nil, err
		}
		seen = l.start + n
	}
}

// skip passes over the next line without holding it.
func (l *lineReader) skip() error {
	some := false
	for {
		if l.start < l.end {
			some = true
			b := l.buf.Bytes()[l.start:l.end]
			if i := bytes.IndexByte(b, '\n'); i >= 0 {
				l.start += i + 1
				return nil
			}
			l.start = l.end
		}
		if l.eof {
			if some {
				return nil
			}
			return io.EOF
		}
		if err := l.more(); err != nil {
			return err
		}
	}
}

// more reads more bytes behind those that were not returned.
func (l *lineReader) more() error {
	switch {
	case l.buf == nil:
		if err := l.resize(lineBuffer); err != nil {
			return err
		}
	case l.start > 0:
		copy(l.buf.Bytes(), l.buf.Bytes()[l.start:l.end])
		l.start, l.end = 0, l.end-l.start
	case l.end == l.buf.Len():
		if err := l.resize(2 * l.buf.Len()); err != nil {
			return err
		}
	}
	n, err := l.r.Read(l.buf.Bytes()[l.end:])
	l.end += n
	if err == io.EOF {
		l.eof = true
		return nil
	}
	return err
}

func (l *lineReader) resize(n int) error {
	have := 0
	if l.buf != nil {
		have = l.buf.Len()
	}
	if l.limit > 0 && int64(have+n) > l.limit && n > lineBuffer {
		return errLongLine
	}
	next, err := l.alloc.Alloc(n)
	if err != nil {
		return err
	}
	if l.buf != nil {
		copy(next.Bytes(), l.buf.Bytes()[:l.end])
		l.buf.Release()
	}
	l.buf = next
	l.peak = max(l.peak, int64(have+n))
	return nil
}

// rest returns the length of the line that next could not hold, reading to its end.
func (l *lineReader) rest() (int64, error) {
	n := int64(0)
	for {
		b := l.buf.Bytes()[l.start:l.end]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			l.start += i + 1
			return n + int64(i) + 1, nil
		}
		n += int64(len(b))
		l.start = l.end
		if l.eof {
			return n, nil
		}
		if err := l.more(); err != nil {
			return 0, err
		}
	}
}

func (l *lineReader) close() {
	l.buf.Release()
	l.buf, l.start, l.end, l.eof = nil, 0, 0, true
}
