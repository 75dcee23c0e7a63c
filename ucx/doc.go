// Package ucx connects ranks over UCX: through shared memory on one machine, and between machines through whatever network UCX finds,
// RDMA and TCP among others. It implements [shuffle.Transport], and is the only package that knows UCX.
//
// It takes the build tag ucx and cgo, and UCX's headers to build (`make ucx-tools` fetches them), but no library when it is linked: one
// program runs with and without UCX. Without the tag [Open] says that this is a build without UCX. The library, libucp.so.0, is
// looked for in this order; it must be 1.17 or later, and the error says what was found at each place:
//
//   - what $DOVETAIL_UCX_LIB names, a file or a folder; then nothing else is looked at
//   - where Python's packages libucx-cu12 and libucx-cu13 put it, below $VIRTUAL_ENV and around the folder of the program
//   - wherever the system's loader finds it, and in /opt/ucx/lib, /usr/local/lib and HPC-X's folder
//
// A [Context] is UCX with one configuration. Every rank opens a [Port] on it, learns the addresses of all (over a control plane that can
// be trusted), and calls [Port.Connect].
//
// # Messages
//
// They are those of package shuffle/tcp, whose bookkeeping, package internal/link, this package shares: numbers, credit for headers, offers,
// and confirmations when the peer's caller has the message. What is said goes as active messages of UCX, which are ordered on
// a link; payloads go as tagged messages, straight from the sender's buffers into those that the receiver's caller gave.
//
//	rank 0                                                   rank 1
//	Post(OpSend)   ── message 1: header, lengths of pieces ─▶ EventOffer
//	                                                         Post(OpAccept): receives are given to UCX, then
//	               ◀─ accept 1: lengths of pieces ──────────
//	               ══ fragments of payload 1 ═══════════════▶ EventMessage
//	EventSent      ◀─ taken 1 ─────────────────────────────── (Poll has returned it)
//
// Both ends cut the payload where either has the end of a buffer, and after 8 MiB, so that a fragment lies in one buffer at each end
// and nothing is gathered or scattered. Its tag is 32 bits that the receiver chose for the sender, 20 of the number of the
// message, 12 of the fragment. A payload of up to 8 KiB, header included, comes with the announcement and is offered like any other; it
// counts against the credit with the header.
//
// # Frames
//
// Everything is little-endian and at a fixed place. An active message is a frame, or several that were said at one time, up to 4 KiB. A frame
// is a head of 48 bytes, and what it says follows:
//
//	 0       4   5   6   7   8               16      20      24
//	+-------+---+---+---+---+---------------+-------+-------+---------------+
//	| DVtu  | v | k | i | 0 | token         | rank  |pieces | number        |
//	+-------+---+---+---+---+---------------+-------+-------+---------------+
//	 32              40      44      48
//	+---------------+-------+-------+
//	| size          |length | CRC   | pieces lengths of 8 bytes, length bytes, and if i is 1 size bytes of payload
//	+---------------+-------+-------+
//	  v = 1, the version; k, the kind; rank, who says it; CRC32C of bytes 0 to 43 and the lengths
//
//	k  kind     number                  size            pieces                  length bytes
//	1  hello                                                                    see below
//	2  no                                                                       why the ranks do not work together
//	3  message  its own, from 1 on      of the payload  of the sender's buffers header of the message
//	4  accept   of the message                          of the receiver's       -
//	5  refuse   of the message                                                  -
//	6  taken    up to this message                                              -
//	7  leave                                                                    -
//	8  bye      of the last message                                             -
//	9  done     (an answer to bye)                                              -
//	10 beat     (nothing is said for long)                                      -
//
// leave says that the sender has begun to close and takes no more messages; bye, that UCX is done with all of its own. A rank that closes
// waits for done, and no longer than Options.CloseTimeout. What breaks these rules ends the link with an error that names the rank.
//
// # Meeting
//
// An address is the text ucx1: and, in base64, 16 random bytes of the port and UCX's address. For each pair and direction there is a token
// of 64 bits: HMAC-SHA256, under the job's secret, of both ranks and both ports' random bytes. Frames that do not begin with the right one are
// dropped. The first is hello: rank, rank it wants, ranks, epoch, window, tag (4 bytes each), length of job, of spec (2 bytes each), job, spec, and
// an HMAC of all that. Only then is anything else believed. Ranks that prove that they have the secret and differ in job, epoch, ranks
// or spec tell each other so, and both Connects fail at once; ranks of another version are known by their addresses.
//
// # Progress
//
// One goroutine per transport owns UCX's worker. It gives UCX everything that there is to do and gets everything that has happened in one call of
// C, in arrays of structures without pointers; C does not call Go, and no message takes an allocation. When there is nothing left it spins for
// Options.Spin, then arms the worker and waits on Go's poller; Post and Poll wake it. An idle rank wakes some times in LinkTimeout.
//
// A worker whose round has ended in good order at all ends, and that nobody else has talked to, stays for the next round of the
// context, unless the context uses TCP. It then has another nonce and other tokens, so nothing of the round before is believed.
//
// # Dead peers
//
// Every endpoint has UCX's error handling on. A process that ends is noticed at once over TCP, in a second or two over shared memory (once its
// parent has taken note of its end); a cut link and a stopped process, which UCX may never notice, after LinkTimeout, for the
// ranks say beat when they have nothing to say. Then receives are cancelled, the endpoint is closed, and when UCX is done with all buffers, or
// after a second, comes the one EventPeerDown. Buffers that UCX was not done with are held until Close.
//
// Options that this takes are set unless the environment has others: error handling and keepalive of shared memory, TCP's user timeout and
// keepalive, and CMA_MEMORY_INVALIDATE, without which UCX would copy large payloads twice on one machine. UCX prints nothing and
// catches no signals unless $UCX_LOG_LEVEL and $UCX_HANDLE_ERRORS say so.
//
// # Memory
//
// Headers are bounded by Options.ReceiveBudget as in package tcp, and there are a mebibyte at most of frames that are kept for reuse, and lists of
// lengths. Each worker of UCX has some MiB of shared memory or socket buffers of its own. Payloads may be in ordinary memory or in that of a CUDA
// device, if UCX knows such.
//
// # Registered memory
//
// RDMA moves bytes only from and to memory that the adapter was told of. UCX by itself registers what it is given, remembers that,
// and hooks libc to learn when the memory goes back to the system; Go and package mem call the system themselves, so that it would not
// learn, and send what is no longer there. Where a transport needs registration (Config.Register can say otherwise) this package therefore
// says all of it:
//
//   - A payload whose buffer is of a [mem.Mapping] (large buffers, slabs, pools of pinned memory and of devices) has that mapping registered
//     as a whole by the first operation in it, and the registration given to UCX with this and all others. mem tells before the memory goes
//     (munmap, madvise, the end of a pool): then the registration ends, and UCX's own cache is told, too.
//   - Other payloads are of the Go heap. UCX registers them as it likes, and is told to forget that when the operation is done; they
//     are pinned until then.
//   - Config.RegisterLimit bounds what is registered; what was not used for longest makes room. If all is in use, a payload is treated as
//     one of the heap, as it is when the system refuses.
//
// Registered memory is in memory as a whole, which is up to a fifth more than a large buffer has bytes. Frames are in libc's memory, whose end
// UCX sees. Shared memory and TCP need no registration: then nothing of this is done.
//
// Proven: which memory is registered when, over shared memory and TCP, where UCX takes the handles and has nothing to tell an adapter; that
// registrations end before the memory goes; and that messages are whole. Written, and not run, as there was no hardware: RDMA, so what
// adapters make of it, and memory of devices.
//
// # Security
//
// UCX encrypts nothing, and over TCP it listens at a port on each network device that it may use (UCX_NET_DEVICES; UCX_TCP_PORT_RANGE, or
// Config.Set's TCP_PORT_RANGE, says at which ports). Whoever
// reaches that port can, by UCX's own protocol, write into the memory of the process: tokens keep strangers from being taken for ranks, not from
// that. So TCP through UCX is for networks that only the job's machines are on, or for tests. Through shared memory alone (UCX_TLS=sysv,cma)
// there is no port; then other processes of the same user could interfere, who can do so anyway. Who can read the network can read tokens
// and data.
//
// # Compared with RapidsMPF's UCXX communicator
//
// Row by row (release 26.10):
//
//	features              same but RMA and streams, which nothing needs
//	progress modes        bettered: one goroutine, which sleeps when idle, in place of two threads; there is no mode to choose
//	tags                  bettered: chosen by the receiver, unguessable to strangers; there, rank << 32 | tag
//	rank assignment       bettered: by the launcher; there, by order of arrival at the root
//	endpoints             all are made at the meeting, and proven; there, when first used
//	error handling        bettered: on, at no cost in speed, for payloads are copied once all the same; there it is off, and a dead
//	                      peer is never noticed
//	receive               bettered: into memory that the receiver chose, after it was asked; there, host bytes are received while the
//	                      caller waits, and nothing bounds what arrives
//	test_some             replaced: events in batches, in any order of completion; there one slow send holds up the release of others
//	received length       bettered: checked; there it is not
//	delayed submission    kept: operations are given to UCX by the goroutine that owns the worker
//	barrier, addresses    not here: the control plane of the executor does both
//	split                 not here
//	authentication        bettered: HMAC with a secret of the job; there, none
package ucx
