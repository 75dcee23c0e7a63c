// Package engine brings together packages that must not know of each other: what finds and drives devices, and the executor that
// deals them out to the actors of a job.
package engine
