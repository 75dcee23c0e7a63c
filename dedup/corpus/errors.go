package corpus

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/dovetail-dedup/dovetail/mem"
)

// What is wrong with a file or an input. Test with errors.Is.
var (
	// ErrInput is wrapped by what is wrong with the inputs as the user named them: nothing matches, formats
	// are mixed, two files would have one path.
	ErrInput = errors.New("input cannot be used")
	// ErrCorrupt is wrapped when the bytes of a file are not of its format, or stop too early.
	ErrCorrupt = errors.New("damaged file")
	// ErrColumn is wrapped when a file lacks a column or has it with a type that cannot serve.
	ErrColumn = errors.New("unsuitable column")
	// ErrRecord is wrapped when a single line or row cannot be used while the file around it can.
	ErrRecord = errors.New("unusable record")
	// ErrChanged is wrapped when a file is not the one that was resolved.
	ErrChanged = errors.New("file changed during the run")
)

// FileError says what is wrong with the contents of a file, and where.
type FileError struct {
	Name     string // the file
	Line     int64  // from 1; 0 if it is not about a line
	Row      int64  // from 0; -1 if it is not about a row
	RowGroup int    // from 0; -1 if it is not about a row group
	Kind     error  // ErrCorrupt, ErrColumn, ErrRecord or ErrChanged
	Err      error  // what is wrong and, where something can be done, what to do
}

// Error returns one line: file, place, fault.
func (e *FileError) Error() string {
	if e.Line > 0 {
		return "corpus: " + e.Name + ":" + strconv.FormatInt(e.Line, 10) + ": " + e.Err.Error()
	}
	return "corpus: " + e.Name + ": " + e.Reason()
}

// Reason returns place and fault.
func (e *FileError) Reason() string {
	s := e.Err.Error()
	switch {
	case e.Line > 0:
		return "line " + strconv.FormatInt(e.Line, 10) + ": " + s
	case e.Row >= 0:
		return "row " + strconv.FormatInt(e.Row, 10) + ": " + s
	case e.RowGroup >= 0:
		return "row group " + strconv.Itoa(e.RowGroup) + ": " + s
	}
	return s
}

// BadFile returns the error if it says that a file as a whole cannot be used, because of its contents and nothing
// else: it wraps [ErrCorrupt] or [ErrColumn].
func BadFile(err error) (*FileError, bool) { return faultOf(err, ErrCorrupt, ErrColumn) }

// BadRecord returns the error if it says that a line or row cannot be used: it wraps [ErrRecord].
func BadRecord(err error) (*FileError, bool) { return faultOf(err, ErrRecord) }

func faultOf(err error, kinds ...error) (*FileError, bool) {
	var fe *FileError
	ok := errors.As(err, &fe) && slices.Contains(kinds, fe.Kind)
	return fe, ok
}

// Unwrap returns the kind and the cause.
func (e *FileError) Unwrap() []error { return []error{e.Kind, e.Err} }

// TooLargeError reports a document that does not fit ReadOptions.MaxBytes. errors.Is(err, mem.ErrNoMemory)
// is true for it.
type TooLargeError struct {
	Name  string // the file
	Row   int64  // the row or line, from 0, of the document, or of the first one in its page
	Need  int64  // the MaxBytes that would do for it, in bytes
	Text  int64  // about how many bytes its text has, at most
	Limit int64  // the MaxBytes that was set
}

// Error names the document and what it needs.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("corpus: %s: row %d needs %d bytes to be read, the limit is %d",
		e.Name, e.Row, e.Need, e.Limit)
}

// Unwrap returns mem.ErrNoMemory.
func (e *TooLargeError) Unwrap() error { return mem.ErrNoMemory }

// firstError returns the first error that is not nil. Closing a file that was only read seldom fails, and if
// it does after something else went wrong, that is what the user should read, as one line.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
