// Package kerneltest compares the kernels with the plain Go that defines what they compute, on devices that are no GPUs: the PTX
// interpreter, and the kernels as C++. Package cuda does not import it.
package kerneltest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/dovetail-dedup/dovetail/cuda/internal/ptx"
)

// Block is the number of threads of every block.
const Block = 256

// Device is what kernels run on. It serves one goroutine.
type Device interface {
	// Alloc allocates size bytes and returns their address. They are zeros, or nobody knows what.
	Alloc(name string, size int64, zero bool) (addr uint64, err error)
	// Write writes bytes to an address.
	Write(addr uint64, data []byte) error
	// Read reads bytes from an address.
	Read(addr uint64, data []byte) error
	// Launch runs a kernel to its end. Seed decides the order of threads and blocks.
	Launch(kernel string, grid, shared int, seed uint64, params ...uint64) error
	// Reset frees all that was allocated.
	Reset() error
	// Close ends the device.
	Close() error
}

// Interpreter runs PTX.
type Interpreter struct {
	Module *ptx.Module
	// Instructions counts what was executed.
	Instructions int64
	// MaxInstructions bounds a launch; 0: the interpreter's bound.
	MaxInstructions int64
	// Profile, if not nil, is told what is executed.
	Profile *ptx.Profile
	memory  *ptx.Memory
	arrays  map[uint64]*ptx.Array
}

// NewInterpreter returns a device for the kernels in a module.
func NewInterpreter(m *ptx.Module) *Interpreter {
	return &Interpreter{Module: m, memory: ptx.NewMemory(), arrays: map[uint64]*ptx.Array{}}
}

// Alloc implements [Device].
func (d *Interpreter) Alloc(name string, size int64, zero bool) (uint64, error) {
	a := d.memory.Alloc(name, size)
	if zero {
		a.Zero()
	}
	d.arrays[a.Addr] = a
	return a.Addr, nil
}

func (d *Interpreter) find(addr uint64, size int) (*ptx.Array, int64, error) {
	if a := d.memory.Find(addr); a != nil {
		return a, int64(addr - a.Addr), nil
	}
	return nil, 0, fmt.Errorf("kerneltest: %d bytes at %#x are in no array", size, addr)
}

// Write implements [Device].
func (d *Interpreter) Write(addr uint64, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	a, at, err := d.find(addr, len(data))
	if err != nil {
		return err
	}
	return a.Write(at, data)
}

// Read implements [Device].
func (d *Interpreter) Read(addr uint64, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	a, at, err := d.find(addr, len(data))
	if err != nil {
		return err
	}
	return a.Read(at, data)
}

// Launch implements [Device].
func (d *Interpreter) Launch(kernel string, grid, shared int, seed uint64, params ...uint64) error {
	s, err := d.Module.Launch(d.memory, kernel, ptx.Config{Grid: grid, Block: Block, Shared: shared, Seed: seed, MaxInstructions: d.MaxInstructions, Profile: d.Profile}, params...)
	d.Instructions += s.Instructions
	return err
}

// Reset implements [Device].
func (d *Interpreter) Reset() error {
	d.memory, d.arrays = ptx.NewMemory(), map[uint64]*ptx.Array{}
	return nil
}

// Close implements [Device].
func (d *Interpreter) Close() error { return nil }

// Host runs the kernels as C++ in a process of its own.
type Host struct {
	cmd    *exec.Cmd
	in     *bufio.Writer
	pipe   io.Closer
	out    *bufio.Reader
	stderr bytes.Buffer
	failed error
}

// NewHost starts the program that hostmodel/runner.cc is.
func NewHost(program string) (*Host, error) {
	h := &Host{cmd: exec.Command(program)}
	h.cmd.Env = append(os.Environ(), "ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0",
		"UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1", "TSAN_OPTIONS=halt_on_error=1:report_bugs=1")
	in, err := h.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.cmd.Stderr = &h.stderr
	h.in, h.pipe, h.out = bufio.NewWriterSize(in, 1<<16), in, bufio.NewReaderSize(out, 1<<16)
	return h, h.cmd.Start()
}

// ask sends a request and, unless n is 0, reads an answer of n bytes.
func (h *Host) ask(what byte, n int, parts ...any) ([]byte, error) {
	if h.failed != nil {
		return nil, h.failed
	}
	b := []byte{what}
	for _, p := range parts {
		switch p := p.(type) {
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, p)
		case []byte:
			b = append(b, p...)
		}
	}
	_, err := h.in.Write(b)
	answer := make([]byte, n)
	if n > 0 && err == nil {
		if err = h.in.Flush(); err == nil {
			_, err = io.ReadFull(h.out, answer)
		}
	}
	if err != nil {
		_ = h.pipe.Close()
		wait := h.cmd.Wait()
		h.failed = fmt.Errorf("kerneltest: the host model ended: %w, %w\n%s", err, errors.Join(wait), h.stderr.Bytes())
		return nil, h.failed
	}
	return answer, nil
}

// Alloc implements [Device].
func (h *Host) Alloc(_ string, size int64, zero bool) (uint64, error) {
	z := uint64(0)
	if zero {
		z = 1
	}
	b, err := h.ask('A', 8, uint64(size), z)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// Write implements [Device].
func (h *Host) Write(addr uint64, data []byte) error {
	_, err := h.ask('W', 0, addr, uint64(len(data)), data)
	return err
}

// Read implements [Device].
func (h *Host) Read(addr uint64, data []byte) error {
	b, err := h.ask('R', len(data), addr, uint64(len(data)))
	copy(data, b)
	return err
}

// Launch implements [Device].
func (h *Host) Launch(kernel string, grid, shared int, seed uint64, params ...uint64) error {
	parts := []any{uint64(len(kernel)), []byte(kernel), uint64(grid), uint64(Block), uint64(shared), seed, uint64(len(params))}
	for _, p := range params {
		parts = append(parts, p)
	}
	b, err := h.ask('L', 8, parts...)
	if err != nil {
		return err
	}
	n := binary.LittleEndian.Uint64(b)
	if n == 0 {
		return nil
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(h.out, text); err != nil {
		return err
	}
	return fmt.Errorf("kerneltest: host model: %s", text)
}

// Reset implements [Device].
func (h *Host) Reset() error {
	_, err := h.ask('F', 0)
	return err
}

// Close implements [Device].
func (h *Host) Close() error {
	if h.failed != nil {
		return nil
	}
	err := h.in.Flush()
	return errors.Join(err, h.pipe.Close(), h.cmd.Wait())
}
