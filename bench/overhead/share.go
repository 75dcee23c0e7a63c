package overhead

import (
	"strings"

	"github.com/google/pprof/profile"
)

// Share says where the samples of a profile belong, in nanoseconds of processor time.
type Share struct {
	Total, Hand, Commit, Write int64
}

const project = "github.com/dovetail-dedup/dovetail/"

// ShareOf divides the samples of a CPU profile.
func ShareOf(p *profile.Profile) (s Share) {
	value := len(p.SampleType) - 1 // nanoseconds; the other is a count
	for _, sample := range p.Sample {
		ns := sample.Value[value]
		s.Total += ns
		names := functions(sample) // the deepest first
		for i, name := range names {
			pkg, ok := strings.CutPrefix(name, project)
			if !ok || strings.HasPrefix(pkg, "executor.meteredReader") { // which passes a read of the stage on
				continue
			}
			if pkg, _, _ = strings.Cut(pkg, "."); pkg == "executor" || strings.HasPrefix(pkg, "executor/") {
				switch {
				case has(names[i:], "executor.(*committer)", "executor.(*Work)"):
					s.Commit += ns
				case has(names[i:], "executor.(*File)", "executor.(*Attempt).create", "executor.meteredWriter"):
					s.Write += ns
				default:
					s.Hand += ns
				}
			}
			break
		}
	}
	return s
}

// functions are the names of what is on the stack of a sample, inlined ones included, the deepest first.
func functions(s *profile.Sample) (names []string) {
	for _, loc := range s.Location {
		for _, line := range loc.Line {
			names = append(names, line.Function.Name)
		}
	}
	return names
}

// has reports whether one of names is of a method of one of the types.
func has(names []string, types ...string) bool {
	for _, n := range names {
		for _, t := range types {
			if strings.HasPrefix(n, project+t) {
				return true
			}
		}
	}
	return false
}
