package dedup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// Spec holds every option that decides results. Two runs over the same input with equal Specs have the same
// digest, whatever their [Exec]. It is hashed into the name of the work folder and stored with the result, and
// a run is only resumed under the Spec it was started with.
//
// The zero value is not a valid Spec; start from [DefaultSpec].
type Spec struct {
	// Sketch is the MinHash sketch: "fast", "curator32" or "curator64".
	Sketch string `json:"sketch"`
	// NumBands is the number of bands.
	NumBands int `json:"num_bands"`
	// MinhashesPerBand is the number of rows per band: the signature slots that make one band.
	MinhashesPerBand int `json:"minhashes_per_band"`
	// CharNgrams is the width of a shingle in Unicode code points.
	CharNgrams int `json:"char_ngrams"`
	// Seed selects the permutations.
	Seed uint64 `json:"seed"`
	// Verify is "exact": a document is removed only against a kept one whose exact Jaccard similarity was
	// computed and reaches Threshold; or "none": the connected components of the candidates decide.
	Verify string `json:"verify"`
	// Threshold is the least Jaccard similarity of a duplicate, as a decimal or a fraction.
	Threshold string `json:"threshold"`
	// Keep says which document of a cluster is preferred: "first" in input order, "longest" in code
	// points, or "field:NAME" for the largest value of a numeric column.
	Keep string `json:"keep"`
	// Empty says what happens to null and empty texts: "keep" all of them, or "dedup" to one.
	Empty string `json:"empty"`
	// Normalize is what is done to a text before it is compared: "none" or a comma-separated list.
	Normalize string `json:"normalize"`
	// UnicodeTables names the versions of the tables that Normalize uses, which come with the compiler. A run
	// sets it; it is empty where nothing is normalized.
	UnicodeTables string `json:"unicode_tables,omitempty"`
	// TextField is the column that holds the text. It means nothing for text files.
	TextField string `json:"text_field"`
	// IDField is the column that holds the documents' ids, or "" for generated ones.
	IDField string `json:"id_field,omitempty"`
	// OnBadFile says what happens when a file is damaged or lacks a column: "error", or "skip" to leave it out as a
	// whole. OnBadRecord says the same of a single line or row that cannot be used, which is then left out of kept/.
	OnBadFile   string `json:"on_bad_file"`
	OnBadRecord string `json:"on_bad_record"`
	// Write is what is written beside the tables: "kept", the input files without what was removed; "annotate", the input
	// files with columns that say what became of each document; or "ids", nothing.
	Write string `json:"write"`
	// Format is the input format, or "" to go by the file names.
	Format string `json:"format,omitempty"`
}

// DefaultSpec returns the defaults: NeMo Curator's parameters with the fast sketch and exact verification.
func DefaultSpec() Spec {
	return Spec{
		Sketch:           "fast",
		NumBands:         20,
		MinhashesPerBand: 13,
		CharNgrams:       24,
		Seed:             42,
		Verify:           VerifyExact,
		Threshold:        "0.8",
		Keep:             KeepFirst,
		Empty:            EmptyKeep,
		Normalize:        "none",
		TextField:        "text",
		Write:            WriteKept,
		OnBadFile:        OnBadError,
		OnBadRecord:      OnBadError,
	}
}

// Values of [Spec] fields.
const (
	VerifyExact = "exact"
	VerifyNone  = "none"

	KeepFirst       = "first"
	KeepLongest     = "longest"
	KeepFieldPrefix = "field:"

	WriteKept     = "kept"
	WriteAnnotate = "annotate"
	WriteIDs      = "ids"

	EmptyKeep  = "keep"
	EmptyDedup = "dedup"

	OnBadError = "error"
	OnBadSkip  = "skip"
)

// Params returns the parameters of the sketch.
func (s *Spec) Params() lsh.Params {
	return lsh.Params{
		Sketch:           lsh.Sketch(s.Sketch),
		NumBands:         s.NumBands,
		MinhashesPerBand: s.MinhashesPerBand,
		CharNgrams:       s.CharNgrams,
		Seed:             s.Seed,
	}
}

// KeepField returns the column named by Keep, or "".
func (s *Spec) KeepField() string {
	name, _ := strings.CutPrefix(s.Keep, KeepFieldPrefix)
	if name == s.Keep {
		return ""
	}
	return name
}

// folder is the folder of the output in which the files of the input are, "" if they are not written.
func (s *Spec) folder() string {
	switch s.Write {
	case WriteKept:
		return "kept"
	case WriteAnnotate:
		return "annotated"
	}
	return ""
}

// Validate reports every fault of the Spec at once.
func (s *Spec) Validate() error {
	var errs []error
	oneOf := func(what, got string, want ...string) {
		for _, w := range want {
			if got == w {
				return
			}
		}
		errs = append(errs, fmt.Errorf("--%s %q: must be %s", what, got, strings.Join(want, " or ")))
	}
	params := s.Params()
	if err := params.Validate(); err != nil {
		errs = append(errs, err)
	}
	oneOf("verify", s.Verify, VerifyExact, VerifyNone)
	oneOf("write", s.Write, WriteKept, WriteAnnotate, WriteIDs)
	if s.Write == WriteAnnotate && corpus.Format(s.Format) == corpus.Files {
		errs = append(errs, errors.New("--write annotate has no meaning with --format files: a text has no columns to say it in; use kept or ids"))
	}
	oneOf("empty", s.Empty, EmptyKeep, EmptyDedup)
	oneOf("on-bad-file", s.OnBadFile, OnBadError, OnBadSkip)
	oneOf("on-bad-record", s.OnBadRecord, OnBadError, OnBadSkip)
	if !strings.HasPrefix(s.Keep, KeepFieldPrefix) {
		oneOf("keep", s.Keep, KeepFirst, KeepLongest, KeepFieldPrefix+"NAME")
	} else if s.KeepField() == "" {
		errs = append(errs, errors.New("--keep \"field:\": name the column, as in field:quality"))
	}
	if _, err := lsh.ParseThreshold(s.Threshold); err != nil {
		errs = append(errs, err)
	}
	if _, err := lsh.ParseNormalization(s.Normalize); err != nil {
		errs = append(errs, err)
	}
	if s.TextField == "" {
		errs = append(errs, errors.New("--text-field: name the column that holds the text"))
	}
	return errors.Join(errs...)
}

// parse reads the options that are written as text.
func (s *Spec) parse() (lsh.Normalization, lsh.Threshold, error) {
	n, err := lsh.ParseNormalization(s.Normalize)
	if err != nil {
		return 0, lsh.Threshold{}, err
	}
	t, err := lsh.ParseThreshold(s.Threshold)
	return n, t, err
}

// canonical brings equivalent spellings to one, so that they have one hash.
func (s *Spec) canonical() error {
	n, t, err := s.parse()
	if err != nil {
		return err
	}
	s.Threshold, s.Normalize, s.UnicodeTables = t.String(), n.String(), ""
	if n != 0 {
		s.UnicodeTables = lsh.NormalizationTables()
	}
	return nil
}

// Hash returns 16 hexadecimal digits that name the Spec.
func (s *Spec) Hash() string {
	sum := sha256.Sum256(append([]byte("dovetail spec 1\n"), s.encode()...))
	return hex.EncodeToString(sum[:8])
}

func (s *Spec) encode() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a struct of strings and integers always encodes
	return b.Bytes()
}

// Diff names the fields in which s and other differ, with both values, in the words of the command line.
func (s *Spec) Diff(other *Spec) []string {
	var out []string
	a, b := reflect.ValueOf(*s), reflect.ValueOf(*other)
	for i := range a.NumField() {
		if x, y := a.Field(i).Interface(), b.Field(i).Interface(); x != y {
			name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("json"), ",")
			out = append(out, fmt.Sprintf("--%s was %v and is now %v", strings.ReplaceAll(name, "_", "-"), x, y))
		}
	}
	return out
}
