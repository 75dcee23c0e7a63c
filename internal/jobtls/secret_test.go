package jobtls

import (
	"strings"
	"testing"
)

func TestCheckSecret(t *testing.T) {
	for _, c := range []struct{ secret, says string }{
		{"", "has 0 bytes"},
		{"q83vEjRWeJCrze8", "has 15 bytes"},
		{"q83vEjRWeJCrze8S", ""},
		{"5b0c7fd61e924a38", "has 8 bytes in hexadecimal digits"},
		{"5b0c7fd61e924a38d1906fe3a8c4b725", ""},
		{"5B0C7FD61E924A38D1906FE3A8C4B725", ""},
		{"5b0c7fd61e924a38d1906fe3a8c4b72", "has 15 bytes in hexadecimal"},
		{strings.Repeat("x", 64), "repeats"},
		{strings.Repeat("secre", 64), "repeats"},
	} {
		err := CheckSecret([]byte(c.secret))
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%q: %v, want %q", c.secret, err, c.says)
		}
		if _, made := Config([]byte(c.secret), "test"); (made == nil) != (err == nil) {
			t.Errorf("%q: Config says %v, CheckSecret %v", c.secret, made, err)
		}
	}
}

func TestExposed(t *testing.T) {
	const all, public = "all addresses of this machine", "a public address"
	for addr, want := range map[string]string{
		"127.0.0.1:1": "", "[::1]:1": "", "127.3.2.1:0": "", "10.1.2.3:7700": "", "172.16.0.1:7700": "", "172.31.255.255:1": "",
		"192.168.1.1:1": "", "169.254.1.1:1": "", "100.64.0.1:1": "", "[fd00::1]:1": "", "[fe80::1%eth0]:1": "", "[::ffff:10.0.0.1]:1": "",
		"host:1": "", "nonsense": "",
		"0.0.0.0:7700": all, "[::]:7700": all, ":7700": all,
		"203.0.113.9:7700": public, "172.32.0.1:1": public, "100.128.0.1:1": public, "8.8.8.8:1": public, "[2001:db8::1]:1": public,
		"[::ffff:8.8.8.8]:1": public,
	} {
		if got := Exposed(addr); got != want {
			t.Errorf("Exposed(%q) = %q, want %q", addr, got, want)
		}
	}
}
