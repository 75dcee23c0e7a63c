package curator

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// LSHOptions are the parameters of LSHStage, with Curator's names. Start from [DefaultLSHOptions].
type LSHOptions struct {
	Exec
	// Inputs are files and folders of signatures, as MinHash or Curator writes them.
	Inputs []string
	// Output is the cache folder; the result is LSHStage in it.
	Output string
	// IDField and MinhashField are the columns of the input. The ids of a bucket are a column called IDField.
	IDField, MinhashField string
	// NumBands and MinhashesPerBand cut a signature, which has at least as many hashes as both together.
	NumBands, MinhashesPerBand int
	// BandsPerIteration is how many bands share a folder; it decides names of buckets and partitions.
	BandsPerIteration int
	// TotalNparts is the number of partitions of an iteration; 0 means the largest power of two that is not above the
	// number of groups of InputBlocksize that the input makes.
	TotalNparts int
	// InputBlocksize is a size such as "2GiB".
	InputBlocksize string
}

// DefaultLSHOptions returns Curator's defaults: 20 bands of 13, 5 at a time, groups of 2 GiB.
func DefaultLSHOptions() LSHOptions {
	return LSHOptions{
		IDField: IDColumn, MinhashField: MinhashColumn, NumBands: 20, MinhashesPerBand: 13, BandsPerIteration: 5, InputBlocksize: "2GiB",
	}
}

func (o *LSHOptions) validate() error {
	var f faults
	o.Exec.validate(&f)
	f.check(len(o.Inputs) > 0, "--input: name the folder with the signatures, MinHashStage")
	f.check(o.Output != "", "--output: name the cache folder")
	validateBands(&f, o.NumBands, o.MinhashesPerBand, o.BandsPerIteration, o.TotalNparts)
	n, err := ParseSize(o.InputBlocksize)
	f.check(err == nil && n > 0, "--input-blocksize %q: give a size such as 2GiB", o.InputBlocksize)
	return f.err()
}

func validateBands(f *faults, bands, rows, perIteration, nparts int) {
	f.check(bands >= 1 && bands <= lsh.MaxHashes, "--num-bands %d: must be at least 1", bands)
	f.check(rows >= 1 && rows <= lsh.MaxHashes, "--minhashes-per-band %d: must be at least 1", rows)
	f.check(bands < 1 || rows < 1 || bands > lsh.MaxHashes || rows > lsh.MaxHashes || bands*rows <= lsh.MaxHashes,
		"--num-bands %d, --minhashes-per-band %d: at most %d hashes together", bands, rows, lsh.MaxHashes)
	f.check(perIteration >= 1 && perIteration <= bands,
		"--bands-per-iteration %d: must be from 1 to the number of bands, %d", perIteration, bands)
	f.check(nparts >= 0 && nparts <= maxNparts, "--total-nparts %d: must be from 1 to %d, or 0 to go by the input", nparts, maxNparts)
}

// maxNparts bounds the partitions of a shuffle: each costs a buffer in every inserting actor.
const maxNparts = 1 << 14

// LSHResult is what the stage says of itself.
type LSHResult struct {
	Buckets    int64 `json:"buckets"`      // of two documents and more, over all bands
	Members    int64 `json:"members"`      // of these buckets together
	Largest    int64 `json:"largest"`      // members of the largest
	Partitions int   `json:"total_nparts"` // of each iteration
	Iterations int   `json:"iterations"`
	// AlreadyDone is set when the output was there before the call, which then did nothing.
	AlreadyDone bool `json:"-"`
}

// LSH finds the buckets: documents whose signatures agree in a whole band. Buckets of one document are left out.
func LSH(ctx context.Context, o LSHOptions) (*LSHResult, error) {
	o.Exec.ensureDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := o.agree(ctx); err != nil {
		return nil, err
	}
	in, err := findTables(o.Inputs)
	if err != nil {
		return nil, err
	}
	block, err := ParseSize(o.InputBlocksize)
	if err != nil {
		return nil, err
	}
	nparts := o.TotalNparts
	if nparts == 0 {
		sizes := make([]fileSize, len(in))
		for i, f := range in {
			sizes[i] = fileSize{i, f.Path, f.Size}
		}
		nparts = min(maxNparts, 1<<(bits.Len(uint(len(partition(sizes, block))))-1))
	}
	j, err := newJob("lsh", o.Exec, 1, struct {
		Inputs            []inputFile `json:"inputs"`
		IDField           string      `json:"id_field"`
		MinhashField      string      `json:"minhash_field"`
		NumBands          int         `json:"num_bands"`
		MinhashesPerBand  int         `json:"minhashes_per_band"`
		BandsPerIteration int         `json:"bands_per_iteration"`
		TotalNparts       int         `json:"total_nparts"`
	}{in, o.IDField, o.MinhashField, o.NumBands, o.MinhashesPerBand, o.BandsPerIteration, nparts}, filepath.Join(o.Output, LSHDir))
	if err != nil {
		return nil, err
	}
	if err := j.apart(o.Inputs); err != nil {
		return nil, err
	}
	res := new(LSHResult)
	done, err := j.finished(ctx, res)
	if err != nil {
		return nil, err
	}
	if res.AlreadyDone = done; done {
		return res, nil
	}
	return res, j.run(ctx, func(ctx context.Context) (any, error) {
		tasks, err := signatureTasks(ctx, in)
		if err != nil {
			return nil, err
		}
		res.Partitions = nparts
		for lo := 0; lo < o.NumBands; lo += o.BandsPerIteration {
			res.Iterations++
			if len(tasks) == 0 {
				return nil, fmt.Errorf("curator: %s has no documents", o.Inputs[0])
			}
			out, err := j.ex.Shuffle(ctx, lshStage{j, &o, lo, min(o.NumBands, lo+o.BandsPerIteration), nparts}, tasks)
			if err != nil {
				return nil, err
			}
			parts, err := flow.DecodeAll[lshPart](out)
			if err != nil {
				return nil, err
			}
			for _, p := range parts {
				res.Buckets += p.Buckets
				res.Members += p.Members
				res.Largest = max(res.Largest, p.Largest)
			}
		}
		return res, nil
	})
}

// findTables lists the Parquet files of inputs, in natural order of their paths: part.10 follows part.9.
func findTables(inputs []string) ([]inputFile, error) {
	var out []inputFile
	seen := make(map[string]bool)
	add := func(path string) error {
		abs, err := filepath.Abs(path)
		if err != nil || seen[abs] {
			return err
		}
		seen[abs] = true
		f, err := os.Open(abs)
		if err != nil {
			return err
		}
		st, err := f.Stat()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		// The end of a Parquet file says where everything is, and how much.
		h := sha256.New()
		_, err = io.Copy(h, io.NewSectionReader(f, max(0, st.Size()-64<<10), 64<<10))
		out = append(out, inputFile{abs, st.Size(), st.ModTime(), hex.EncodeToString(h.Sum(nil)[:16])})
		return errors.Join(err, f.Close())
	}
	for _, in := range inputs {
		in, err := filepath.EvalSymlinks(in) // a walk does not follow its root
		if err != nil {
			return nil, fmt.Errorf("curator: %w: a folder to read from cannot be used", err)
		}
		err = filepath.WalkDir(in, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path != in && strings.HasSuffix(path, ".partial"):
				return filepath.SkipDir
			case d.IsDir() || path != in && !strings.EqualFold(filepath.Ext(path), ".parquet") || strings.HasPrefix(d.Name(), "."):
				return nil
			}
			return add(path)
		})
		if err != nil {
			return nil, fmt.Errorf("curator: --input: %w", err)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("curator: --input: %s has no Parquet files in it", strings.Join(inputs, ", "))
	}
	slices.SortFunc(out, func(a, b inputFile) int { return naturalCompare(a.Path, b.Path) })
	return out, nil
}

// naturalCompare compares runs of digits as numbers and the rest bytewise.
func naturalCompare(a, b string) int {
	digits := func(s string) int {
		n := 0
		for n < len(s) && '0' <= s[n] && s[n] <= '9' {
			n++
		}
		return n
	}
	for len(a) > 0 && len(b) > 0 {
		m, n := digits(a), digits(b)
		if m == 0 || n == 0 {
			if a[0] != b[0] {
				return int(a[0]) - int(b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		x, y := strings.TrimLeft(a[:m], "0"), strings.TrimLeft(b[:n], "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		if m != n {
			return m - n
		}
		a, b = a[m:], b[n:]
	}
	return len(a) - len(b)
}

// tableRange is some row groups of a table.
type tableRange struct {
	File       string `json:"file"`
	First, End int    // row groups
}

// signatureTasks cuts files of signatures into tasks of some row groups each.
func signatureTasks(ctx context.Context, in []inputFile) ([]executor.Task, error) {
	const perTask = 32 << 20
	var ranges []tableRange
	var sizes []int64
	for _, f := range in {
		t, err := openTable(ctx, f.Path)
		if err != nil {
			return nil, err
		}
		held := int64(0)
		for g := range t.groups() {
			if g == 0 || held >= perTask {
				ranges, sizes, held = append(ranges, tableRange{File: f.Path, First: g}), append(sizes, 0), 0
			}
			held += t.r.MetaData().RowGroup(g).TotalByteSize()
			ranges[len(ranges)-1].End, sizes[len(sizes)-1] = g+1, held
		}
		if err := t.close(); err != nil {
			return nil, err
		}
	}
	tasks, err := flow.EncodeTasks("rows", ranges)
	for i := range tasks {
		tasks[i].Size = sizes[i]
	}
	return tasks, err
}

// lshStage is one iteration: the bands [lo, hi). A partition is what Curator's is, murmur3 of the bucket string; a record
// is the band's number in the iteration, the MD5 and the id.
type lshStage struct {
	*job
	o      *LSHOptions
	lo, hi int
	nparts int
}

// lshPart describes a partition.
type lshPart struct {
	Buckets int64 `json:"buckets"`
	Members int64 `json:"members"`
	Largest int64 `json:"largest"`
}

var bucketRecords = flow.Layout{Kind: 'b', Words: 4}

func (s lshStage) Name() string    { return fmt.Sprintf("lsh-%05d-%05d", s.lo, s.hi) }
func (s lshStage) TotalParts() int { return s.nparts }

func (s lshStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &lshActor{lshStage: s, env: env}, nil
}

type lshActor struct {
	lshStage
	env *executor.Env
}

func (a *lshActor) Close() error { return nil }

// signBit makes the order of int64 that of uint64.
const signBit = 1 << 63

func (a *lshActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) (err error) {
	in, err := flow.DecodeTask[tableRange](task)
	if err != nil {
		return err
	}
	t, err := openTable(ctx, in.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	w := &bucketWriter{lshActor: a, ctx: ctx, out: a.records(out, bucketRecords, a.nparts), keys: newKeyHasher(a.nparts)}
	defer w.keys.release()
	for g := in.First; g < in.End; g++ {
		err := t.guarded(func() error { return w.group(t, g) })
		if err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	return w.out.Flush(ctx)
}

// bucketWriter turns signatures into records.
type bucketWriter struct {
	*lshActor
	ctx  context.Context
	out  *flow.RecordWriter
	keys *keyHasher
	rows [][4]uint64 // records whose partition is not known yet
	sig  []byte
	name []byte
}

// group reads a row group.
func (w *bucketWriter) group(t *tableFile, g int) error {
	idColumn, err := t.column("--id-field", w.o.IDField, parquet.Types.Int64)
	if err != nil {
		return err
	}
	sigColumn, err := t.list("--minhash-field", w.o.MinhashField)
	if err != nil {
		return err
	}
	ids, err := t.open(g, idColumn)
	if err != nil {
		return err
	}
	sigs, err := t.open(g, sigColumn)
	if err != nil {
		return err
	}
	wide := t.physical(sigColumn) == parquet.Types.Int64
	need := w.o.NumBands * w.o.MinhashesPerBand
	for row := range t.groupRows(g) {
		id, err := ids.int()
		if err != nil {
			return err
		}
		w.sig = w.sig[:0]
		n := 0
		null, err := sigs.each(func(v uint64) error {
			if n++; n > need {
				return nil // more than the bands take
			}
			if wide {
				w.sig = binary.LittleEndian.AppendUint64(w.sig, v)
			} else {
				w.sig = binary.LittleEndian.AppendUint32(w.sig, uint32(v))
			}
			return nil
		})
		if err != nil {
			return err
		}
		if !null && n < need {
			return t.bad("row %d of row group %d (both counted from 0) has a signature of %d hashes, and %d bands of %d need %d", row, g, n,
				w.o.NumBands, w.o.MinhashesPerBand, need)
		}
		if err := w.add(uint64(id) ^ signBit); err != nil {
			return callbackError{err}
		}
	}
	return nil
}

// add adds the buckets of the document whose signature is at hand; that of a null is empty.
func (w *bucketWriter) add(id uint64) error {
	size := len(w.sig) / w.o.NumBands
	for band := w.lo; band < w.hi; band++ {
		// cuDF passes over a null, and what is left is the hash of nothing.
		sum := md5.Sum(w.sig[band*size : (band+1)*size])
		rel := uint64(band - w.lo)
		w.name = bucketName(w.name[:0], rel, sum)
		w.keys.string(w.name)
		w.rows = append(w.rows, [4]uint64{rel, binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:]), id})
	}
	if len(w.rows) >= 4096 {
		return w.flush()
	}
	return nil
}

// bucketName appends what Curator calls a bucket.
func bucketName(dst []byte, rel uint64, sum [md5.Size]byte) []byte {
	dst = append(dst, 'b')
	dst = strconv.AppendUint(dst, rel, 10)
	dst = append(dst, '_')
	return hex.AppendEncode(dst, sum[:])
}

// flush sends the records to their partitions.
func (w *bucketWriter) flush() error {
	parts, err := w.keys.parts()
	if err != nil {
		return err
	}
	for i, r := range w.rows {
		if err := w.out.Add(w.ctx, int(parts[i]), r[:]...); err != nil {
			return err
		}
	}
	w.rows = w.rows[:0]
	return nil
}

// keyHasher says which partition cuDF's hash_partition puts a key into.
type keyHasher struct {
	nparts uint32
	b      array.Builder
}

func newKeyHasher(nparts int) *keyHasher {
	return &keyHasher{uint32(nparts), array.NewBuilder(memory.DefaultAllocator, arrow.BinaryTypes.String)}
}

func newIntHasher(nparts int) *keyHasher {
	return &keyHasher{uint32(nparts), array.NewBuilder(memory.DefaultAllocator, arrow.PrimitiveTypes.Int64)}
}

func (h *keyHasher) string(key []byte) { h.b.(*array.StringBuilder).BinaryBuilder.Append(key) }
func (h *keyHasher) int(key int64)     { h.b.(*array.Int64Builder).Append(key) }
func (h *keyHasher) release()          { h.b.Release() }

// parts returns the partitions of the keys since the last call.
func (h *keyHasher) parts() ([]uint32, error) {
	col := h.b.NewArray()
	defer col.Release()
	schema := arrow.NewSchema([]arrow.Field{{Name: "key", Type: col.DataType()}}, nil)
	batch := array.NewRecordBatch(schema, []arrow.Array{col}, int64(col.Len()))
	defer batch.Release()
	hashes, err := columns.HashRows(batch, []int{0}, 0)
	if err != nil {
		return nil, err
	}
	for i := range hashes {
		hashes[i] %= h.nparts // which is what a mask does where the number is a power of two
	}
	return hashes, nil
}

// Row groups of buckets.
const (
	bucketGroupRows  = 16 << 10
	bucketGroupBytes = 2 << 20
)

func (a *lshActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) (_ []executor.Task, err error) {
	s := a.sorter(a.env, 4, false)
	defer s.Close()
	err = flow.EachRecord(ctx, part, bucketRecords, func(w []uint64, _ []byte) error { return s.Add(w, nil) })
	if err != nil {
		return nil, err
	}
	dst, err := a.placeFile(out, 0, fmt.Sprintf("band_%d-band_%d/part.%d.parquet", a.lo, a.hi, part.Index()))
	if err != nil {
		return nil, err
	}
	t, err := newTable(dst, field{BucketColumn, kindString}, field{a.o.IDField, kindIDs})
	if err != nil {
		return nil, err
	}
	b := &bucketTable{t: t}
	if err := s.Each(ctx, b.row); err != nil {
		return nil, err
	}
	if err := b.end(); err != nil {
		return nil, err
	}
	out.Count("buckets", b.res.Buckets)
	return []executor.Task{flow.PartTask(part.Index(), b.res)}, errors.Join(t.close(), dst.Close())
}

// bucketTable writes buckets of two and more from sorted records. A bucket may have any number of members: what is too much
// for a row group is written as it comes.
type bucketTable struct {
	t       *table
	res     lshPart
	key     [3]uint64
	first   int64 // member of the bucket at hand
	members int64 // of it so far
	giant   bool  // it is being written as it comes
}

func (b *bucketTable) row(w []uint64, _ []byte) error {
	id := int64(w[3] ^ signBit)
	if key := [3]uint64(w); b.members == 0 || key != b.key {
		if err := b.end(); err != nil {
			return err
		}
		b.key, b.first, b.members = key, id, 1
		return nil
	}
	b.members++
	if b.giant {
		return b.t.extend(id)
	}
	if b.members == 2 {
		var sum [md5.Size]byte
		binary.BigEndian.PutUint64(sum[:], b.key[1])
		binary.BigEndian.PutUint64(sum[8:], b.key[2])
		b.t.string(0, bucketName(nil, b.key[0], sum))
		b.t.id(1, true, b.first)
	}
	b.t.id(1, false, id)
	if b.t.size < 2*bucketGroupBytes {
		return nil
	}
	b.giant = true
	return b.t.begin()
}

// end completes the bucket at hand.
func (b *bucketTable) end() error {
	n := b.members
	b.members = 0
	if n < 2 {
		return nil
	}
	b.res.Buckets++
	b.res.Members += n
	b.res.Largest = max(b.res.Largest, n)
	if b.giant {
		b.giant = false
		return b.t.end()
	}
	return b.t.next(bucketGroupRows, bucketGroupBytes)
}
