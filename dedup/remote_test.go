package dedup

import (
	"errors"
	"fmt"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// TestRankErrors: what decides about advice is found in an error that was encoded and decoded.
func TestRankErrors(t *testing.T) {
	for _, fe := range []*corpus.FileError{
		{Name: "a", Line: 3, Row: -1, RowGroup: -1, Kind: corpus.ErrRecord, Err: errors.New("no value")},
		{Name: "b", Row: 7, RowGroup: -1, Kind: corpus.ErrColumn, Err: errors.New("no column")},
		{Name: "c", Row: -1, RowGroup: 2, Kind: corpus.ErrCorrupt, Err: errors.New("short")},
	} {
		data := RankErrors{}.EncodeError(fmt.Errorf("in a task: %w", fe))
		var got *corpus.FileError
		if err := (RankErrors{}).DecodeError(data); !errors.As(err, &got) || got.Error() != fe.Error() || got.Kind != fe.Kind {
			t.Errorf("%v became %v", fe, err)
		}
	}
	input := fmt.Errorf("two files: %w", corpus.ErrInput)
	if err := (RankErrors{}).DecodeError(RankErrors{}.EncodeError(input)); !errors.Is(err, corpus.ErrInput) {
		t.Errorf("%v became %v", input, err)
	}
	if data := (RankErrors{}).EncodeError(errors.New("other")); data != nil {
		t.Errorf("%s", data)
	}
	for _, junk := range []string{"", "{", `{"Kind":9}`, `{"Kind":-1}`} {
		if err := (RankErrors{}).DecodeError([]byte(junk)); err != nil {
			t.Errorf("%q: %v", junk, err)
		}
	}
}
