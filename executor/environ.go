package executor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Environment variables that decide what an actor's process sees of devices.
const (
	visibleDevices = "CUDA_VISIBLE_DEVICES"
	// raySkipsDevices keeps Ray from setting CUDA_VISIBLE_DEVICES.
	raySkipsDevices = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
	// fragments is where UCX keeps the buffers through which it moves data between devices. On the device, as by default, they
	// take memory that actors count on.
	fragments = "UCX_RNDV_FRAG_MEM_TYPES"
)

// ActorEnviron returns the environment, as [os.Environ] has it, of the process of an actor that owns device, or none if that
// is nil. base is that of the process that starts it, and extra is what the user wants beside or instead of it.
//
// The actor sees its device and no other: CUDA_VISIBLE_DEVICES is the UUID of an NVIDIA GPU, and empty for an actor without
// one. That is the executor's to say, so a value in extra is not followed. UCX_RNDV_FRAG_MEM_TYPES is "host" for
// an actor with a device, unless base or extra has a value. Everything else in base is kept, and extra prevails over it.
//
// There is a warning, which names the variable, for what was not followed, what base had otherwise, and names that cannot be.
func ActorEnviron(base []string, device *Device, extra map[string]string) (environ, warnings []string) {
	values := make(map[string]string)
	var names []string // of base, in its order
	for _, entry := range base {
		// Windows has names that begin with "=".
		name, value, ok := strings.Cut(entry[min(1, len(entry)):], "=")
		if !ok {
			continue
		}
		name = entry[:1] + name
		if _, seen := values[name]; !seen {
			names = append(names, name)
		}
		values[name] = value
	}
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	set := func(name, value string) {
		if _, seen := values[name]; !seen {
			names = append(names, name)
		}
		values[name] = value
	}
	for _, name := range slices.SortedFunc(maps.Keys(extra), cmp.Compare) {
		value := extra[name]
		switch was, seen := values[name]; {
		case name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00"):
			warn("environment variable %q is left out: no process can have it", name)
		case name == visibleDevices:
			warn("environment variable %s=%s is not followed: every actor sees the device it owns and no other", name, value)
		case seen && was != value:
			warn("environment variable %s is %q for actors and not %q, as in the environment of this process", name, value, was)
			set(name, value)
		default:
			set(name, value)
		}
	}
	if v := values[raySkipsDevices]; v != "" && v != "0" {
		warn("environment variable %s=%s is not followed: every actor sees the device it owns and no other", raySkipsDevices, v)
		set(raySkipsDevices, "")
	}
	switch {
	case device == nil:
		set(visibleDevices, "")
	case device.Kind == DeviceCUDA:
		set(visibleDevices, device.UUID)
		if _, seen := values[fragments]; !seen {
			set(fragments, "host")
		}
	}
	for _, name := range names {
		environ = append(environ, name+"="+values[name])
	}
	return environ, warnings
}
