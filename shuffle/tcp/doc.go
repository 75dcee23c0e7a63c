// Package tcp connects ranks in different processes, on one machine or many, over TCP, encrypted where others
// could listen. It implements [shuffle.Transport] in plain Go.
//
// Every rank opens a [Listener], learns the addresses of all (from a launcher, say), and calls [Connect]: it calls
// the lower ranks and is called by the higher, so that there is one connection for every pair.
//
// # Messages
//
// A message is announced with its header alone. The receiver offers it to its caller, and asks for the payload
// when the caller has given memory; so payload is on the way only if there is a place for it, and a rank reads
// its connections at all times. That is what keeps a slow rank from looking like a dead one, and answers from
// waiting behind data. The next offer is made when the last was answered, not when its bytes are there, so the
// round trip costs time once, not for every message.
//
//	rank 0                                        rank 1
//	Post(OpSend)   ── message 1: header, size ──▶ EventOffer
//	               ◀── accept 1 ───────────────── Post(OpAccept)
//	               ── payload 1: bytes 0...     ▶
//	               ── message 2: header ────────▶   (waits behind message 1)
//	               ── payload 1: the rest ──────▶ EventMessage, EventMessage
//	EventSent × 2  ◀── taken 2 ──────────────────   (Poll has returned them)
//
// EventSent means that the peer's caller has the message, or has refused it.
//
// # Bounds
//
// A rank has at most shuffle.MaxInFlight messages per peer that it posted and that are not confirmed. Of those it
// announces as many as the peer has credit for: both sides count what a header occupies (the power of two at or
// above its length, at least 64 bytes) until it is taken. A peer that sends more breaks the protocol. So the
// headers of one rank lie within Options.ReceiveBudget whatever anybody sends, payloads in the caller's buffers,
// and beside those a link has a read buffer of 32 KiB, a write buffer of 64 KiB (68 KiB more and TLS's own records
// with encryption), and copies of the headers that were posted.
//
// Payload is written from the buffers of the caller and read into them. What came in one read with the frames
// before it, 32 KiB at most, passes through the read buffer; with encryption, pieces of up to 4 KiB are put
// together before they are encrypted.
//
// # Frames
//
// Everything is little-endian and at a fixed place. A frame is a header of 32 bytes and what it says follows:
//
//	 0       4   5   6       8               16              24      28      32
//	+-------+---+---+-------+---------------+---------------+-------+-------+
//	| DVtf  | v | k |   0   | number        | size          |length | CRC   | length bytes...
//	+-------+---+---+-------+---------------+---------------+-------+-------+
//	          v = 1, the version; k, the kind; CRC32C of bytes 0 to 27
//
//	k  kind     number                  size                      length bytes
//	1  message  its own, from 1 on      of the payload            header of the message
//	2  accept   of the message                                    -
//	3  refuse   of the message                                    -
//	4  payload  of the message          where the bytes belong    of payload, at most 1 MiB
//	5  taken    up to this message                                -
//	6  leave                                                      -
//	7  bye      of the last message                               -
//
// leave says that the sender has begun to close and takes no more messages; bye, that it has sent all of its own.
// Then the connection ends; one that ends otherwise is broken. Either way there is one EventPeerDown, after
// everything that arrived before.
//
// The checksum covers the frame header, which is what this package acts upon. Headers and payloads of messages
// are covered by the checksums of the shuffle (see the wire format of package shuffle), which go all the way to
// whoever uses the bytes. With TLS everything is authenticated in addition.
//
// # Greeting
//
// Before the first frame both ends send a hello, then a verdict. Their first 16 bytes and the checksum at the end
// stay the same in every version of the protocol, so that different versions can tell each other so:
//
//	 0                8       10      12              16
//	+----------------+-------+-------+---------------+----------------+-------+
//	| DVTLtcp\n      | 1     | kind  | length        | length bytes   | CRC   |
//	+----------------+-------+-------+---------------+----------------+-------+
//	          version ^        CRC32C of all before it, length at most 8 KiB
//
//	kind 1, hello:    rank, rank it wants, ranks, epoch, window (4 bytes each),
//	                  length of job, of spec (2 bytes each), job, spec
//	kind 2, verdict:  1 yes, 2 no, 3 not now (1 byte), the reason as text
//
// Ranks that differ in version, job, epoch, number of ranks or spec say so on both sides. If job and epoch agree
// and something else does not, both Connects fail at once; otherwise it may be a process that will be gone soon,
// and they go on trying. Anybody else is cut off at the first 8 bytes, or after Options.HandshakeTimeout if it
// sends fewer; at most 64 plus one per rank are greeted at a time, and when one more comes, whoever has been there
// longest of those from the address that most have come from, and is not known for a rank, is cut off. The listener
// is closed when all ranks are there.
//
// # Encryption
//
// If an address is not a loopback one, or with Options.ForceTLS, links use TLS 1.3 and both ends must prove that
// they have Options.Secret: HKDF-SHA256 makes an Ed25519 key pair from it, the same on every rank; each rank makes
// a certificate for it and accepts no certificate with another key.
//
// Why that is enough: in TLS 1.3 each end signs the transcript of the handshake, under a label of its role, with
// the key of its certificate. Who cannot compute the private key, which takes the secret, cannot sign, and who
// relays messages between two that can does not learn the keys of the session, which come from a fresh
// Diffie-Hellman exchange. So whoever is at the other end has the secret, nobody between can read or change
// anything, and recorded traffic stays unreadable even if the secret is lost later. A connection that somebody
// diverts to another rank of the job ends at the hello, which names both ranks. Sessions are not resumed.
//
// What it does not protect from: a holder of the secret, who can be any rank; a guessable secret, since whoever
// connects sees the public key and can try guesses against it (hence 16 random bytes at least); the sight of who
// talks to whom, when and how much; somebody who cuts links or fills the queue of the listener. TLS 1.3 advises new
// keys after some 400 GB with AES-GCM, and crypto/tls never makes any within a connection.
//
// Without encryption, on loopback, whoever can open a port on the machine can pretend to be a rank.
//
// # Compared with RapidsMPF
//
// Its communicators (release 26.10), row by row of what they promise:
//
//	rank and size       kept: dense from 0, fixed for life; better: ranks are given by the launcher, not by
//	                    order of arrival
//	Single              kept: one rank needs no network; sending to itself is an error
//	MPI                 replaced: needs no MPI; no limit of 2 GiB per message; an error is an event that
//	                    names the peer, not the end of the job
//	UCXX                replaced for TCP; its shared memory and RDMA are package ucx's subject
//	tags, op ids        in the shuffle's messages, not here
//	order               better: all messages of a pair, not only those of one tag
//	flow control        better: credit for headers and memory before payload; there, neither
//	receive             better: into memory that the receiver chose; there, host bytes are received while
//	                    the caller waits
//	progress            better: no caller's thread is needed, no polling; idle links cost nothing
//	dead peer           better: at once if it ends, in LinkTimeout if the link is cut; there, never over UCX
//	barrier             not here; an empty shuffle is one
//	addresses           better: checked at the greeting; strangers are turned away
//	authentication,     better: TLS with a secret of the job; there, none
//	  encryption
package tcp
