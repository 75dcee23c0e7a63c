package bench

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/klauspost/cpuid/v2"
)

// Machine says on what kind of machine a table was made; not on which one.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Vector string `json:"vector"` // the widest instructions
	MiB    int64  `json:"memory_mib"`
	OS     string `json:"os"`
	Go     string `json:"go"`
	// Shared is said by whoever runs the benchmark: that others use the machine too.
	Shared bool `json:"shared"`
}

// ThisMachine describes the machine that this runs on.
func ThisMachine() Machine {
	m := Machine{CPU: cpuid.CPU.BrandName, Cores: runtime.NumCPU(), Vector: "none known", OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		MiB: memoryMiB()}
	switch {
	case cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512BW):
		m.Vector = "AVX-512"
	case cpuid.CPU.Supports(cpuid.AVX2):
		m.Vector = "AVX2"
	case cpuid.CPU.Supports(cpuid.ASIMD):
		m.Vector = "NEON"
	}
	return m
}

// memoryMiB is the machine's in MiB, or 0 where the system does not tell.
func memoryMiB() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib >> 10
		}
	}
	return 0
}

// String describes the machine in a line.
func (m Machine) String() string {
	s := fmt.Sprintf("%s, %d cores, %s, %d GiB, %s, %s", m.CPU, m.Cores, m.Vector, (m.MiB+512)>>10, m.OS, m.Go)
	if m.Shared {
		s += "; shared with other work, which the column \"others\" shows"
	}
	return s
}
