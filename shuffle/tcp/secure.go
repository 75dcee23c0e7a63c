package tcp

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// errSecret says that the other end did not prove that it has the job's secret.
var errSecret = errors.New("it has another secret, or none")

// identity makes the TLS configuration of a job. The key pair follows from the secret alone, so every rank has
// the same; the package documentation says why that is enough.
func identity(secret []byte) (*tls.Config, error) {
	seed, err := hkdf.Key(sha256.New, secret, nil, "dovetail shuffle/tcp ed25519 key, version 1", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("tcp: deriving a key from Options.Secret: %w", err)
	}
	key := ed25519.NewKeyFromSeed(seed)
	public := key.Public().(ed25519.PublicKey)
	// Nothing in the certificate counts but the key, so neither clocks nor names matter.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "dovetail"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return nil, fmt.Errorf("tcp: making a certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:   tls.RequireAnyClientCert,
		// The chain of trust is replaced by VerifyConnection: the other end's certificate must have the job's
		// own key, and TLS makes it prove that it has the private half.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 1 {
				if k, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok && k.Equal(public) {
					return nil
				}
			}
			return errSecret
		},
		SessionTicketsDisabled:      true, // a resumed session would prove less
		DynamicRecordSizingDisabled: true, // which helps pages load, and costs throughput
	}, nil
}

// secureConn is an encrypted link.
type secureConn struct {
	*tls.Conn
	under *cork
}

// secure encrypts a connection, of which the first bytes may have been read already.
func secure(ctx context.Context, c *net.TCPConn, first []byte, config *tls.Config, server bool) (*secureConn, error) {
	s := &secureConn{under: &cork{TCPConn: c, first: first}}
	if server {
		s.Conn = tls.Server(s.under, config)
	} else {
		s.Conn = tls.Client(s.under, config)
	}
	return s, s.HandshakeContext(ctx)
}

// writeAll writes pieces, as few system calls as possible.
func (s *secureConn) writeAll(list [][]byte) error {
	s.under.begin()
	for _, b := range list {
		if _, err := s.Write(b); err != nil {
			return err
		}
	}
	return s.under.end()
}

// cork collects the records that crypto/tls writes one by one, of 16 KiB at most, between begin and end.
type cork struct {
	*net.TCPConn
	first []byte // to be read before what comes

	mu  sync.Mutex // the reader writes too: alerts
	on  bool
	buf []byte
}

// corkBytes is how much is collected; it has room for four full records.
const corkBytes = 68 << 10

func (c *cork) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.TCPConn.Read(b)
}

func (c *cork) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = true
}

// Write collects b or writes it.
func (c *cork) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return c.TCPConn.Write(b)
	}
	if len(c.buf)+len(b) > corkBytes {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if c.buf == nil {
		c.buf = make([]byte, 0, corkBytes)
	}
	c.buf = append(c.buf, b...) // a record fits: see corkBytes
	return len(b), nil
}

func (c *cork) flush() error {
	_, err := c.TCPConn.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

func (c *cork) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = false
	return c.flush()
}

// rawConn is what is underneath a link.
type rawConn interface {
	net.Conn
	CloseWrite() error
}

func under(c net.Conn) rawConn {
	if s, ok := c.(*secureConn); ok {
		return s.under.TCPConn
	}
	return c.(rawConn)
}
