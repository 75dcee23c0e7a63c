// Package control is how the ranks of a job talk about work: which tasks there are, who does them, what was finished, who is
// still there. Bulk data never goes this way. A [Conn] carries [Message] values over any net.Conn, tells each end that the
// other is alive, and ends when the other is silent for too long.
//
// # Format, version 1
//
// Everything is little-endian. A frame is a message, or a heartbeat if its length is 0:
//
//	+----------+----------+------------------------+
//	| length 4 | CRC32C 4 | message, length bytes  |
//	+----------+----------+------------------------+
//
// The CRC is of the message. In a message, numbers are varints, strings and lists have their length in front, and every
// field of [Message] is there, in order; one that is not used takes a byte.
package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Version is the version of the format and of what messages mean. Ranks of different versions refuse each other.
const Version = 3

// MaxMessage is the largest encoded message, in bytes.
const MaxMessage = 96 << 20

// Message is one message. What a field means depends on Kind, which this package does not look at.
type Message struct {
	Kind  uint8
	Flags uint8
	// Call numbers a request, and its reply repeats it. 0 is no request.
	Call  uint64
	Epoch uint32
	Stage string
	// Grant and At name an attempt, Actor an actor, Rank a rank.
	Grant uint64
	At    int64
	Actor int64
	Rank  int64
	N     int64
	Text  string
	Names []string
	Data  []byte
	Tasks []Task
	Files []File
	Sums  []Sum
}

// Task is a task, or a result of one.
type Task struct {
	ID     string
	Data   []byte
	Size   int64
	Seq    int64
	Number uint32
}

// File is a finished file of an attempt.
type File struct {
	Name, Temp, Path string
	Placed           bool
	Size             int64
	CRC              uint32
}

// Sum is a counter.
type Sum struct {
	Name string
	N    int64
}

// Append encodes m.
func (m *Message) Append(b []byte) []byte {
	b = append(b, m.Kind, m.Flags)
	b = binary.AppendUvarint(b, m.Call)
	b = binary.AppendUvarint(b, uint64(m.Epoch))
	b = appendString(b, m.Stage)
	b = binary.AppendUvarint(b, m.Grant)
	for _, n := range []int64{m.At, m.Actor, m.Rank, m.N} {
		b = binary.AppendVarint(b, n)
	}
	b = appendString(b, m.Text)
	b = binary.AppendUvarint(b, uint64(len(m.Names)))
	for _, s := range m.Names {
		b = appendString(b, s)
	}
	b = appendString(b, m.Data)
	b = binary.AppendUvarint(b, uint64(len(m.Tasks)))
	for i := range m.Tasks {
		t := &m.Tasks[i]
		b = appendString(appendString(b, t.ID), t.Data)
		b = binary.AppendVarint(binary.AppendVarint(b, t.Size), t.Seq)
		b = binary.AppendUvarint(b, uint64(t.Number))
	}
	b = binary.AppendUvarint(b, uint64(len(m.Files)))
	for i := range m.Files {
		f := &m.Files[i]
		b = appendString(appendString(appendString(b, f.Name), f.Temp), f.Path)
		placed := byte(0)
		if f.Placed {
			placed = 1
		}
		b = binary.AppendVarint(append(b, placed), f.Size)
		b = binary.LittleEndian.AppendUint32(b, f.CRC)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Sums)))
	for i := range m.Sums {
		b = binary.AppendVarint(appendString(b, m.Sums[i].Name), m.Sums[i].N)
	}
	return b
}

func appendString[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// ErrMessage is wrapped when bytes are no message.
var ErrMessage = errors.New("not a message of this protocol")

// Decode reads a message, which shares no memory with b but for Data of itself and of its tasks. It allocates no more than
// some times the length of b, whatever b holds.
func Decode(b []byte) (*Message, error) {
	d := decoder{b: b}
	m := &Message{Kind: d.byte(), Flags: d.byte()}
	m.Call = d.uvarint(math.MaxUint64)
	m.Epoch = uint32(d.uvarint(math.MaxUint32))
	m.Stage = d.string()
	m.Grant = d.uvarint(math.MaxUint64)
	for _, p := range []*int64{&m.At, &m.Actor, &m.Rank, &m.N} {
		*p = d.varint()
	}
	m.Text = d.string()
	for n := d.count(1); n > 0; n-- {
		m.Names = append(m.Names, d.string())
	}
	m.Data = d.bytes()
	if n := d.count(5); n > 0 {
		m.Tasks = make([]Task, n)
		for i := range m.Tasks {
			m.Tasks[i] = Task{
				ID: d.string(), Data: d.bytes(), Size: d.varint(), Seq: d.varint(), Number: uint32(d.uvarint(math.MaxUint32)),
			}
		}
	}
	if n := d.count(9); n > 0 {
		m.Files = make([]File, n)
		for i := range m.Files {
			f := File{Name: d.string(), Temp: d.string(), Path: d.string()}
			placed := d.byte()
			f.Placed, f.Size = placed == 1, d.varint()
			if crc := d.take(4); crc != nil {
				f.CRC = binary.LittleEndian.Uint32(crc)
			}
			if placed > 1 || f.Size < 0 {
				d.bad = true
			}
			m.Files[i] = f
		}
	}
	if n := d.count(2); n > 0 {
		m.Sums = make([]Sum, n)
		for i := range m.Sums {
			m.Sums[i] = Sum{d.string(), d.varint()}
		}
	}
	if d.bad || len(d.b) > 0 {
		return nil, fmt.Errorf("%w: kind %d, %d bytes", ErrMessage, m.Kind, len(b))
	}
	return m, nil
}

// decoder reads values from the front of b. After the first fault it returns zero values.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > most {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	if v := d.take(d.uvarint(math.MaxInt32)); len(v) > 0 {
		return v
	}
	return nil
}

func (d *decoder) string() string { return string(d.bytes()) }

// count returns the length of a list whose elements take at least so many bytes each.
func (d *decoder) count(each int) int {
	n := d.uvarint(math.MaxInt32)
	if n > uint64(len(d.b)/each) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}
