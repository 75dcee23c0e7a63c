package lsh

import (
	"errors"
	"fmt"
	"math"
)

// Sketch names a way to make signatures.
type Sketch string

const (
	// Fast is the project's own sketch: many times faster than classic MinHash, and with a variance that is
	// never above it. FORMAT.md defines it.
	Fast Sketch = "fast"
	// Curator32 is the signature that NeMo Curator 1.x makes by default with cuDF: 32-bit slots.
	Curator32 Sketch = "curator32"
	// Curator64 is NeMo Curator's signature with use_64bit_hash: 64-bit slots.
	Curator64 Sketch = "curator64"
)

// Sketches lists every sketch, the default first.
func Sketches() []Sketch { return []Sketch{Fast, Curator32, Curator64} }

// Limits of [Params]. They bound the scratch memory of a kernel, not the quality of a result.
const (
	MaxHashes     = 1 << 16 // slots in a signature
	MaxCharNgrams = 1 << 12 // code points in a window
)

// Params are the numbers that decide signatures and bands. They are part of a run's Spec: any change
// changes the results. The names are NeMo Curator's.
type Params struct {
	Sketch           Sketch `json:"sketch"`
	NumBands         int    `json:"num_bands"`          // b, the number of bands
	MinhashesPerBand int    `json:"minhashes_per_band"` // r, slots in a band ("rows per band")
	CharNgrams       int    `json:"char_ngrams"`        // code points in a window
	Seed             uint64 `json:"seed"`               // below 2^32 for the Curator sketches
}

// DefaultParams returns NeMo Curator's defaults with the sketch [Fast]: 20 bands of 13, windows of 24 code
// points, seed 42.
func DefaultParams() Params {
	return Params{Sketch: Fast, NumBands: 20, MinhashesPerBand: 13, CharNgrams: 24, Seed: 42}
}

// EnsureDefaults fills every field that is zero from [DefaultParams], except Seed: 0 is a seed like any
// other.
func (p *Params) EnsureDefaults() {
	d := DefaultParams()
	if p.Sketch == "" {
		p.Sketch = d.Sketch
	}
	if p.NumBands == 0 {
		p.NumBands = d.NumBands
	}
	if p.MinhashesPerBand == 0 {
		p.MinhashesPerBand = d.MinhashesPerBand
	}
	if p.CharNgrams == 0 {
		p.CharNgrams = d.CharNgrams
	}
}

// ErrParams is wrapped by every error of [Params.Validate].
var ErrParams = errors.New("invalid sketch parameters")

// Validate returns an error that lists everything wrong with p, one fault a line, or nil.
func (p Params) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch p.Sketch {
	case Fast:
	case Curator32, Curator64:
		if p.Seed > math.MaxUint32 {
			fault("seed %d: NeMo Curator's generator takes seeds below 2^32", p.Seed)
		}
	default:
		fault("sketch %q: choose one of %q", p.Sketch, Sketches())
	}
	if p.NumBands < 1 {
		fault("num_bands %d: must be at least 1", p.NumBands)
	}
	if p.MinhashesPerBand < 1 {
		fault("minhashes_per_band %d: must be at least 1", p.MinhashesPerBand)
	}
	if p.NumBands > MaxHashes || p.MinhashesPerBand > MaxHashes || p.NumBands*p.MinhashesPerBand > MaxHashes {
		fault("num_bands %d x minhashes_per_band %d: at most %d hashes", p.NumBands, p.MinhashesPerBand, MaxHashes)
	}
	if p.CharNgrams < 1 || p.CharNgrams > MaxCharNgrams {
		fault("char_ngrams %d: must be from 1 to %d", p.CharNgrams, MaxCharNgrams)
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("lsh: %w: %w", ErrParams, errors.Join(faults...))
}

// Format names the sketch with the version of its definition, for instance "fast/1". Signatures and band
// keys compare only where Format and every field agree.
func (p Params) Format() string {
	version := curatorVersion
	if p.Sketch == Fast {
		version = FastVersion
	}
	return fmt.Sprintf("%s/%d", p.Sketch, version)
}

// NumHashes returns the number of slots in a signature.
func (p Params) NumHashes() int { return p.NumBands * p.MinhashesPerBand }

// SlotBytes returns the width of a slot in bytes: 8 for [Curator64] and 4 otherwise.
func (p Params) SlotBytes() int {
	if p.Sketch == Curator64 {
		return 8
	}
	return 4
}

// SignatureBytes returns the size of a column of signatures.
func (p Params) SignatureBytes(rows int) int { return rows * p.NumHashes() * p.SlotBytes() }

// BandKeyBytes returns the size of a column of band keys.
func (p Params) BandKeyBytes(rows int) int { return rows * p.NumBands * 8 }
