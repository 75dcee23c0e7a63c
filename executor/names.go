package executor

import (
	"fmt"
	"hash/crc32"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/zeebo/xxh3"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	maxNameLen = 128
	// maxFileName keeps the name of an attempt's file, with everything in front of it, within the 255 bytes
	// that file systems allow.
	maxFileName = 96
	maxTaskData = 16 << 20
)

// checkName reports why s cannot name a task, a stage or a file.
func checkName(s string, most int) error {
	if s == "" || len(s) > most {
		return fmt.Errorf("it has %d characters, want 1 to %d", len(s), most)
	}
	if s[0] == '.' {
		return fmt.Errorf("it starts with a dot")
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("it has %q, want only letters, digits, dot, underscore and hyphen", c)
		}
	}
	return nil
}

// checkStageName reports why s cannot name a stage.
func checkStageName(s string) error {
	switch s {
	case lockName, logName, logName + ".tmp", spillName:
		return fmt.Errorf("it is used for something else in the work folder")
	}
	return checkName(s, maxNameLen)
}

// attemptFile returns the name of an attempt's file in its stage's folder. As "@" occurs in no name, two
// attempts never share one.
func attemptFile(task string, epoch, attempt uint32, name string) string {
	return fmt.Sprintf("%s@%d.%d.%s", task, epoch, attempt, name)
}

// ofAttempt reports whether a file's name is one that an attempt can give.
func ofAttempt(base, task string, epoch, attempt uint32) bool {
	head := attemptFile(task, epoch, attempt, "")
	return len(base) > len(head) && base[:len(head)] == head && checkName(base[len(head):], maxFileName) == nil
}

// tempName is where a file is until its attempt commits. No committed file starts with a dot.
func tempName(file string) string { return "." + file }

var attemptFilePattern = regexp.MustCompile(`^\.?[\w-][\w.-]*@[0-9]+\.[0-9]+\.[\w-][\w.-]*$`)

// isAttemptFile reports whether a file in a stage's folder was made by an attempt.
func isAttemptFile(name string) bool { return attemptFilePattern.MatchString(name) }

// placedTemp returns the temporary path of a file that ends at final: in the same folder, so that renaming
// works, of fixed length, and its own for every attempt.
func placedTemp(final string, runID uint64, epoch, attempt uint32) string {
	h := xxh3.HashStringSeed(filepath.Base(final), runID)
	return filepath.Join(filepath.Dir(final), fmt.Sprintf(".dovetail-%016x-%d.%d.tmp", h, epoch, attempt))
}

// partTask names a partition among the commits of a shuffle stage.
func partTask(part int) Task {
	id := strconv.Itoa(part)
	for len(id) < 5 {
		id = "0" + id
	}
	return Task{ID: "part-" + id}
}
