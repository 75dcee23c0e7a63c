// Package cuda knows the NVIDIA GPUs of this machine. It is the only package that speaks to NVIDIA's libraries.
//
// What needs them is behind the build tag "cuda". With it the package needs cgo and a C compiler, but no CUDA headers, and no
// library when it is linked: NVML is loaded when it is first used, and a machine without it just has no devices. Without
// the tag everything here compiles, and [Open] says that this is a build without CUDA.
//
// Which GPUs a program may use is said by CUDA_VISIBLE_DEVICES, and this package reads it as CUDA does; see [Visible].
package cuda
