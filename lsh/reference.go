package lsh

// Reference computes signatures and band keys one document at a time from the plainest code there is. It is
// the specification that every [Kernels] is compared with, and slow. It is safe for concurrent use.
type Reference struct {
	params Params
	a, b   []uint64 // permutations of the Curator sketches
	fast   FastConstants
}

// NewReference returns the reference for p. The error is that of [Params.Validate].
func NewReference(p Params) (*Reference, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	r := &Reference{params: p}
	if p.Sketch == Fast {
		r.fast = p.FastConstants()
	} else {
		r.a, r.b = p.Permutations()
	}
	return r, nil
}

// Sign returns the NumHashes slots of a text, widened to 64 bits. They are 0 for an empty text.
func (r *Reference) Sign(text []byte) []uint64 {
	switch r.params.Sketch {
	case Curator32:
		return curator32Generic(text, r.params.CharNgrams, r.a, r.b)
	case Curator64:
		return curator64Generic(text, r.params.CharNgrams, r.a, r.b)
	default:
		return fastGeneric(text, r.params.CharNgrams, &r.fast)
	}
}

// BandKeys returns the key of every band of a signature that Sign made.
func (r *Reference) BandKeys(signature []uint64) []uint64 {
	keys := make([]uint64, r.params.NumBands)
	for band := range keys {
		first := band * r.params.MinhashesPerBand
		keys[band] = BandKey(band, signature[first:first+r.params.MinhashesPerBand])
	}
	return keys
}
