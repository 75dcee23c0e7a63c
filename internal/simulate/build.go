package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build compiles a guest, the command in the folder of that name beside this package, with the go command. overlay replaces
// files of the module for the compiler: paths, and what is in them.
func Build(ctx context.Context, module, guest string, overlay map[string][]byte) ([]byte, error) {
	dir, err := os.MkdirTemp("", "simulate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "guest.wasm")
	replace := make(map[string]string)
	put := func(path string, content []byte) error {
		file := filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		replace[path] = file
		return os.WriteFile(file, content, 0o666)
	}
	scheduler, content, err := shuffled(ctx)
	if err != nil {
		return nil, err
	}
	if err := put(scheduler, content); err != nil {
		return nil, err
	}
	for path, content := range overlay {
		if err := put(filepath.Join(module, path), content); err != nil {
			return nil, err
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, err
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, b, 0o666); err != nil {
		return nil, err
	}
	// With invariants, because what they say at once a history says late or never.
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "invariants", "-trimpath", "-ldflags=-s -w", "-o", out, "-overlay", list, "./internal/simulate/"+guest)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("simulate: building the guest %s: %w\n%s", guest, err, b)
	}
	return os.ReadFile(out)
}

// shuffled returns the file of Go's scheduler, and what is to be in it: goroutines that can run take turns by chance. Without a
// thread that watches the others, which wasm has not, Go has them wait in line, and an order that only the line keeps would
// never be seen broken.
func shuffled(ctx context.Context) (path string, content []byte, err error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", nil, fmt.Errorf("simulate: go env GOROOT: %w", err)
	}
	path = filepath.Join(strings.TrimSpace(string(root)), "src", "runtime", "proc.go")
	if content, err = os.ReadFile(path); err != nil {
		return "", nil, err
	}
	for _, e := range schedule {
		if bytes.Count(content, []byte(e.Old)) != 1 {
			return "", nil, fmt.Errorf("simulate: %s does not have %q once: see how this version of Go lines goroutines up, in runqput", path, e.Old)
		}
		content = bytes.Replace(content, []byte(e.Old), []byte(e.New), 1)
	}
	return path, content, nil
}

// schedule changes the line in which goroutines wait. There is one thread, so nobody looks at the line meanwhile.
var schedule = []Edit{{
	Old: "const randomizeScheduler = raceenabled",
	New: "const randomizeScheduler = true",
}, {
	Old: `		pp.runq[t%uint32(len(pp.runq))].set(gp)
		atomic.StoreRel(&pp.runqtail, t+1) // store-release, makes the item available for consumption
		return
`,
	New: `		pp.runq[t%uint32(len(pp.runq))].set(gp)
		atomic.StoreRel(&pp.runqtail, t+1)
		if randn(2) == 0 {
			other := h + randn(t-h+1)
			n := uint32(len(pp.runq))
			pp.runq[t%n], pp.runq[other%n] = pp.runq[other%n], pp.runq[t%n]
		}
		return
`,
}}
