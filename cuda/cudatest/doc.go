// Package cudatest makes machines whose GPUs exist only in go-nvml's mock, for tests in builds with the tag "cuda".
package cudatest
