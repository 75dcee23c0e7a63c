// Package tcp connects ranks in different processes, on one machine or many, over TCP.
package tcp
