package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	args := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", out}
	if len(overlay) > 0 {
		replace := make(map[string]string)
		for path, content := range overlay {
			file := filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
			if err := os.WriteFile(file, content, 0o666); err != nil {
				return nil, err
			}
			replace[filepath.Join(module, path)] = file
		}
		b, err := json.Marshal(map[string]any{"Replace": replace})
		if err != nil {
			return nil, err
		}
		list := filepath.Join(dir, "overlay.json")
		if err := os.WriteFile(list, b, 0o666); err != nil {
			return nil, err
		}
		args = append(args, "-overlay", list)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./internal/simulate/"+guest)...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("simulate: building the guest %s: %w\n%s", guest, err, b)
	}
	return os.ReadFile(out)
}
