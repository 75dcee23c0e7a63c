// Package engine brings together packages that must not know of each other: what finds devices, and the executor that deals
// them out.
package engine
