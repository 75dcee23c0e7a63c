package tcp

import (
	"bufio"
	"errors"
	"io"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
)

// readBytes is the size of a link's read buffer. What is longer than it is read past it, into the caller's
// memory.
const readBytes = 32 << 10

// listen is the reader's goroutine. It never waits for the caller: what it would not have memory for, the peer may
// not send. It returns why the link ended.
func (p *peer) listen() error {
	r := bufio.NewReaderSize(p.conn, readBytes)
	for {
		head, err := r.Peek(frameSize)
		if err != nil {
			return ended(err)
		}
		f, err := decodeFrame(head)
		if err != nil {
			return err
		}
		_, _ = r.Discard(frameSize) // they were peeked
		switch f.kind {
		case kindMessage:
			err = p.readMessage(r, f)
		case kindPayload:
			err = p.readPayload(r, f)
		default:
			err = p.note(f)
		}
		if err != nil {
			return err
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errEOF
	}
	return err
}

// readMessage reads the header of a message.
func (p *peer) readMessage(r *bufio.Reader, f frame) error {
	h := p.t.hub
	h.Lock()
	header, err := p.Arrive(f.number, int(f.length), 0)
	h.Unlock()
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(r, header); err != nil {
		return ended(err)
	}
	h.Lock()
	*p.read(f.number) = walk{left: int64(f.size)}
	news := p.Enter(f.number, header, len(header), int64(f.size))
	h.Unlock()
	if news {
		h.Signal()
	}
	return nil
}

// readPayload reads bytes of payload into the buffers that the caller gave.
func (p *peer) readPayload(r *bufio.Reader, f frame) error {
	h := p.t.hub
	var err error
	h.Lock()
	m, w := p.In(f.number), p.read(f.number)
	switch {
	case f.number <= p.Delivered || f.number > p.Received || m.Answer != link.Accepted || w.left == 0:
		err = protocol("it sends payload of message %d unasked", f.number)
	case int64(f.size) != m.Size-w.left || int64(f.length) > w.left:
		err = protocol("it sends bytes %d to %d of message %d, which has %d, after byte %d",
			f.size, f.size+uint64(f.length), f.number, m.Size, m.Size-w.left)
	}
	h.Unlock()
	if err != nil {
		return err
	}
	for left := int(f.length); left > 0; {
		piece := w.next(m.Payload, left)
		if _, err := io.ReadFull(r, piece); err != nil {
			return ended(err)
		}
		left -= len(piece)
	}
	h.Lock()
	w.left -= int64(f.length)
	news := w.left == 0 && p.Complete(f.number)
	h.Unlock()
	if news {
		h.Signal()
	}
	return nil
}

// note deals with a frame that carries nothing.
func (p *peer) note(f frame) (err error) {
	h := p.t.hub
	var drop []*mem.Buffer
	defer func() { link.ReleaseAll(drop) }()
	h.Lock()
	defer h.Unlock()
	switch f.kind {
	case kindAccept:
		_, err = p.Answered(f.number, link.Accepted, nil)
	case kindRefuse:
		drop, err = p.Answered(f.number, link.Refused, nil)
	case kindTaken:
		if err = p.Taken(f.number); err == nil && p.settle() {
			h.Signal()
		}
	case kindLeave:
		p.Leave()
	case kindBye:
		if !h.Closed() && (f.number != p.Received || !p.Whole()) {
			return protocol("it says goodbye after message %d; %d have arrived, %d of them whole",
				f.number, p.Received, p.Delivered)
		}
		return errBye
	}
	return err
}
