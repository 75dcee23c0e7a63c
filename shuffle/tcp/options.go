package tcp

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/jobtls"
	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
)

const (
	maxJob    = 255
	maxSpec   = 4 << 10
	maxSecret = 4 << 10
	minSecret = jobtls.MinSecret
)

// Options says which job a rank belongs to and how it meets the others. Job, Addrs, Epoch, Spec, Secret and
// ForceTLS must be the same on all ranks, which is checked when two ranks meet.
type Options struct {
	// Job tells jobs apart that use one network: at most 255 bytes.
	Job string
	// Rank is this rank's number, an index of Addrs.
	Rank int
	// Addrs are the addresses (host:port) at which the ranks can be reached, by rank.
	Addrs []string
	// Listener is where the higher ranks reach this one. Connect owns it from then on and closes it. Only the
	// highest rank does without.
	Listener *Listener
	// Epoch counts changes of membership: ranks of different epochs do not talk.
	Epoch uint32
	// Spec is what else must be the same on all ranks, for instance a fingerprint of the options that decide the
	// job's result: at most 4 KiB. It appears in errors.
	Spec string

	// Secret is shared by the ranks of the job and nobody else: 16 to 4096 random bytes. It is needed, and TLS
	// used, when an address or the listener's is not a loopback address, or with ForceTLS.
	Secret []byte
	// ForceTLS makes ranks use TLS on loopback addresses too.
	ForceTLS bool

	// ReceiveBudget bounds the memory for headers of messages that have arrived and were not polled, of all peers
	// together, in bytes: at least 128 KiB for each peer. Default 16 MiB, or that. Payloads are received into the
	// caller's buffers only.
	ReceiveBudget int64
	// LinkTimeout is how soon a cut link is noticed: by TCP_USER_TIMEOUT, where the system has it, and keep-alive
	// probes. A peer may be slow to poll and to accept for any time, but one whose process is stopped for longer
	// while something is on the way to it counts as cut off. Default 10 s.
	LinkTimeout time.Duration
	// HandshakeTimeout bounds the greeting of one connection. Default 10 s.
	HandshakeTimeout time.Duration
	// CloseTimeout bounds how long Close waits for peers to take what was posted. Default 2 s.
	CloseTimeout time.Duration

	// Network makes the connections; nil means the system's TCP.
	Network Network
	// Alloc makes the buffers of Transport.Alloc. Default mem.Host().
	Alloc mem.Allocator
	// Log, if not nil, is given one line for every connection that Connect turns away. It may be called from any
	// goroutine, but not after Connect has returned.
	Log func(line string)
}

// EnsureDefaults fills in what is zero and has a default.
func (o *Options) EnsureDefaults() {
	if o.ReceiveBudget == 0 {
		o.ReceiveBudget = max(16<<20, o.leastBudget())
	}
	if o.LinkTimeout == 0 {
		o.LinkTimeout = 10 * time.Second
	}
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = 10 * time.Second
	}
	if o.CloseTimeout == 0 {
		o.CloseTimeout = 2 * time.Second
	}
	if o.Alloc == nil {
		o.Alloc = mem.Host()
	}
}

func (o *Options) leastBudget() int64 { return link.LeastBudget(len(o.Addrs)) }
func (o *Options) window() int        { return link.Window(o.ReceiveBudget, len(o.Addrs)) }

// Validate returns every fault in one error, or nil. Defaults must have been filled in.
func (o *Options) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("tcp: Options."+format, args...))
		}
	}
	size := len(o.Addrs)
	fault(len(o.Job) > maxJob, "Job has %d bytes, at most %d are possible", len(o.Job), maxJob)
	fault(len(o.Spec) > maxSpec, "Spec has %d bytes, at most %d are possible; give a fingerprint", len(o.Spec), maxSpec)
	fault(size == 0, "Addrs is empty; give the address of every rank")
	fault(size > 0 && (o.Rank < 0 || o.Rank >= size), "Rank is %d, but Addrs has ranks 0 to %d", o.Rank, size-1)
	fault(o.Listener == nil && o.Rank < size-1, "Listener is missing; rank %d is called by %d others", o.Rank, size-1-o.Rank)
	for r, a := range o.Addrs {
		_, port, err := net.SplitHostPort(a)
		fault(err != nil || port == "" || port == "0", "Addrs has %q for rank %d, should be host:port", a, r)
	}
	fault(o.ReceiveBudget < o.leastBudget(), "ReceiveBudget is %d, too small for %d ranks; give at least %d",
		o.ReceiveBudget, size, o.leastBudget())
	fault(o.LinkTimeout < 0, "LinkTimeout is %s, must be positive", o.LinkTimeout)
	fault(o.HandshakeTimeout < 0, "HandshakeTimeout is %s, must be positive", o.HandshakeTimeout)
	fault(o.CloseTimeout < 0, "CloseTimeout is %s, must be positive", o.CloseTimeout)
	fault(o.Alloc == nil || !o.Alloc.Tier().Addressable(), "Alloc must make buffers that the processor can read")
	if n := len(o.Secret); n > 0 {
		fault(n < minSecret || n > maxSecret, "Secret has %d bytes, must be %d to %d random ones, the same on all ranks",
			n, minSecret, maxSecret)
	} else if why := o.needTLS(); why != "" {
		fault(true, "Secret is missing, but %s; give all ranks the same %d or more random bytes "+
			"(for instance: openssl rand -hex 32)", why, minSecret)
	}
	return errors.Join(faults...)
}

// needTLS says why the links must be encrypted, or nothing if they need not be.
func (o *Options) needTLS() string {
	if o.ForceTLS {
		return "ForceTLS is set"
	}
	for r, a := range o.Addrs {
		if !jobtls.Loopback(a) {
			return fmt.Sprintf("the address %s of rank %d is not a loopback address", a, r)
		}
	}
	if l := o.Listener; l != nil && !jobtls.Loopback(l.Addr()) {
		return fmt.Sprintf("rank %d listens at %s, which is not a loopback address", o.Rank, l.Addr())
	}
	return ""
}
