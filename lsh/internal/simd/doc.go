// Package simd will be documented.
package simd
