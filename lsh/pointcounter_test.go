package lsh

import (
	"strings"
	"testing"
)

// TestPointCounter: every path counts what the plain loop does, in texts of every kind and across its own blocks.
func TestPointCounter(t *testing.T) {
	texts := []string{"", "a", "\xff", "é", "日本語", "a\xe6\x97b", "\xf0\x9f\x98\x80\xf0\x9f", strings.Repeat("x", 1023) + "é", strings.Repeat("ü", 1025),
		strings.Repeat("plain text, 日本, \xff\xfe and \xed\xa0\x80 ", 300), strings.Repeat("\x80", 5000)}
	for _, l := range availableLoops() {
		c := &PointCounter{decode: l.decode}
		for _, s := range texts {
			for cut := range min(len(s), 70) + 1 {
				text := []byte(s[cut:])
				if got, want := c.Count(text), countPoints(text); got != want {
					t.Fatalf("%s: %d code points in %d bytes of %.20q, wanted %d", l.name, got, len(text), s, want)
				}
			}
		}
	}
}
