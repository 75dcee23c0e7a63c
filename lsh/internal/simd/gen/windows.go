package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The constants of the sketch "fast", which FORMAT.md defines.
const (
	fastPoint  = 0x2055cd73
	fastPoint2 = fastPoint * fastPoint & 0xffffffff
	fastMix    = 0x2c1b3c6d
	fastJoin   = 0x9e3779b1
	fastEnd1   = 0x7feb352d
	fastEnd2   = 0x846ca68b
)

// windows writes what makes the runs of a block of code points and joins them to windows. All of these read and write
// exactly the values they are about, so that dst may be left, and may end where memory ends.
func windows(v *isa) {
	pairs(v)
	quads(v)
	folds(v)
	ends(v)
	foldEnd(v)
	foldFoldEnd(v)
}

func base(name string) reg.Register   { return Load(Param(name).Base(), GP64()) }
func length(name string) reg.Register { return Load(Param(name).Len(), GP64()) }

func pairs(v *isa) {
	function("Pairs"+v.suffix, "func(dst, points []uint32)",
		"Pairs"+v.suffix+" sets dst[i] to the run of two code points that starts at points[i]. points has one more than dst.")
	dst, points, n := base("dst"), base("points"), length("dst")
	point := v.all(fastPoint)
	v.each(n, func(at reg.Register) {
		v.store(v.add(v.mul(v.load(values(points, at)), point), v.load(values(points, at).Offset(4))), values(dst, at))
	})
	end()
}

func quads(v *isa) {
	function("Quads"+v.suffix, "func(dst, points []uint32, quad uint32)",
		"Quads"+v.suffix+" sets dst[i] to the run of four code points that starts at points[i]. points has three more than dst.")
	dst, points, n := base("dst"), base("points"), length("dst")
	quad := v.argument("quad")
	point, square, mix := v.all(fastPoint), v.all(fastPoint2), v.all(fastMix)
	v.each(n, func(at reg.Register) {
		pair := func(disp int) reg.VecVirtual {
			return v.add(v.mul(v.load(values(points, at).Offset(disp)), point), v.load(values(points, at).Offset(disp+4)))
		}
		sum := v.add(v.add(v.mul(pair(0), square), quad), pair(8))
		v.store(v.mix(v.mul(v.mix(sum, 15), mix), 13), values(dst, at))
	})
	end()
}

// fold returns the join of two runs.
func (v *isa) fold(left, right, multiplier reg.VecVirtual) reg.VecVirtual {
	return v.mix(v.add(v.mul(left, multiplier), right), 15)
}

func folds(v *isa) {
	function("Folds"+v.suffix, "func(dst, left, right []uint32, multiplier uint32)",
		"Folds"+v.suffix+" sets dst[i] to the join of left[i] and right[i]. left and right are no shorter than dst; dst may be left.")
	dst, left, right, n := base("dst"), base("left"), base("right"), length("dst")
	multiplier := v.argument("multiplier")
	v.each(n, func(at reg.Register) {
		v.store(v.fold(v.load(values(left, at)), v.load(values(right, at)), multiplier), values(dst, at))
	})
	end()
}

// finish holds the constants of a window's last mixing.
type finish struct{ add, end1, end2 reg.VecVirtual }

func (v *isa) finish() finish {
	return finish{v.argument("add"), v.all(fastEnd1), v.all(fastEnd2)}
}

func (v *isa) finished(f finish, h reg.VecVirtual) reg.VecVirtual {
	h = v.mul(v.mix(v.add(h, f.add), 16), f.end1)
	return v.mix(v.mul(v.mix(h, 15), f.end2), 16)
}

func ends(v *isa) {
	function("End"+v.suffix, "func(dst, run []uint32, add uint32)",
		"End"+v.suffix+" finishes windows of one run. run is no shorter than dst, which may be run.")
	dst, run, n := base("dst"), base("run"), length("dst")
	f := v.finish()
	v.each(n, func(at reg.Register) {
		v.store(v.finished(f, v.load(values(run, at))), values(dst, at))
	})
	end()
}

func foldEnd(v *isa) {
	function("FoldEnd"+v.suffix, "func(dst, left, right []uint32, add uint32)",
		"FoldEnd"+v.suffix+" joins the last run to windows and finishes them. left and right are no shorter than dst; dst may be left.")
	dst, left, right, n := base("dst"), base("left"), base("right"), length("dst")
	join, f := v.all(fastJoin), v.finish()
	v.each(n, func(at reg.Register) {
		v.store(v.finished(f, v.fold(v.load(values(left, at)), v.load(values(right, at)), join)), values(dst, at))
	})
	end()
}

func foldFoldEnd(v *isa) {
	function("FoldFoldEnd"+v.suffix, "func(dst, run []uint32, size int, multiplier, add uint32)",
		"FoldFoldEnd"+v.suffix+" makes windows of three runs of one size. run has 2*size more values than dst, which it does not overlap.")
	dst, run, n := base("dst"), base("run"), length("dst")
	second, third := GP64(), GP64()
	size := Load(Param("size"), GP64())
	LEAQ(Mem{Base: run, Index: size, Scale: 4}, second)
	LEAQ(Mem{Base: run, Index: size, Scale: 8}, third)
	multiplier, join, f := v.argument("multiplier"), v.all(fastJoin), v.finish()
	v.each(n, func(at reg.Register) {
		h := v.fold(v.load(values(run, at)), v.load(values(second, at)), multiplier)
		v.store(v.finished(f, v.fold(h, v.load(values(third, at)), join)), values(dst, at))
	})
	end()
}
