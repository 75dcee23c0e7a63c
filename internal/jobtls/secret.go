package jobtls

import (
	"errors"
	"fmt"
	"strings"
)

// MinSecret is what a secret must have at least, in bytes. Whoever can connect sees the public key that follows from the secret and
// can try secrets at leisure, so it must not be one that a person made up.
const MinSecret = 16

// fewest is how many different bytes there are in a secret at least: 16 random ones have fewer with a probability below 1e-13, 32
// random hexadecimal digits with one below 1e-9.
const fewest = 6

// CheckSecret reports what is wrong with a secret, as far as that can be seen: hexadecimal digits count as half bytes, and what
// repeats a few bytes is not random. That a secret is random in truth cannot be seen.
func CheckSecret(secret []byte) error {
	n, what := len(secret), "bytes"
	if strings.Trim(string(secret), "0123456789abcdefABCDEF") == "" {
		n, what = n/2, "bytes in hexadecimal digits"
	}
	if n < MinSecret {
		return fmt.Errorf("the secret has %d %s, must have at least %d random bytes (for instance: openssl rand -hex 32)", n, what, MinSecret)
	}
	var seen [256]bool
	different := 0
	for _, b := range secret {
		if !seen[b] {
			seen[b] = true
			different++
		}
	}
	if different < fewest {
		return errors.New("the secret repeats a few bytes and is not random; make one with, for instance, openssl rand -hex 32")
	}
	return nil
}
