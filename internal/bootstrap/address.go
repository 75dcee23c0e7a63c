package bootstrap

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// most is how many addresses a rank tells others about: launchers carry about a thousand bytes.
const most = 8

// thisMachine describes the machine of this process. only, if it is an address, is the only one that others are told.
func thisMachine(only string) card {
	c := card{Stack: stack()}
	if ip, err := netip.ParseAddr(only); err == nil {
		bits := ip.BitLen()
		for _, p := range networks("") {
			if p.Addr() == ip {
				bits = p.Bits()
			}
		}
		c.Nets = []netip.Prefix{netip.PrefixFrom(ip, bits)}
		return c
	}
	c.Nets = networks("")
	c.Nets = c.Nets[:min(len(c.Nets), most)]
	return c
}

// stack names the network stack of this process: the machine, and the namespace in it.
func stack() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		boot = nil
	}
	host, _ := os.Hostname()
	space, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		space = ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s", boot, host, space))
	return fmt.Sprintf("%x", sum[:8])
}

// networks returns the addresses of this machine, or of one of its interfaces, that other machines may reach: no loopback and
// link-local ones. Those of the fastest interfaces come first.
func networks(only string) (list []netip.Prefix) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	if only == "" {
		slices.SortStableFunc(interfaces, func(a, b net.Interface) int { return cmp.Compare(speed(b.Name), speed(a.Name)) })
	}
	var six []netip.Prefix
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || only != "" && i.Name != only {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			switch {
			case err != nil || !p.Addr().IsGlobalUnicast():
			case p.Addr().Is4():
				list = append(list, p)
			default:
				six = append(six, p)
			}
		}
	}
	return append(list, six...)
}

// speed is that of a network interface in Mbit/s, 0 if it is not known.
func speed(name string) int {
	b, err := os.ReadFile(filepath.Join("/sys/class/net", name, "speed"))
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// choose returns the address at which rank 0 listens: loopback if all are on its machine. Else the first of its own whose network all
// other machines are in, with another address: bridges of containers have the same one everywhere. Else that from which it
// reaches most of them, by its routes.
func choose(own card, others []card, route func(netip.Addr) (netip.Addr, error)) (netip.Addr, error) {
	machines := make(map[string]card)
	for _, c := range others {
		if c.Stack != own.Stack {
			machines[c.Stack] = c
		}
	}
	if len(machines) == 0 {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	for _, p := range own.Nets {
		common := true
		for _, c := range machines {
			common = common && slices.ContainsFunc(c.Nets, func(q netip.Prefix) bool {
				return q.Addr() != p.Addr() && p.Contains(q.Addr()) && q.Contains(p.Addr())
			})
		}
		if common {
			return p.Addr(), nil
		}
	}
	votes := make(map[netip.Addr]int)
	for _, c := range machines {
		for _, q := range c.Nets {
			if a, err := route(q.Addr()); err == nil && slices.ContainsFunc(own.Nets, func(p netip.Prefix) bool { return p.Addr() == a && a != q.Addr() }) {
				votes[a]++
				break
			}
		}
	}
	best := netip.Addr{}
	for _, p := range own.Nets {
		if votes[p.Addr()] > votes[best] {
			best = p.Addr()
		}
	}
	if !best.IsValid() {
		return best, errors.New("it has no address from which it reaches the other ranks' machines: give --data-host, the name of a network interface or a network such as 10.1.0.0/16")
	}
	return best, nil
}

// route returns the address of this machine from which it reaches another. Nothing is sent.
func route(to netip.Addr) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// routeTo is route to a machine that has a name.
func routeTo(host string) (netip.Addr, error) {
	ips, err := net.LookupIP(host)
	if err != nil {
		return netip.Addr{}, err
	}
	last := fmt.Errorf("%s has no address but that of loopback", host)
	for _, ip := range ips {
		a, ok := netip.AddrFromSlice(ip)
		if a = a.Unmap(); !ok || a.IsLoopback() {
			continue
		}
		own, err := route(a)
		if err == nil {
			return own, nil
		}
		last = err
	}
	return netip.Addr{}, last
}

// ownName returns an address of what this machine calls itself, which in a pod is the pod's.
func ownName() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	ips, err := net.LookupIP(name)
	if err != nil {
		return "", fmt.Errorf("%s, the name of this machine: %w; give --root", name, err)
	}
	for _, ip := range ips {
		if !ip.IsLoopback() {
			return ip.String(), nil
		}
	}
	return "", fmt.Errorf("%s, the name of this machine, has no address but that of loopback: give --root", name)
}

// DataHost turns what a user says about where others reach a rank into a host or address: one of several with commas between them, by the
// rank's number on its node. If all of these are interfaces, near, if it is not nil, says first which are to be preferred. Each may be an interface, such as ib0, of which the first address is taken; a network, such as
// 10.1.0.0/16, for the address that this machine has in it; or a host or an address. So one text can be right for all ranks.
func DataHost(text string, localRank int, near func(interfaces []string) []string) (string, error) {
	if text == "" {
		return "", nil
	}
	list := strings.Split(text, ",")
	interfaces := near != nil && len(list) > 1
	for i, item := range list {
		list[i] = strings.TrimSpace(item)
		if interfaces {
			_, err := net.InterfaceByName(list[i])
			interfaces = err == nil
		}
	}
	if interfaces {
		list = near(list)
	}
	item := list[max(0, localRank)%len(list)]
	if p, err := netip.ParsePrefix(item); err == nil {
		for _, own := range networks("") {
			if p.Contains(own.Addr()) {
				return own.Addr().String(), nil
			}
		}
		return "", fmt.Errorf("this machine has no address in %s", item)
	}
	if _, err := net.InterfaceByName(item); err == nil {
		if own := networks(item); len(own) > 0 {
			return own[0].Addr().String(), nil
		}
		if i, err := net.InterfaceByName(item); err == nil && i.Flags&net.FlagLoopback != 0 {
			return "127.0.0.1", nil
		}
		return "", fmt.Errorf("the network interface %s is down, or has no address", item)
	}
	if item == "" || strings.ContainsAny(item, "/ ") {
		return "", fmt.Errorf("%q is no interface of this machine, no network such as 10.1.0.0/16, and no host", item)
	}
	return item, nil
}
