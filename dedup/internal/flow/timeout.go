package flow

import "time"

// DefaultTaskTimeout is how long a task may show no sign of progress before its worker is taken to be stuck.
const DefaultTaskTimeout = time.Hour

// TaskTimeout is what the executor is told for an option that is 0 for the default and less than 0 for ever.
func TaskTimeout(d time.Duration) time.Duration {
	if d == 0 {
		return DefaultTaskTimeout
	}
	return max(0, d)
}
