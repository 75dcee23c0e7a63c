//go:build !(amd64 || arm64 || 386 || arm || riscv64 || loong64 || ppc64le || mipsle || mips64le || wasm)

package flow

// Work files and chunks are viewed in place as little-endian words. On a big-endian machine the build stops
// here rather than compute another digest.
var _ = thisMachineIsBigEndian
