package faulty

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// kind is a kind of fault.
type kind int

const (
	duplicate kind = iota
	reorder
	delay
	corrupt
	drop
	failPost
	kill
	numKinds
)

var kindNames = [numKinds]string{"duplicate", "reorder", "delay", "corrupt", "drop", "failpost", "kill"}

// fault is one line of a specification.
type fault struct {
	kind    kind
	rank    int     // -1: every rank
	percent float64 // of the messages, or
	nth     int64   // exactly this one, from 1
	wait    time.Duration
}

const (
	defaultDelay   = time.Millisecond
	reorderPatient = 2 * time.Millisecond // a message held back goes on alone after this time
)

// parse reads a specification; see the package documentation.
func parse(spec string) ([]fault, error) {
	var faults []fault
	for _, word := range strings.FieldsFunc(spec, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' }) {
		f, err := parseFault(word)
		if err != nil {
			return nil, fmt.Errorf("faulty: %q: %w", word, err)
		}
		faults = append(faults, f)
	}
	return faults, nil
}

func parseFault(word string) (f fault, err error) {
	name, when, ok := strings.Cut(word, "=")
	if !ok {
		return f, fmt.Errorf("should be name=when, for instance duplicate=10%%")
	}
	name, rank, at := strings.Cut(name, "@")
	f.rank = -1
	if at {
		if f.rank, err = strconv.Atoi(rank); err != nil || f.rank < 0 {
			return f, fmt.Errorf("%q is no rank", rank)
		}
	}
	f.kind = numKinds
	for k, n := range kindNames {
		if n == name {
			f.kind = kind(k)
		}
	}
	if f.kind == numKinds {
		return f, fmt.Errorf("no such fault; there are %s", strings.Join(kindNames[:], ", "))
	}
	when, wait, timed := strings.Cut(when, ":")
	switch {
	case timed && f.kind != delay:
		return f, fmt.Errorf("only delay takes a time")
	case timed:
		if f.wait, err = time.ParseDuration(wait); err != nil || f.wait <= 0 {
			return f, fmt.Errorf("%q is no time", wait)
		}
	case f.kind == delay:
		f.wait = defaultDelay
	}
	if n, ok := strings.CutPrefix(when, "#"); ok {
		if f.nth, err = strconv.ParseInt(n, 10, 64); err != nil || f.nth < 1 {
			return f, fmt.Errorf("%q is no number from 1", n)
		}
		return f, nil
	}
	p, ok := strings.CutSuffix(when, "%")
	if f.percent, err = strconv.ParseFloat(p, 64); !ok || err != nil || f.percent < 0 || f.percent > 100 {
		return f, fmt.Errorf("%q should be a share such as 5%% or a number such as #5", when)
	}
	return f, nil
}
