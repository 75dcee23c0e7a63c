package dedup

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dovetail-dedup/dovetail/dedup/report"
)

// SourceLimit is the share of its documents that a source may lose before the run says so, or stops. A source is the
// folder of an input file under its root, or the file where all lie in one folder. The zero value is no limit.
type SourceLimit struct {
	Share float64 `json:"share,omitempty"` // above 0 and below 1
	Stop  bool    `json:"stop,omitempty"`
}

// ParseSourceLimit reads "0.5", which warns, or "0.5=error", which stops; "" is no limit.
func ParseSourceLimit(s string) (SourceLimit, error) {
	if s == "" {
		return SourceLimit{}, nil
	}
	number, action, _ := strings.Cut(s, "=")
	share, err := strconv.ParseFloat(number, 64)
	if err != nil || !(share > 0 && share < 1) || action != "" && action != "warn" && action != "error" {
		return SourceLimit{}, fmt.Errorf("--limit-removed-per-source %q: give a share above 0 and below 1, such as 0.5, or 0.5=error", s)
	}
	return SourceLimit{Share: share, Stop: action == "error"}, nil
}

// ErrSourceLimit is wrapped when a source would lose more than [SourceLimit] allows and the run stops for it.
var ErrSourceLimit = errors.New("--limit-removed-per-source")

// maxSourceWarnings is how many sources are named.
const maxSourceWarnings = 10

// checkSources says which sources lose more than the limit, those that lose most first. It is called when everything
// is written and nothing is in place, so that a run that stops here and is started again with another limit goes on.
func (r *run) checkSources() error {
	limit := r.Exec.SourceLimit
	if limit.Share == 0 {
		return nil
	}
	share := func(s report.Source) float64 { return float64(s.Removed) / float64(s.Documents) }
	_, sources := r.sources()
	sources = slices.DeleteFunc(sources, func(s report.Source) bool { return s.Documents == 0 || share(s) <= limit.Share })
	slices.SortFunc(sources, func(a, b report.Source) int {
		return cmp.Or(cmp.Compare(share(b), share(a)), cmp.Compare(a.Name, b.Name))
	})
	if len(sources) == 0 {
		return nil
	}
	var lines []string
	for i, s := range sources {
		if i == maxSourceWarnings {
			lines = append(lines, fmt.Sprintf("%d more sources", len(sources)-i))
			break
		}
		lines = append(lines, fmt.Sprintf("%s loses %d of %d documents (%.1f %%)", s.Name, s.Removed, s.Documents, 100*share(s)))
	}
	if limit.Stop {
		return fmt.Errorf("%w: more than %g of a source would be removed: %s; nothing was put in place; look into it, or run again with "+
			"another limit: finished tasks are kept", ErrSourceLimit, limit.Share, strings.Join(lines, ", "))
	}
	for _, l := range lines {
		r.warnings = append(r.warnings, l)
		r.note("warning: " + l)
	}
	return nil
}
