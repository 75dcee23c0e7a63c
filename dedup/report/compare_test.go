package report

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// sides puts the two texts together again, as far as they are shown, and adds up what is left out of each.
func (d Diff) sides() (removed, kept string, gapRemoved, gapKept int64) {
	for _, s := range d.Segments {
		switch s.Op {
		case OpSame:
			removed, kept = removed+s.Text, kept+s.Text
		case OpRemoved:
			removed += s.Text
		case OpKept:
			kept += s.Text
		case OpGap:
			gapRemoved, gapKept = gapRemoved+s.Removed, gapKept+s.Kept
		}
	}
	return
}

// checkDiff checks what holds of every diff: nothing is lost or made up, and little is shown.
func checkDiff(t *testing.T, a, b []byte) Diff {
	t.Helper()
	d := Compare(a, b)
	left, right, gapA, gapB := d.sides()
	if int64(len(left))+gapA != int64(len(a)) || int64(len(right))+gapB != int64(len(b)) {
		t.Fatalf("%d+%d of %d bytes and %d+%d of %d", len(left), gapA, len(a), len(right), gapB, len(b))
	}
	if gapA == 0 && left != string(a) || gapB == 0 && right != string(b) {
		t.Fatalf("%q %q became %q %q", a, b, left, right)
	}
	shown, at, atB := 0, 0, 0
	for _, s := range d.Segments {
		shown += len(s.Text)
		inA, inB := s.Op == OpSame || s.Op == OpRemoved, s.Op == OpSame || s.Op == OpKept
		if inA && string(a[at:at+len(s.Text)]) != s.Text || inB && string(b[atB:atB+len(s.Text)]) != s.Text {
			t.Fatalf("%q is not in its place", s.Text)
		}
		if s.Op == OpGap && s.Equal && (s.Removed != s.Kept || !bytes.Equal(a[at:at+int(s.Removed)], b[atB:atB+int(s.Kept)])) {
			t.Fatal("a gap claims to be in common and is not")
		}
		if inA {
			at += len(s.Text)
		}
		if inB {
			atB += len(s.Text)
		}
		at, atB = at+int(s.Removed), atB+int(s.Kept)
	}
	if shown > 2*shownBytes+2*wholeBytes {
		t.Fatalf("%d bytes are shown", shown)
	}
	if d.Same != bytes.Equal(a, b) {
		t.Fatalf("Same is %v", d.Same)
	}
	return d
}

func words1(rng *rand.Rand, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = []string{"deck", "card", "shuffle", "the", "数据", "повтор", "é", "x1"}[rng.IntN(8)] + fmt.Sprint(rng.IntN(50))
	}
	return out
}

func TestCompareMarksWords(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"the quick brown fox", "the slow brown fox", "=the |-quick|+slow|= brown fox"},
		{"a b c", "a b c d", "=a b c|+ d"},
		{"same", "same", "=same"},
		{"", "new", "+new"},
		{"old", "", "-old"},
		{"去重文档很好", "去重文章很好", "=去重文|-档|+章|=很好"},
		{"", "", ""},
	} {
		var got []string
		for _, s := range checkDiff(t, []byte(c.a), []byte(c.b)).Segments {
			got = append(got, map[string]string{OpSame: "=", OpRemoved: "-", OpKept: "+", OpGap: "…"}[s.Op]+s.Text)
		}
		if strings.Join(got, "|") != c.want {
			t.Errorf("%q %q: %q, want %q", c.a, c.b, got, c.want)
		}
	}
}

// Of long texts what is shown is what differs, wherever it is.
func TestCompareFindsDifferences(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, at := range []int{0, 5_000, 99_999} {
		w := words1(rng, 100_000)
		a := strings.Join(w, " ")
		w[at] = "DIFFERENT"
		b := strings.Join(w, " ")
		d := checkDiff(t, []byte(a), []byte(b))
		var marked string
		for _, s := range d.Segments {
			if s.Op == OpKept {
				marked += s.Text
			}
		}
		if marked != "DIFFERENT" {
			t.Errorf("word %d: marked is %.200q", at, marked)
		}
	}
	// Two differences far apart are both shown, and a long insertion does not lose what comes after it.
	w := words1(rng, 20_000)
	a := strings.Join(w, " ")
	w[4000], w[15_000] = "FIRST", strings.Repeat("INSERTED ", 3000)+"SECOND"
	d := checkDiff(t, []byte(a), []byte(strings.Join(w, " ")))
	text := fmt.Sprint(d.Segments)
	if !strings.Contains(text, "FIRST") || !strings.Contains(text, "INSERTED") || !strings.HasSuffix(a, d.Segments[len(d.Segments)-1].Text) && d.Segments[len(d.Segments)-1].Op != OpGap {
		t.Errorf("%.2000s", text)
	}
}

func TestCompareIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	big := func(alphabet string) []byte {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return b
	}
	started := time.Now()
	for _, c := range [][2][]byte{
		{big("ab"), big("ab")}, {big("a "), big("a ")}, {big("\x80\xff"), big("\x80\xff")}, {big("a"), append(big("a"), 'b')},
		{bytes.Repeat([]byte{0x80}, 1<<20), append(bytes.Repeat([]byte{0x80}, 1<<19), bytes.Repeat([]byte{0x81}, 1<<19)...)},
		{big("a"), nil}, {big("\n"), big("\n ")}, {[]byte(strings.Repeat("e\u0301", 1<<18)), []byte(strings.Repeat("\u0301e", 1<<18))},
	} {
		checkDiff(t, c[0], c[1])
	}
	if d := time.Since(started); d > 2*time.Minute {
		t.Errorf("took %v", d)
	}
}

func FuzzCompare(f *testing.F) {
	f.Add([]byte("the quick brown fox"), []byte("the slow brown fox"), 1)
	f.Add([]byte("a\xffb\u0301"), []byte("a\xfeb\u0301 c"), 700)
	f.Fuzz(func(t *testing.T, a, b []byte, n int) {
		n = min(max(n, 1), 1000)
		checkDiff(t, a, b)
		checkDiff(t, bytes.Repeat(a, n)[:min(len(a)*n, 1<<16)], bytes.Repeat(b, n)[:min(len(b)*n, 1<<16)])
	})
}

func BenchmarkCompare(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 4))
	w := words1(rng, 2000)
	x := []byte(strings.Join(w, " "))
	for i := range 20 {
		w[i*97] = "changed"
	}
	y := []byte(strings.Join(w, " "))
	for b.Loop() {
		Compare(x, y)
	}
}
