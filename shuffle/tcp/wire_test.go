package tcp

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
	"testing"
)

// goldenFrames are frames of every kind, as they have always been.
var goldenFrames = map[string]struct {
	frame
	bytes string
}{
	"message": {frame{kind: kindMessage, number: 9, size: 1<<40 + 5, length: 160},
		"44567466 01010000 0900000000000000 0500000000010000 a0000000 0ed207d3"},
	"accept": {frame{kind: kindAccept, number: 9},
		"44567466 01020000 0900000000000000 0000000000000000 00000000 cab74354"},
	"refuse": {frame{kind: kindRefuse, number: 9},
		"44567466 01030000 0900000000000000 0000000000000000 00000000 f2479021"},
	"payload": {frame{kind: kindPayload, number: 9, size: 3 << 20, length: 1 << 20},
		"44567466 01040000 0900000000000000 0000300000000000 00001000 ff1cb0c1"},
	"taken": {frame{kind: kindTaken, number: 258},
		"44567466 01050000 0201000000000000 0000000000000000 00000000 aa8e9847"},
	"leave": {frame{kind: kindLeave},
		"44567466 01060000 0000000000000000 0000000000000000 00000000 7f3d500e"},
	"bye": {frame{kind: kindBye, number: 300},
		"44567466 01070000 2c01000000000000 0000000000000000 00000000 cb555354"},
}

// goldenGreetings are records of the greeting.
var goldenGreetings = map[string]struct {
	made  []byte
	bytes string
}{
	"hello": {(&hello{rank: 3, to: 1, size: 8, epoch: 7, window: 1 << 20, job: "job", spec: "spec 5"}).encode(1),
		"4456544c7463700a 01000100 21000000 0300000001000000080000000700000000001000030006006a6f62737065632035 665e5bc8"},
	"yes": {(&verdict{code: verdictYes}).encode(),
		"4456544c7463700a 01000200 01000000 01 f9f8dfcd"},
	"no": {(&verdict{code: verdictNo, text: "no"}).encode(),
		"4456544c7463700a 01000200 03000000 026e6f 2f794033"},
}

func TestGolden(t *testing.T) {
	for name, g := range goldenFrames {
		if got := hex.EncodeToString(appendFrame(nil, g.frame)); got != strings.ReplaceAll(g.bytes, " ", "") {
			t.Errorf("frame %s is %s", name, got)
		}
		if f, err := decodeFrame(goldenFrame(t, name)); f != g.frame || err != nil {
			t.Errorf("frame %s is read as %+v, %v", name, f, err)
		}
	}
	for name, g := range goldenGreetings {
		if got := hex.EncodeToString(g.made); got != strings.ReplaceAll(g.bytes, " ", "") {
			t.Errorf("greeting %s is %s", name, got)
		}
	}
}

func goldenFrame(t testing.TB, name string) []byte { return unhex(t, goldenFrames[name].bytes) }

func goldenGreeting(t testing.TB, name string) []byte { return unhex(t, goldenGreetings[name].bytes) }

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mendSum sets the checksum in the last four bytes.
func mendSum(b []byte) {
	n := len(b) - 4
	binary.LittleEndian.PutUint32(b[n:], crc32.Checksum(b[:n], castagnoli))
}
