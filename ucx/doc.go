// Package ucx is a transport over UCX.
package ucx
