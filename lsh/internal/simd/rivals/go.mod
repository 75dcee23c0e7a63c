module github.com/dovetail-dedup/dovetail/lsh/internal/simd/rivals

go 1.26.0

require (
	github.com/dovetail-dedup/dovetail v0.0.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/klauspost/cpuid/v2 v2.4.2 // indirect
	github.com/zeebo/xxh3 v1.1.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/dovetail-dedup/dovetail => ../../../..
