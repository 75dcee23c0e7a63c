// Package jobtls lets the ranks of a job recognize each other by a secret they share: TLS 1.3, in which both ends prove that they
// have the private key that follows from it. It proves membership, not which rank is which. It does not hide who talks to
// whom and how much.
package jobtls

import (
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
	"strings"
	"time"
)

// ErrSecret says that the other end did not prove that it has the job's secret.
var ErrSecret = errors.New("it has another secret, or none")

// Explain is what the end of a handshake with err means: [ErrSecret] also if it is the other end that has found that.
func Explain(err error) error {
	// crypto/tls has no exported type for what it is told.
	if err != nil && !errors.Is(err, ErrSecret) && strings.Contains(err.Error(), "remote error: tls: bad certificate") {
		return ErrSecret
	}
	return err
}

// Config makes the TLS configuration, of clients and servers, of all who share a secret and a purpose: each proves to the other
// that it has the secret. The key pair follows from the two alone, so all have the same.
func Config(secret []byte, purpose string) (*tls.Config, error) {
	if err := CheckSecret(secret); err != nil {
		return nil, fmt.Errorf("jobtls: %w", err)
	}
	seed, err := hkdf.Key(sha256.New, secret, nil, "dovetail "+purpose+" ed25519 key, version 1", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("jobtls: deriving a key from the secret: %w", err)
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
		return nil, fmt.Errorf("jobtls: making a certificate: %w", err)
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
			return ErrSecret
		},
		SessionTicketsDisabled:      true, // a resumed session would prove less
		DynamicRecordSizingDisabled: true, // which helps pages load, and costs throughput
	}, nil
}
