// Package ptx runs PTX, the assembly that nvcc makes of kernels, and looks for what CUDA leaves undefined.
//
//	m, err := ptx.Parse(text)
//	mem := ptx.NewMemory()
//	in, err := mem.Alloc("in", 4096)
//	err = in.Write(0, data)
//	_, err = m.Launch(mem, "kernel", ptx.Config{Grid: 2, Block: 256, Seed: 1}, in.Addr, 1024)
//
// It knows the instructions that this project's kernels consist of: integers, memory, atomics, barriers, shuffles and votes. Any
// other is an error when the text is parsed, never skipped. It is made for proof, not for speed: some ten million instructions a
// second.
//
// Threads go on one at a time, in an order that follows from the seed, and several blocks at once. A launch ends with the first
// fault, an error that names kernel, line, block and thread:
//
//   - an access outside of all arrays, or beyond the end of the one it began in: there are gaps between arrays
//   - an access that is not aligned to its size
//   - reading what was never written
//   - a data race: two accesses to one byte by two threads, at least one of which writes and not both of which are atomic
//     (volatile counts as atomic), that nothing orders: neither a barrier of the block, nor bar.warp.sync, nor the end of a launch
//   - a barrier that some threads of the block do not reach, or at another instruction, or after they have ended
//   - a lane of a mask that has ended or executes another instruction, and reading a lane that is not in the mask
//   - a launch with a wrong number of parameters, or more threads than the kernel was compiled for
//
// Arrays may be larger than memory: only pages that are touched exist, so that indexes beyond 2^31 can be tried.
package ptx
