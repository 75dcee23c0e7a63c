// Package mem says where the bytes of a batch live, who owns them, and how many there may be.
//
// Three ideas carry it:
//
//   - A [Buffer] is a reference-counted run of bytes in one [Tier]. Whoever holds a reference may read
//     it; whoever holds the only one may write it. Release gives the reference back, exactly once.
//   - An [Allocator] makes buffers of one tier. [Host] is the default one: large buffers come from
//     anonymous mappings, so that giving them back lowers the resident set at once and the garbage
//     collector never sees them. [Checked] wraps any allocator and names the call that leaked.
//   - A [Budget] bounds what is held. Work asks for a [Reservation] before it allocates; when there is
//     no room, holders that registered with [Budget.OnPressure] are asked to give some back (the
//     shuffle spills), and after that the request waits its turn. Every byte is counted under a
//     [Purpose], so that a run can say what its memory was used for.
//
// Tiers are ordered from fast and scarce to slow and plentiful: device, pinned, host, disk. Host and
// disk exist in every build; device and pinned buffers are made by the packages that own a device and
// are handed around here like any other.
//
// The package imports nothing of the project but internal leaves, and no C.
package mem
