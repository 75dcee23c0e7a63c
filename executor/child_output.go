package executor

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
)

// childOutput takes what a process writes, and remembers what it said last, or of what it died.
type childOutput struct {
	tell func(line string)

	mu    sync.Mutex
	part  []byte
	n     int
	last  string
	fatal string
}

const (
	maxLine  = 1 << 10 // bytes of a line that are shown
	maxLines = 200     // of a process that are shown
)

// Write takes bytes as they come. It never fails, or the process would.
func (l *childOutput) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := b; ; {
		line, more, found := bytes.Cut(rest, []byte("\n"))
		l.part = append(l.part, line[:min(len(line), maxLine-len(l.part))]...)
		if !found {
			return len(b), nil
		}
		l.line()
		rest = more
	}
}

// line ends a line. The lock is held.
func (l *childOutput) line() {
	s := strings.TrimSpace(string(l.part))
	l.part = l.part[:0]
	if s == "" {
		return
	}
	l.last = s
	if l.fatal == "" && (strings.HasPrefix(s, "panic: ") || strings.HasPrefix(s, "fatal error: ")) {
		l.fatal = s
	}
	switch l.n++; {
	case l.n < maxLines:
		l.tell(s)
	case l.n == maxLines:
		l.tell("(it says more, which is left out)")
	}
}

func (l *childOutput) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line()
}

// words is what explains the end of the process best, or "".
func (l *childOutput) words() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal != "" {
		return l.fatal
	}
	return l.last
}

// ended says how a process has ended, of which Wait says err.
func (p *child) ended(st *os.ProcessState, err error) string {
	var s string
	switch sig := signalOf(st); {
	case st == nil:
		return err.Error()
	case sig == "SIGKILL" && !p.killed.Load():
		return "it was killed by SIGKILL, by someone or, if memory was short, by the system"
	case sig != "":
		s = "it was ended by " + sig
	default:
		s = fmt.Sprintf("it ended with exit code %d", st.ExitCode())
	}
	if w := p.output.words(); w != "" {
		s += ": " + w
	}
	return s
}
