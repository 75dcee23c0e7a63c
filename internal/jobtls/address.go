package jobtls

import (
	"net"
	"net/netip"
)

// Loopback reports whether an address (host:port) is certainly one of this machine only. No name is looked up: all ranks must
// come to the same answer.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// shared is what providers use for networks of theirs (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// Exposed says of what kind an address (host:port) is at which a listener can be reached from more than a network of its owner's:
// "all addresses of this machine", or "a public address". It returns nothing for loopback, private (RFC 1918, RFC 4193), shared and
// link-local addresses, and for names, which a listener's address never has.
func Exposed(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	ip, err := netip.ParseAddr(host)
	if host == "" || err == nil && ip.IsUnspecified() {
		return "all addresses of this machine"
	}
	ip = ip.Unmap()
	if err != nil || ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || shared.Contains(ip) {
		return ""
	}
	return "a public address"
}
