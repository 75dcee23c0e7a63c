package shuffle

import (
	"strings"
	"testing"
)

// Both owner functions give every partition one owner, and every rank as many as any other, give or take one;
// Contiguous gives runs in the order of ranks.
func TestOwners(t *testing.T) {
	for name, f := range map[string]OwnerFunc{"round robin": RoundRobin, "contiguous": Contiguous} {
		for _, total := range []int{1, 2, 3, 5, 7, 10, 16, 100, 1 << 20} {
			for _, size := range []int{1, 2, 3, 5, 8, 64} {
				owners, err := ownerTable(f, total, size)
				if err != nil {
					t.Fatal(err)
				}
				count := make([]int, size)
				for p, o := range owners {
					count[o]++
					if name == "contiguous" && p > 0 && o < owners[p-1] {
						t.Fatalf("contiguous: partition %d of %d goes back to rank %d", p, total, o)
					}
				}
				for r, n := range count {
					if n < total/size || n > total/size+1 {
						t.Fatalf("%s: rank %d of %d has %d of %d partitions", name, r, size, n, total)
					}
				}
			}
		}
	}
	if _, err := ownerTable(func(int, int, int) int { return 3 }, 5, 3); err == nil || !strings.Contains(err.Error(), "rank 3") {
		t.Errorf("an owner beyond the ranks: %v", err)
	}
	a, _ := ownerTable(RoundRobin, 10, 3)
	b, _ := ownerTable(Contiguous, 10, 3)
	if ownersFingerprint(a) == ownersFingerprint(b) {
		t.Error("different owners have the same fingerprint")
	}
}
