package collective

// LongVector is the length in bytes from which AllReduce goes the other way.
const LongVector = longVector
