package mem

import "strconv"

// Tier is a kind of memory. Tiers are ordered: moving data to a larger Tier is called spilling, moving
// it back unspilling.
type Tier uint8

// The tiers, from fast and scarce to slow and plentiful.
const (
	// TierDevice is memory of an accelerator. The processor cannot read it.
	TierDevice Tier = iota
	// TierPinned is host memory registered with a device or a network adapter.
	TierPinned
	// TierHost is ordinary process memory.
	TierHost
	// TierDisk is a range of a spill file.
	TierDisk

	// NumTiers is the number of tiers.
	NumTiers = 4
)

// String returns the tier's name in lower case.
func (t Tier) String() string {
	switch t {
	case TierDevice:
		return "device"
	case TierPinned:
		return "pinned"
	case TierHost:
		return "host"
	case TierDisk:
		return "disk"
	}
	return "tier(" + strconv.Itoa(int(t)) + ")"
}

// Addressable reports whether the processor can read and write bytes of this tier through a pointer.
func (t Tier) Addressable() bool { return t == TierPinned || t == TierHost }
