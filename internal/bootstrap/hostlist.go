package bootstrap

import (
	"fmt"
	"strconv"
	"strings"
)

// hosts returns the first names of a list of Slurm's, such as "n[1-2,05],login", at most most of them.
func hosts(list string, most int) (names []string, err error) {
	for rest := list; rest != "" && len(names) < most; {
		item := rest
		depth := 0
		end := strings.IndexFunc(rest, func(c rune) bool {
			switch c {
			case '[':
				depth++
			case ']':
				depth--
			}
			return c == ',' && depth == 0
		})
		if end >= 0 {
			item, rest = rest[:end], rest[end+1:]
		} else {
			rest = ""
		}
		if names, err = expand(names, "", item, most); err != nil {
			return nil, fmt.Errorf("the list of nodes %q cannot be read: %w", list, err)
		}
	}
	return names, nil
}

// expand appends the names that prefix and an item with brackets stand for, until there are most.
func expand(names []string, prefix, item string, most int) ([]string, error) {
	open := strings.IndexByte(item, '[')
	if open < 0 {
		if prefix+item == "" {
			return nil, fmt.Errorf("a name is empty")
		}
		return append(names, prefix+item), nil
	}
	ranges, after, ok := strings.Cut(item[open+1:], "]")
	if !ok {
		return nil, fmt.Errorf("a bracket is open")
	}
	prefix += item[:open]
	for r := range strings.SplitSeq(ranges, ",") {
		from, to, isRange := strings.Cut(r, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 32)
		last, err2 := strconv.ParseUint(to, 10, 32)
		if err1 != nil || err2 != nil || last < first {
			return nil, fmt.Errorf("%q is no range", r)
		}
		for n := first; n <= last && len(names) < most; n++ {
			var err error
			if names, err = expand(names, fmt.Sprintf("%s%0*d", prefix, len(from), n), after, most); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

// tasksOn returns how many tasks are on a node, counted from 0, from a list of Slurm's such as "2(x3),1". It is 0 if the list does not
// say.
func tasksOn(list string, node int) int {
	for item := range strings.SplitSeq(list, ",") {
		count, times, repeated := strings.Cut(item, "(x")
		n, err := strconv.Atoi(count)
		if err != nil {
			return 0
		}
		k := 1
		if repeated {
			if k, err = strconv.Atoi(strings.TrimSuffix(times, ")")); err != nil {
				return 0
			}
		}
		if node -= k; node < 0 {
			return n
		}
	}
	return 0
}
