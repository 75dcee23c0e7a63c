package framelog

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/dovetail-dedup/dovetail/executor/internal/vfs"
	"github.com/dovetail-dedup/dovetail/executor/internal/vfs/crashfs"
)

// write makes a log of the given payloads and returns its bytes and where each frame starts. synced says after
// which frames the log is synced.
func write(t testing.TB, payloads [][]byte, synced func(i int) bool) (data []byte, starts []int) {
	t.Helper()
	f := newFile(t, nil)
	l, err := Create(f, payloads[0])
	if err != nil {
		t.Fatal(err)
	}
	starts = append(starts, len(fileMagic))
	for i, p := range payloads[1:] {
		starts = append(starts, int(l.Size()))
		if err := l.Append(p); err != nil {
			t.Fatal(err)
		}
		if synced(i + 1) {
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return content(t, f), starts
}

// newFile returns a file in memory: syncing thousands of real ones takes long.
func newFile(t testing.TB, data []byte) vfs.File {
	t.Helper()
	f, err := crashfs.New().OpenFile("/log", os.O_RDWR|os.O_CREATE, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func content(t testing.TB, f vfs.File) []byte {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, st.Size())
	if _, err := f.ReadAt(data, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return data
}

// read opens a log with the given bytes and returns its payloads and the bytes left after opening.
func read(t testing.TB, data []byte) (payloads [][]byte, torn int64, after []byte, err error) {
	t.Helper()
	f := newFile(t, data)
	_, torn, err = Open(f, func(p []byte) error {
		payloads = append(payloads, bytes.Clone(p))
		return nil
	})
	return payloads, torn, content(t, f), err
}

func payloads(n int) [][]byte {
	var out [][]byte
	for i := range n {
		out = append(out, bytes.Repeat([]byte{byte('a' + i)}, i*i*3+i))
	}
	return out
}

func always(int) bool { return true }
func never(int) bool  { return false }

func TestRoundTrip(t *testing.T) {
	want := payloads(9)
	data, _ := write(t, want, always)
	got, torn, after, err := read(t, data)
	if err != nil || torn != 0 || !slices.EqualFunc(got, want, bytes.Equal) || !bytes.Equal(data, after) {
		t.Fatalf("read %d payloads, %d torn, %v", len(got), torn, err)
	}
}

// A log cut at any byte gives back the frames that are whole, and can be appended to.
func TestTruncated(t *testing.T) {
	want := payloads(6)
	data, starts := write(t, want, always)
	for n := starts[1]; n < len(data); n++ {
		whole := 0
		for whole < len(starts) && n >= starts[whole]+headerBytes+len(want[whole]) {
			whole++
		}
		got, torn, after, err := read(t, data[:n])
		if err != nil || !slices.EqualFunc(got, want[:whole], bytes.Equal) {
			t.Fatalf("cut to %d bytes: read %d payloads of %d: %v", n, len(got), whole, err)
		}
		if len(after)+int(torn) != n || len(after) != starts[whole] {
			t.Fatalf("cut to %d bytes: %d torn, %d left, want %d left", n, torn, len(after), starts[whole])
		}
	}
}

// A changed byte is never taken for data: it is damage if a later frame proves that it was on disk, and a
// torn tail if not.
func TestFlipped(t *testing.T) {
	want := payloads(6)
	for _, tc := range []struct {
		name   string
		synced func(int) bool
		damage func(frame int) bool
	}{
		{"all synced", always, func(frame int) bool { return frame < 5 }},
		{"only the first synced", never, func(frame int) bool { return frame < 1 }},
		{"synced after 3", func(i int) bool { return i == 3 }, func(frame int) bool { return frame <= 3 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data, starts := write(t, want, tc.synced)
			for at := range data {
				frame, _ := slices.BinarySearch(starts, at+1)
				frame = max(frame-1, 0)
				bad := bytes.Clone(data)
				bad[at] ^= 1 << (at % 8)
				got, _, after, err := read(t, bad)
				if len(got) > frame || !slices.EqualFunc(got, want[:len(got)], bytes.Equal) {
					t.Fatalf("byte %d: read %d payloads, the fault is in frame %d", at, len(got), frame)
				}
				if tc.damage(frame) {
					if !errors.Is(err, ErrDamaged) || !bytes.Equal(after, bad) {
						t.Fatalf("byte %d of frame %d: got %v, want damage and the file untouched", at, frame, err)
					}
				} else if err != nil || len(got) != frame || len(after) != starts[frame] {
					t.Fatalf("byte %d of frame %d: got %d payloads, %v", at, frame, len(got), err)
				}
			}
		})
	}
}

// After Seal a change of any byte is damage, but in the seal itself.
func TestSeal(t *testing.T) {
	f := newFile(t, nil)
	l, err := Create(f, []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{[]byte("first"), []byte("a"), []byte("b")}
	for _, p := range want[1:] {
		if err := l.Append(p); err != nil {
			t.Fatal(err)
		}
	}
	size := l.Size()
	for range 3 { // only the first adds anything
		if err := l.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	if l.Size() != size+headerBytes {
		t.Errorf("the seals have %d bytes", l.Size()-size)
	}
	data := content(t, f)
	if got, _, _, err := read(t, data); err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("read %q, %v", got, err)
	}
	for at := range data {
		bad := bytes.Clone(data)
		bad[at] ^= 0x10
		if _, _, _, err := read(t, bad); errors.Is(err, ErrDamaged) != (at < int(size)) {
			t.Errorf("byte %d of %d: %v", at, len(data), err)
		}
	}
}

// A payload that holds a frame is not taken for one.
func TestFrameInPayload(t *testing.T) {
	inner, starts := write(t, payloads(3), always)
	want := [][]byte{{1}, inner[starts[1]:], {2}}
	data, starts := write(t, want, never)
	data[starts[1]+headerBytes-1] ^= 1 // the CRC of the frame around
	got, torn, _, err := read(t, data)
	if err != nil || len(got) != 1 || torn != int64(len(data)-starts[1]) {
		t.Fatalf("%d payloads, %d torn, %v", len(got), torn, err)
	}
}

func TestNotALog(t *testing.T) {
	good, starts := write(t, payloads(2), always)
	for name, data := range map[string][]byte{
		"empty": nil, "short": []byte("dove"), "other": []byte("PK\x03\x04 and so on"), "no frame": good[:starts[0]],
		"cut first frame": good[:starts[0]+5],
	} {
		if _, _, after, err := read(t, data); !errors.Is(err, ErrDamaged) || !bytes.Equal(after, data) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// brokenFile fails its writes after a number of bytes, and its syncs if told to.
type brokenFile struct {
	vfs.File
	room     int
	syncFail bool
}

var errFull = errors.New("disk full")

func (f *brokenFile) WriteAt(p []byte, off int64) (int, error) {
	if len(p) <= f.room {
		f.room -= len(p)
		return f.File.WriteAt(p, off)
	}
	n, _ := f.File.WriteAt(p[:f.room], off)
	f.room = 0
	return n, errFull
}

func (f *brokenFile) Sync() error {
	if f.syncFail {
		return errFull
	}
	return f.File.Sync()
}

// After a failed write or sync nothing more is written, and what was written before can be read.
func TestDiskFull(t *testing.T) {
	for room := 20; room < 400; room += 7 {
		f := newFile(t, nil)
		b := &brokenFile{File: f, room: 1 << 20}
		l, err := Create(b, []byte("first"))
		if err != nil {
			t.Fatal(err)
		}
		b.room = room
		n := 0
		for err == nil {
			n++
			err = l.Append(bytes.Repeat([]byte{byte(n)}, 10*n))
		}
		b.room = 1 << 20
		if again := l.Append([]byte("x")); !errors.Is(err, errFull) || !errors.Is(again, errFull) {
			t.Fatalf("got %v, then %v", err, again)
		}
		l.Close()
		if got, _, _, err := read(t, content(t, f)); err != nil || len(got) != n {
			t.Fatalf("%d payloads, want %d: %v", len(got), n, err)
		}
	}
}

func TestSyncFails(t *testing.T) {
	b := &brokenFile{File: newFile(t, nil), room: 1 << 20}
	l, err := Create(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Append([]byte("a")); err != nil {
		t.Fatal(err)
	}
	b.syncFail = true
	if err := l.Sync(); !errors.Is(err, errFull) {
		t.Fatalf("got %v", err)
	}
	b.syncFail = false
	if err := l.Sync(); !errors.Is(err, errFull) {
		t.Fatalf("a sync after a failed one says %v", err)
	}
	if err := l.Append([]byte("b")); !errors.Is(err, errFull) {
		t.Fatalf("an append after a failed sync says %v", err)
	}
}

func TestPayloadTooLarge(t *testing.T) {
	l, err := Create(newFile(t, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Append(make([]byte, MaxPayload+1)); err == nil {
		t.Fatal("a payload that is too large was taken")
	}
	if err := l.Append([]byte("b")); err != nil {
		t.Fatal(err)
	}
}

// FuzzOpen changes a good log at will: opening never panics, and every payload it gives is one that was
// written, in its place.
func FuzzOpen(f *testing.F) {
	want := payloads(5)
	data, _ := write(f, want, func(i int) bool { return i%2 == 0 })
	f.Add(data, uint64(1))
	f.Add([]byte(fileMagic), uint64(2))
	f.Add([]byte{}, uint64(3))
	f.Fuzz(func(t *testing.T, raw []byte, seed uint64) {
		if _, _, _, err := read(t, raw); err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		bad := bytes.Clone(data)
		for range rng.IntN(4) {
			bad[rng.IntN(len(bad))] ^= byte(1 + rng.IntN(255))
		}
		if rng.IntN(2) == 0 {
			bad = bad[:rng.IntN(len(bad)+1)]
		}
		if len(raw) > 0 {
			at := rng.IntN(len(bad) + 1)
			bad = slices.Concat(bad[:at], raw[:min(len(raw), 64)], bad[at:])
		}
		got, _, _, err := read(t, bad)
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		if len(got) > len(want) || !slices.EqualFunc(got, want[:len(got)], bytes.Equal) {
			t.Fatalf("read %q", got)
		}
	})
}
