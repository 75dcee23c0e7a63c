//go:build cuda

package cuda

import (
	"errors"
	"fmt"

	"gorgonia.org/cu"
)

// Module is code that was loaded onto a GPU. It is safe for concurrent use.
type Module struct {
	c *Context
	m cu.Module
}

// Load loads a module: a fatbin, a cubin or PTX. The simulated driver takes anything: its kernels are compiled with it. The caller
// closes the module, when nothing of it runs any more.
func (c *Context) Load(image []byte) (*Module, error) {
	m := &Module{c: c}
	err := c.call("cuModuleLoadData", func() (err error) {
		m.m, err = cu.LoadData(string(image))
		return err
	})
	if err != nil {
		return nil, err
	}
	c.made("modules")
	return m, nil
}

// Close unloads the module.
func (m *Module) Close() error {
	err := m.c.call("cuModuleUnload", m.m.Unload)
	m.c.gone("modules")
	return err
}

// Kernel is a kernel of a module. It is safe for concurrent use.
type Kernel struct {
	c    *Context
	name string
	f    cu.Function
}

// maxStaticShared is how much dynamic shared memory every kernel may have; more has to be asked for.
const maxStaticShared = 48 << 10

// Kernel returns the kernel of a name, which may be launched with up to shared bytes of dynamic shared memory.
func (m *Module) Kernel(name string, shared int) (*Kernel, error) {
	k := &Kernel{c: m.c, name: name}
	err := m.c.call("cuModuleGetFunction", func() (err error) {
		k.f, err = m.m.Function(name)
		return err
	})
	if err == nil && shared > maxStaticShared {
		err = m.c.call("cuFuncSetAttribute", func() error { return setShared(k.f, shared) })
	}
	if err != nil {
		return nil, fmt.Errorf("%w (kernel %s)", err, name)
	}
	return k, nil
}

// maxGrid is the most blocks of a grid.
const maxGrid = 1<<31 - 1

// Launch queues a kernel with blocks of 256 threads, at least one. Every parameter has 8 bytes: an address, or a number. What goes
// wrong while it runs is an error of what waits for it.
func (s *Stream) Launch(k *Kernel, blocks, shared int, params ...uint64) error {
	if k.c != s.c {
		return fmt.Errorf("cuda: %s is launched in a stream of another GPU", k.name)
	}
	if len(params) > maxParams {
		return fmt.Errorf("cuda: %s is launched with %d parameters", k.name, len(params))
	}
	err := s.c.call("cuLaunchKernel", func() error {
		return launch(k.f, min(max(blocks, 1), maxGrid), blockThreads, shared, s.s, params)
	})
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Call += " of " + k.name
		}
	}
	return err
}
