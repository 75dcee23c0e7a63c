// Package cuda knows the NVIDIA GPUs of this machine and drives them. It is the only package that speaks to NVIDIA's libraries.
//
// What needs them is behind the build tag "cuda". With it the package needs cgo, a C compiler and CUDA's headers (`make cuda-tools`
// fetches them), but no library when it is linked: NVML and the driver are loaded when they are first used, and a machine without
// them just has no devices. Without the tag everything here compiles, and [Open] says that this is a build without CUDA.
//
// With the tag, from the bottom up:
//
//   - Driver is NVIDIA's driver, or one that simulates GPUs, of internal/cudasim.
//   - Context, Stream, Event, Module and Kernel are CUDA's, as types that belong to no thread and drop no error.
//   - GPU is a GPU in use: its kernels, and pools of its memory and of pinned memory. Store holds what is not needed at the moment.
//   - Kernels and the backends of GPU.NewBackend sign columns, and those of GPU.NewPairs compare texts; the suites of package
//     kernelstest hold for them. What GPU.Hold allows to stay on the GPU makes room for all others.
//
// Everything that is made is closed by whoever made it, and closing says what was not. An error has the call, and the name that the
// driver has for it; errors.Is tells out of memory (mem.ErrNoMemory), what may be tried again, and the end of a GPU apart.
//
// Which GPUs a program may use is said by CUDA_VISIBLE_DEVICES, and this package reads it as CUDA does; see [Visible].
package cuda
