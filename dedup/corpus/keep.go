package corpus

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// A keep key is a uint64 that sorts like the value it stands for; 0 is null and NaN, which come last. How it is
// made depends on what all files of the set hold, so that keys of different files compare:
//
//	integers    signed and unsigned ones of up to 32 bits, int64, bools: exact
//	uint64      in all files: exact
//	floats      float16, float32, float64: exact; -0 is 0
//	decimals    of up to 18 digits and of one scale: exact
//	dates, times of day, timestamps: exact where all files have one unit, else in nanoseconds, where what lies
//	            outside of the years 1678 to 2261 counts as the nearest moment inside
//	numbers     JSON, larger decimals, and files that differ: see [numberKey]
//
// 64 bits hold 2^64 - 1 values and null, so two values have to share a key: the two smallest of int64, and the
// two largest of uint64.

// keepClass is what the values of a column are.
type keepClass string

const (
	keepInt     keepClass = "int"
	keepUint    keepClass = "uint64"
	keepFloat   keepClass = "float"
	keepDecimal keepClass = "decimal"
	keepMoment  keepClass = "date or timestamp"
	keepClock   keepClass = "time of day"
	keepNumber  keepClass = "number"
)

// KeepKind says how the values of the keep field become keys. The zero value stands for no field, or a field
// without a value in any file.
type KeepKind struct {
	Class keepClass `json:"class,omitempty"`
	// Unit is the nanoseconds of a unit of moments and times of day, Scale the digits behind the point of decimals.
	Unit  int64 `json:"unit,omitempty"`
	Scale int32 `json:"scale,omitempty"`
}

const day = int64(24 * 3600 * 1e9)

// columnKeep returns the kind of a column; ok is false if its values have no order of numbers.
func columnKeep(c *schema.Column) (k KeepKind, ok bool) {
	switch t := c.LogicalType().(type) {
	case schema.NullLogicalType:
		return KeepKind{}, true
	case schema.DecimalLogicalType:
		if t.Precision() > 18 {
			return KeepKind{Class: keepNumber}, true
		}
		return KeepKind{Class: keepDecimal, Scale: t.Scale()}, true
	case schema.Float16LogicalType:
		return KeepKind{Class: keepFloat}, true
	case schema.DateLogicalType:
		return KeepKind{Class: keepMoment, Unit: day}, true
	case schema.TimestampLogicalType:
		return KeepKind{Class: keepMoment, Unit: nanos(t.TimeUnit())}, true
	case schema.TimeLogicalType:
		return KeepKind{Class: keepClock, Unit: nanos(t.TimeUnit())}, true
	case schema.IntLogicalType:
		if !t.IsSigned() && t.BitWidth() == 64 {
			return KeepKind{Class: keepUint}, true
		}
	}
	switch c.PhysicalType() {
	case parquet.Types.Boolean, parquet.Types.Int32, parquet.Types.Int64:
		return KeepKind{Class: keepInt}, true
	case parquet.Types.Int96:
		return KeepKind{Class: keepMoment, Unit: 1}, true
	case parquet.Types.Float, parquet.Types.Double:
		return KeepKind{Class: keepFloat}, true
	}
	return KeepKind{}, false
}

func nanos(u schema.TimeUnitType) int64 {
	switch u {
	case schema.TimeUnitMillis:
		return 1e6
	case schema.TimeUnitMicros:
		return 1e3
	}
	return 1
}

// with returns the kind under which values of both kinds compare; ok is false if they do not.
func (k KeepKind) with(o KeepKind) (_ KeepKind, ok bool) {
	timed := func(c keepClass) bool { return c == keepMoment || c == keepClock }
	switch {
	case k == o || o.Class == "":
		return k, true
	case k.Class == "":
		return o, true
	case k.Class == o.Class && timed(k.Class):
		return KeepKind{Class: k.Class, Unit: 1}, true
	case timed(k.Class) || timed(o.Class):
		return k, false
	}
	return KeepKind{Class: keepNumber}, true
}

// intKey is the key of an integer where all values are such.
func intKey(v int64) uint64 { return max(1, uint64(v)^1<<63) }

// uintKey is the key of a uint64 where all values are such.
func uintKey(v uint64) uint64 {
	if v == math.MaxUint64 {
		return v
	}
	return v + 1
}

// floatKey is the key of a float where all values are such.
func floatKey(f float64) uint64 {
	if f != f {
		return 0
	}
	b := math.Float64bits(f + 0) // -0 becomes 0
	if b>>63 != 0 {
		return ^b
	}
	return b | 1<<63
}

// Where integers and floats meet, there are more values than keys: all int64 alone would take all keys. numberKey
// gives most of them to integers, which are exact from -2^62 to 2^63, and to floats of a size from 2^-450 to 2^53,
// which are exact, too. Floats outside of these ranges have keys by 44 bits of their mantissa, so of those that lie
// closer than one part in 10^13 some are equal. The order of keys is never against that of values.
const (
	tinyBits = uint64(1023-450) << 52 // of the float 2^-450
	wideBits = uint64(1023+53) << 52  // of the float 2^53, from where on all floats are integers
	infBits  = uint64(0x7ff) << 52
	coarse   = 8 // bits of the mantissa left out

	tinyKeys = tinyBits >> coarse
	fineKeys = tinyKeys + wideBits - tinyBits

	posExact = 63 // integers up to 2^posExact and down to -2^negExact are exact
	negExact = 62

	zeroKey = fineKeys + 1<<negExact - 1<<53 + (infBits-(1023+negExact)<<52)>>coarse + 1
)

// numberKey is the key of a float among numbers.
func numberKey(f float64) uint64 {
	switch {
	case f != f:
		return 0
	case f < 0:
		return zeroKey - sizeKey(-f, negExact)
	}
	return zeroKey + sizeKey(f, posExact)
}

// sizeKey maps a float that is not negative, where integers up to 2^exact are.
func sizeKey(f float64, exact int) uint64 {
	b := math.Float64bits(f + 0)
	end := uint64(1023+exact) << 52
	switch {
	case b < tinyBits:
		return b >> coarse
	case b <= wideBits:
		return tinyKeys + b - tinyBits
	case b <= end:
		return wholeKey(uint64(f))
	}
	return wholeKey(1<<exact) + (b-end)>>coarse
}

// wholeKey maps an integer from 2^53 on.
func wholeKey(n uint64) uint64 { return fineKeys + n - 1<<53 }

// numberKeyInt and numberKeyUint are the keys of integers among numbers.
func numberKeyInt(v int64) uint64 {
	switch {
	case v >= 0:
		return numberKeyUint(uint64(v))
	case v >= -1<<53 || v < -1<<negExact:
		return numberKey(float64(v))
	}
	return zeroKey - wholeKey(-uint64(v))
}

func numberKeyUint(v uint64) uint64 {
	if v <= 1<<53 || v > 1<<posExact {
		return numberKey(float64(v))
	}
	return zeroKey + wholeKey(v)
}

// keyer makes the keys of a column of one kind in a set of another, which goes with it.
type keyer struct{ own, set KeepKind }

// int is the key of what is stored as a signed integer.
func (k keyer) int(v int64) uint64 {
	switch {
	case k.set.Class == keepNumber && k.own.Class == keepDecimal:
		return numberKey(float64(v) / math.Pow10(int(k.own.Scale)))
	case k.set.Class == keepNumber:
		return numberKeyInt(v)
	case k.own.Unit != k.set.Unit:
		hi, lo := bits.Mul64(uint64(max(v, -v)), uint64(k.own.Unit/k.set.Unit))
		switch {
		case (hi != 0 || lo >= 1<<63) && v < 0:
			return intKey(math.MinInt64)
		case hi != 0 || lo >= 1<<63:
			return intKey(math.MaxInt64)
		}
		v *= k.own.Unit / k.set.Unit
	}
	return intKey(v)
}

// uint is the key of a uint64.
func (k keyer) uint(v uint64) uint64 {
	if k.set.Class == keepNumber {
		return numberKeyUint(v)
	}
	return uintKey(v)
}

func (k keyer) float(f float64) uint64 {
	if k.set.Class == keepNumber {
		return numberKey(f)
	}
	return floatKey(f)
}

// decimal is the key of a decimal that is stored as a big-endian two's complement integer.
func (k keyer) decimal(scale int32) func([]byte) uint64 {
	return func(b []byte) uint64 {
		var n big.Int
		n.SetBytes(b)
		if len(b) > 0 && b[0]&0x80 != 0 {
			n.Sub(&n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
		switch {
		case k.own.Class == keepDecimal && n.IsInt64():
			return k.int(n.Int64())
		case k.own.Class == keepDecimal && n.Sign() < 0: // more than its 18 digits
			return k.int(math.MinInt64)
		case k.own.Class == keepDecimal:
			return k.int(math.MaxInt64)
		case scale == 0 && n.IsInt64():
			return k.int(n.Int64())
		}
		f, _ := new(big.Float).SetInt(&n).Float64()
		return numberKey(f / math.Pow10(int(scale)))
	}
}

// numbers returns a function that yields the keep key of one row after the other.
func numbers(c *chunk, set KeepKind) (func() (uint64, error), error) {
	col := c.Descriptor()
	own, ok := columnKeep(col)
	if !ok {
		return nil, fmt.Errorf("column %q cannot be read as numbers", col.Path())
	}
	k := keyer{own, set}
	unsigned := false
	if t, ok := col.LogicalType().(schema.IntLogicalType); ok {
		unsigned = !t.IsSigned()
	}
	switch r := c.ColumnChunkReader.(type) {
	case *file.BooleanColumnChunkReader:
		return keys(newCursor(c, r.ReadBatch), func(b bool) uint64 {
			if b {
				return k.int(1)
			}
			return k.int(0)
		}), nil
	case *file.Int32ColumnChunkReader:
		return keys(newCursor(c, r.ReadBatch), func(v int32) uint64 {
			if unsigned {
				return k.int(int64(uint32(v)))
			}
			return k.int(int64(v))
		}), nil
	case *file.Int64ColumnChunkReader:
		return keys(newCursor(c, r.ReadBatch), func(v int64) uint64 {
			if own.Class == keepUint {
				return k.uint(uint64(v))
			}
			return k.int(v)
		}), nil
	case *file.Float32ColumnChunkReader:
		return keys(newCursor(c, r.ReadBatch), func(v float32) uint64 { return k.float(float64(v)) }), nil
	case *file.Float64ColumnChunkReader:
		return keys(newCursor(c, r.ReadBatch), k.float), nil
	case *file.Int96ColumnChunkReader:
		return keys(newCursor(c, r.ReadBatch), func(v parquet.Int96) uint64 { return k.int(int96Nanos(v)) }), nil
	case *file.FixedLenByteArrayColumnChunkReader:
		f := k.bytes(col)
		return keys(newCursor(c, r.ReadBatchInPage), func(v parquet.FixedLenByteArray) uint64 { return f(v) }), nil
	case *file.ByteArrayColumnChunkReader:
		f := k.bytes(col)
		return keys(newCursor(c, r.ReadBatchInPage), func(v parquet.ByteArray) uint64 { return f(v) }), nil
	}
	return nil, fmt.Errorf("column %q cannot be read as numbers", col.Path())
}

// bytes returns the key of a number stored as bytes: a half float or a decimal.
func (k keyer) bytes(c *schema.Column) func([]byte) uint64 {
	if t, ok := c.LogicalType().(schema.DecimalLogicalType); ok {
		return k.decimal(t.Scale())
	}
	return func(b []byte) uint64 {
		if len(b) != 2 {
			return 0
		}
		return k.float(float64(float16.FromLEBytes(b).Float32()))
	}
}

func keys[T any](c *cursor[T], key func(T) uint64) func() (uint64, error) {
	return func() (uint64, error) {
		v, null, err := c.nextValue()
		if null || err != nil {
			return 0, err
		}
		return key(v), nil
	}
}

// int96Nanos converts the timestamps of old writers, a Julian day and nanoseconds within it.
func int96Nanos(v parquet.Int96) int64 {
	const unixEpoch = 2440588
	ns := int64(binary.LittleEndian.Uint64(v[:8]))
	days := int64(int32(binary.LittleEndian.Uint32(v[8:]))) - unixEpoch
	const most = math.MaxInt64/day - 1
	switch {
	case days > most:
		return math.MaxInt64
	case days < -most:
		return math.MinInt64
	}
	return days*day + min(max(ns, 0), day)
}
