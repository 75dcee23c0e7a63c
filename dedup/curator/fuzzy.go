package curator

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
)

// FuzzyOptions are the parameters of FuzzyDeduplicationWorkflow, with Curator's names. Start from
// [DefaultFuzzyOptions].
type FuzzyOptions struct {
	Exec
	InputOptions
	// Cache is the folder for what lies between documents and ids (cache_path).
	Cache string
	// Output is the folder for FuzzyDuplicateIds and the state of the id generator (output_path).
	Output string

	Seed                       uint64
	CharNgrams                 int
	NumBands, MinhashesPerBand int
	Use64BitHash               bool
	BandsPerIteration          int
	LSHNumOutputPartitions     int // 0 means the largest power of two not above the 2 GiB groups of signatures
	ComponentsFiles            int // [ComponentsOptions].Files
}

// DefaultFuzzyOptions returns Curator's defaults: groups of 1 GiB, windows of 24 code points, 20 bands of 13, seed 42, 5
// bands an iteration.
func DefaultFuzzyOptions() FuzzyOptions {
	return FuzzyOptions{
		InputOptions: InputOptions{InputBlocksize: "1GiB"},
		Seed:         42, CharNgrams: 24, NumBands: 20, MinhashesPerBand: 13, BandsPerIteration: 5, ComponentsFiles: 1,
	}
}

// FuzzyResult is the metadata of the workflow, with Curator's names. Times are seconds.
type FuzzyResult struct {
	MinhashTime    float64 `json:"minhash_time"`
	LSHTime        float64 `json:"lsh_time"`
	ComponentsTime float64 `json:"connected_components_pipeline_time"`
	TotalTime      float64 `json:"total_time"`
	NumDuplicates  int64   `json:"num_duplicates"`
	IDGenerator    string  `json:"id_generator_path"` // empty with ids of the user's

	MinHash    *MinHashResult    `json:"-"`
	LSH        *LSHResult        `json:"-"`
	Components *ComponentsResult `json:"-"`
}

// Fuzzy runs the whole workflow: MinHash, LSH and Components. A call that was interrupted goes on where it was. If no two
// documents share a bucket, the last stages write nothing.
func Fuzzy(ctx context.Context, o FuzzyOptions) (*FuzzyResult, error) {
	o.Exec.ensureDefaults()
	if o.Work != "" && !o.KeepWork && o.Job.Root() {
		defer os.Remove(o.Work) // if all stages have removed theirs from it
	}
	var f faults
	f.check(o.Cache != "", "--cache: name the folder for intermediate results")
	f.check(o.Output != "", "--output: name the folder for %s", FuzzyIDsDir)
	validateBands(&f, o.NumBands, o.MinhashesPerBand, o.BandsPerIteration, o.LSHNumOutputPartitions)
	validateFiles(&f, o.ComponentsFiles)
	mo := MinHashOptions{
		Exec: o.stage("minhash"), InputOptions: o.InputOptions, Output: o.Cache, IDGenerator: filepath.Join(o.Output, FuzzyIDGenerator),
		CharNgrams: o.CharNgrams, NumHashes: o.NumBands * o.MinhashesPerBand, Seed: o.Seed, Use64BitHash: o.Use64BitHash,
	}
	if err := mo.validate(); err != nil && f.err() == nil {
		return nil, err
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	started := time.Now()
	res := new(FuzzyResult)
	lap := func(seconds *float64) {
		*seconds = time.Since(started).Seconds() - res.TotalTime
		res.TotalTime += *seconds
	}
	var err error
	if res.MinHash, err = MinHash(ctx, mo); err != nil {
		return nil, err
	}
	lap(&res.MinhashTime)
	if o.IDField == "" {
		res.IDGenerator = mo.IDGenerator
	}
	lo := DefaultLSHOptions()
	lo.Exec, lo.Inputs, lo.Output = o.stage("lsh"), []string{filepath.Join(o.Cache, MinHashDir)}, o.Cache
	lo.NumBands, lo.MinhashesPerBand, lo.BandsPerIteration = o.NumBands, o.MinhashesPerBand, o.BandsPerIteration
	lo.TotalNparts = o.LSHNumOutputPartitions
	if res.MinHash.Documents == 0 {
		res.LSH, res.Components = new(LSHResult), new(ComponentsResult)
		return res, nil
	}
	if res.LSH, err = LSH(ctx, lo); err != nil {
		return nil, runfolder.Saved(err) // MinHash is
	}
	lap(&res.LSHTime)
	if res.LSH.Buckets == 0 {
		res.Components = new(ComponentsResult)
		return res, nil
	}
	co := DefaultComponentsOptions()
	co.Exec, co.Inputs, co.Cache, co.Output = o.stage("components"), []string{filepath.Join(o.Cache, LSHDir)}, o.Cache, o.Output
	co.Files = o.ComponentsFiles
	if res.Components, err = Components(ctx, co); err != nil {
		return nil, runfolder.Saved(err) // LSH is
	}
	lap(&res.ComponentsTime)
	res.NumDuplicates = res.Components.NumDuplicates
	return res, nil
}

// stage gives every stage a work folder of its own.
func (o *FuzzyOptions) stage(name string) Exec {
	e := o.Exec
	if e.Work != "" {
		e.Work = filepath.Join(e.Work, name)
	}
	return e
}
