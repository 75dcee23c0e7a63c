//go:build ucx && cgo

package ucx

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// nonceSize is the length of what makes each port another, in bytes.
const nonceSize = 16

// address is what the others are told of a port.
type address struct {
	nonce  [nonceSize]byte
	worker []byte // UCX's own
}

// addressPrefix begins the text of an address; it has the version of the protocol.
var addressPrefix = fmt.Sprintf("ucx%d:", frameVersion)

func newAddress(worker []byte) (address, error) {
	a := address{worker: worker}
	_, err := rand.Read(a.nonce[:])
	return a, err
}

func (a *address) String() string {
	return addressPrefix + base64.RawURLEncoding.EncodeToString(append(a.nonce[:], a.worker...))
}

// parseAddress reads the text of an address.
func parseAddress(text string) (a address, err error) {
	rest, ok := strings.CutPrefix(text, addressPrefix)
	if !ok {
		kind, _, _ := strings.Cut(text, ":")
		if strings.HasPrefix(kind, "ucx") {
			return a, mismatch("it speaks version %s of the protocol, here it is %d; use the same program on all ranks", kind[3:], frameVersion)
		}
		return a, mismatch("its address %.60q is none of UCX; all ranks must use the same transport", text)
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil || len(b) <= nonceSize {
		return a, mismatch("its address %.60q is damaged", text)
	}
	copy(a.nonce[:], b)
	a.worker = b[nonceSize:]
	return a, nil
}

func mismatch(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{shuffle.ErrMismatch}, args...)...)
}

// prove is a MAC over parts, of any lengths, under the job's secret. what tells uses apart.
func prove(secret []byte, what string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, secret)
	for _, p := range append([][]byte{[]byte("dovetail ucx 1 " + what)}, parts...) {
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(p))))
		_, _ = h.Write(p)
	}
	return h.Sum(nil)
}

// token is what begins every frame from one rank to another: it takes the secret, and both nonces.
func token(secret []byte, from, to int, a, b *address) uint64 {
	ranks := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(from)), uint64(to))
	return binary.LittleEndian.Uint64(prove(secret, "token", ranks, a.nonce[:], b.nonce[:]))
}

// hello is the first that a rank says to another.
type hello struct {
	rank, to, size int
	epoch          uint32
	window         int
	tags           uint32 // what the tags begin with of payloads sent to this rank
	job, spec      string
}

const (
	helloFixed = 4*6 + 2*2
	helloMost  = helloFixed + maxJob + maxSpec + sha256.Size
)

// encode returns the hello with its proof.
func (h *hello) encode(secret []byte, a, b *address) []byte {
	le := binary.LittleEndian
	var out []byte
	for _, n := range []int{h.rank, h.to, h.size, int(h.epoch), h.window, int(h.tags)} {
		out = le.AppendUint32(out, uint32(n))
	}
	out = le.AppendUint16(out, uint16(len(h.job)))
	out = le.AppendUint16(out, uint16(len(h.spec)))
	out = append(append(out, h.job...), h.spec...)
	return append(out, prove(secret, "hello", a.nonce[:], b.nonce[:], out)...)
}

// decodeHello reads a hello and checks its proof. a is the address of who sent it, b that of who got it.
func decodeHello(body, secret []byte, a, b *address) (h hello, err error) {
	n := len(body) - sha256.Size
	if n < helloFixed {
		return h, link.Protocol("a hello of %d bytes", len(body))
	}
	said, proof := body[:n], body[n:]
	if !hmac.Equal(proof, prove(secret, "hello", a.nonce[:], b.nonce[:], said)) {
		return h, mismatch("its hello does not prove that it has the job's secret")
	}
	r := bytes.NewReader(said)
	var fixed struct {
		Rank, To, Size, Epoch, Window, Tags uint32
		Job, Spec                           uint16
	}
	_ = binary.Read(r, binary.LittleEndian, &fixed) // it is long enough
	if r.Len() != int(fixed.Job)+int(fixed.Spec) || fixed.Job > maxJob || fixed.Spec > maxSpec {
		return h, link.Protocol("a hello whose job has %d bytes and whose spec has %d, of %d", fixed.Job, fixed.Spec, r.Len())
	}
	rest := string(said[helloFixed:])
	return hello{
		rank: int(fixed.Rank), to: int(fixed.To), size: int(fixed.Size), epoch: fixed.Epoch, window: int(fixed.Window), tags: fixed.Tags,
		job: rest[:fixed.Job], spec: rest[fixed.Job:],
	}, nil
}

// compare says what differs between this rank's hello to another, and the other's. "There" is the other end, so that each side's
// line is right where it is read.
func compare(mine, theirs *hello) error {
	switch {
	case theirs.job != mine.job:
		return mismatch("its job is %.100q, here it is %.100q", theirs.job, mine.job)
	case theirs.epoch != mine.epoch:
		return mismatch("its epoch is %d, here it is %d", theirs.epoch, mine.epoch)
	case theirs.size != mine.size:
		return mismatch("its job has %d ranks, here it has %d", theirs.size, mine.size)
	case theirs.spec != mine.spec:
		return mismatch("its spec is %.200q, here it is %.200q", theirs.spec, mine.spec)
	case theirs.rank != mine.to || theirs.to != mine.rank:
		return mismatch("it says that it is rank %d and talks to rank %d, but it is rank %d and this is rank %d; "+
			"Addrs must be the same on all ranks", theirs.rank, theirs.to, mine.to, mine.rank)
	case theirs.window < shuffle.MaxHeader:
		return link.Protocol("it gives credit for %d bytes of headers, less than the largest has", theirs.window)
	}
	return nil
}
