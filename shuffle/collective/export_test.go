package collective

import "time"

// SetPatience replaces the time that a rank waits for the memory of its result.
func (g *Group) SetPatience(d time.Duration) { g.wait = d }

// LongVector is the length in bytes from which AllReduce goes the other way.
const LongVector = longVector
