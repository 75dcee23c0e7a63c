package lsh

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Kernels computes signatures and band keys of whole columns on some device. Columns are buffers of the
// device's tier, so that a result feeds the next call without a copy to the host.
//
// A method may return before its work is done. The fence says when the result may be read by the processor;
// until then the caller keeps its references to every buffer passed. Calls on the same Kernels see the
// results of earlier calls without waiting for their fences. A method that returns an error has started
// nothing and returns a nil fence; what goes wrong later is the error of the fence. Unless an implementation
// says otherwise, its methods are called by one goroutine at a time.
type Kernels interface {
	// Params returns the parameters that the kernels were made for.
	Params() Params
	// Tier returns the tier that all columns must be in. TierHost stands for every addressable tier.
	Tier() mem.Tier
	// Sign writes the signature of every text to out: Params().SignatureBytes(texts.Rows) bytes, row after
	// row, each NumHashes slots of SlotBytes bytes in the machine's byte order. Slots of null and of empty
	// texts are 0; a null is what texts.Valid says is one, whatever its bytes.
	Sign(ctx context.Context, texts *mem.Strings, out *mem.Buffer) (mem.Fence, error)
	// BandKeys writes the band keys of a column of signatures to out: Params().BandKeyBytes(rows) bytes, one
	// uint64 for each row and band, band after band: the key of band b of row i is value b*rows+i.
	BandKeys(ctx context.Context, signatures *mem.Buffer, rows int, out *mem.Buffer) (mem.Fence, error)
	// Close releases what the kernels hold. No call may be under way or follow.
	Close() error
}

// ErrColumn is wrapped by errors about a column that is too small or in the wrong tier.
var ErrColumn = errors.New("unsuitable column")

// CheckSign returns an error if texts and out are not what Sign of kernels with these parameters and in this
// tier takes.
func CheckSign(p Params, tier mem.Tier, texts *mem.Strings, out *mem.Buffer) error {
	if err := checkTexts(texts, tier); err != nil {
		return err
	}
	return checkColumn("sign", "signatures", out, tier, p.SignatureBytes(texts.Rows))
}

func checkTexts(texts *mem.Strings, tier mem.Tier) error {
	if texts == nil || texts.Rows < 0 || texts.Offsets == nil || texts.Data == nil {
		return fmt.Errorf("lsh: sign: %w: no texts", ErrColumn)
	}
	for _, b := range []*mem.Buffer{texts.Offsets, texts.Data, texts.Valid} {
		if b != nil && !fits(b.Tier(), tier) {
			return fmt.Errorf("lsh: sign: %w: texts are in tier %s, not %s", ErrColumn, b.Tier(), tier)
		}
	}
	if texts.Offsets.Len()/8 < texts.Rows+1 {
		return fmt.Errorf("lsh: sign: %w: %d texts have %d bytes of offsets", ErrColumn, texts.Rows, texts.Offsets.Len())
	}
	if texts.Valid != nil && texts.Valid.Len() < (texts.Rows+7)/8 {
		return fmt.Errorf("lsh: sign: %w: %d texts have %d bytes of validity", ErrColumn, texts.Rows, texts.Valid.Len())
	}
	return nil
}

// CheckBandKeys is [CheckSign] for BandKeys.
func CheckBandKeys(p Params, tier mem.Tier, signatures *mem.Buffer, rows int, out *mem.Buffer) error {
	if rows < 0 {
		return fmt.Errorf("lsh: band keys: %w: %d rows", ErrColumn, rows)
	}
	if err := checkColumn("band keys", "signatures", signatures, tier, p.SignatureBytes(rows)); err != nil {
		return err
	}
	return checkColumn("band keys", "keys", out, tier, p.BandKeyBytes(rows))
}

func checkColumn(call, what string, b *mem.Buffer, tier mem.Tier, size int) error {
	switch {
	case b == nil:
		return fmt.Errorf("lsh: %s: %w: no buffer of %s", call, ErrColumn, what)
	case !fits(b.Tier(), tier):
		return fmt.Errorf("lsh: %s: %w: %s are in tier %s, not %s", call, ErrColumn, what, b.Tier(), tier)
	case b.Len() < size:
		return fmt.Errorf("lsh: %s: %w: %s need %d bytes, the buffer has %d", call, ErrColumn, what, size, b.Len())
	}
	return nil
}

// fits reports whether a buffer of tier have will do where want is asked for.
func fits(have, want mem.Tier) bool {
	return have == want || want == mem.TierHost && have.Addressable()
}

// view returns the slots of a row. Rows start at multiples of the slot size in buffers that are aligned.
func view[T Slot](row []byte) []T {
	var t T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(row))), len(row)/int(unsafe.Sizeof(t)))
}
