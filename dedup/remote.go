package dedup

import (
	"encoding/json"
	"errors"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// RankErrors carries to rank 0 of a job which file is to blame for an error, so that it gives the same advice as one process
// alone. It is meant for [executor.JobConfig] and [executor.Isolation].
type RankErrors struct{}

// fileKinds are what [corpus.FileError].Kind can be, by their place on the wire.
var fileKinds = []error{corpus.ErrCorrupt, corpus.ErrColumn, corpus.ErrRecord, corpus.ErrChanged}

// wireError is a corpus.FileError, or with Input, a corpus.ErrInput.
type wireError struct {
	Input    bool   `json:",omitempty"`
	Name     string `json:",omitempty"`
	Line     int64  `json:",omitempty"`
	Row      int64
	RowGroup int
	Kind     int
	Text     string
}

// EncodeError implements executor.ErrorCodec.
func (RankErrors) EncodeError(err error) []byte {
	w := wireError{Input: errors.Is(err, corpus.ErrInput), Kind: -1}
	var fe *corpus.FileError
	if errors.As(err, &fe) {
		w.Name, w.Line, w.Row, w.RowGroup, w.Text = fe.Name, fe.Line, fe.Row, fe.RowGroup, fe.Err.Error()
		for i, kind := range fileKinds {
			if errors.Is(fe.Kind, kind) {
				w.Kind = i
			}
		}
	}
	if !w.Input && w.Kind < 0 {
		return nil
	}
	data, err := json.Marshal(w)
	if err != nil {
		return nil
	}
	return data
}

// DecodeError implements executor.ErrorCodec.
func (RankErrors) DecodeError(data []byte) error {
	var w wireError
	if json.Unmarshal(data, &w) != nil || w.Kind >= len(fileKinds) {
		return nil
	}
	var input, file error
	if w.Input {
		input = corpus.ErrInput
	}
	if w.Kind >= 0 {
		file = &corpus.FileError{
			Name: w.Name, Line: w.Line, Row: w.Row, RowGroup: w.RowGroup, Kind: fileKinds[w.Kind], Err: errors.New(w.Text),
		}
	}
	return errors.Join(input, file)
}
