package executor

import (
	"slices"
	"strings"
	"testing"
)

func TestActorEnviron(t *testing.T) {
	gpu := &Device{Kind: DeviceCUDA, Index: 3, UUID: "GPU-3"}
	for _, tc := range []struct {
		name   string
		base   []string
		device *Device
		extra  map[string]string
		want   string   // entries with blanks between them
		warns  []string // what each warning begins with
	}{
		{"nothing", nil, nil, nil, "CUDA_VISIBLE_DEVICES=", nil},
		{"a device", []string{"HOME=/h"}, gpu, nil, "HOME=/h CUDA_VISIBLE_DEVICES=GPU-3 UCX_RNDV_FRAG_MEM_TYPES=host", nil},
		{"an instance", nil, &Device{Kind: DeviceCUDA, UUID: "MIG-1"}, nil, "CUDA_VISIBLE_DEVICES=MIG-1 UCX_RNDV_FRAG_MEM_TYPES=host", nil},
		{"a device of another maker", []string{"CUDA_VISIBLE_DEVICES=1"}, &Device{Kind: "other", UUID: "x"}, nil, "CUDA_VISIBLE_DEVICES=1", nil},
		{"one of those of this process", []string{"CUDA_VISIBLE_DEVICES=2,3", "A=1"}, gpu, nil,
			"CUDA_VISIBLE_DEVICES=GPU-3 A=1 UCX_RNDV_FRAG_MEM_TYPES=host", nil},
		{"none of them", []string{"CUDA_VISIBLE_DEVICES=2,3"}, nil, nil, "CUDA_VISIBLE_DEVICES=", nil},
		{"the user's variables, in order", []string{"Z=1"}, nil, map[string]string{"B": "2", "A": "", "C": "x=y"},
			"Z=1 A= B=2 C=x=y CUDA_VISIBLE_DEVICES=", nil},
		{"the user prevails, with a warning", []string{"A=1", "B=2"}, nil, map[string]string{"A": "3", "B": "2"},
			"A=3 B=2 CUDA_VISIBLE_DEVICES=", []string{`environment variable A is "3"`}},
		{"not about devices", []string{"CUDA_VISIBLE_DEVICES=0,1"}, gpu, map[string]string{"CUDA_VISIBLE_DEVICES": "0"},
			"CUDA_VISIBLE_DEVICES=GPU-3 UCX_RNDV_FRAG_MEM_TYPES=host", []string{"environment variable CUDA_VISIBLE_DEVICES=0 is not followed"}},
		{"nor through Ray", nil, gpu, map[string]string{raySkipsDevices: "1"},
			raySkipsDevices + "= CUDA_VISIBLE_DEVICES=GPU-3 UCX_RNDV_FRAG_MEM_TYPES=host", []string{"environment variable " + raySkipsDevices + "=1 is not"}},
		{"nor through Ray, from outside", []string{raySkipsDevices + "=true"}, nil, nil,
			raySkipsDevices + "= CUDA_VISIBLE_DEVICES=", []string{"environment variable " + raySkipsDevices + "=true"}},
		{"Ray's variable without effect", []string{raySkipsDevices + "="}, nil, nil, raySkipsDevices + "= CUDA_VISIBLE_DEVICES=", nil},
		{"UCX as the user has it", []string{"UCX_RNDV_FRAG_MEM_TYPES=cuda"}, gpu, nil, "UCX_RNDV_FRAG_MEM_TYPES=cuda CUDA_VISIBLE_DEVICES=GPU-3", nil},
		{"UCX as the user wants it", nil, gpu, map[string]string{"UCX_RNDV_FRAG_MEM_TYPES": "cuda"},
			"UCX_RNDV_FRAG_MEM_TYPES=cuda CUDA_VISIBLE_DEVICES=GPU-3", nil},
		{"names that cannot be", nil, nil, map[string]string{"": "1", "A=B": "1", "C": "\x00"}, "CUDA_VISIBLE_DEVICES=",
			[]string{`environment variable "" is left out`, `environment variable "A=B" is left out`, `environment variable "C" is left out`}},
		{"entries that are none, and twice", []string{"", "junk", "A=1", "A=2", "=C:=C:/"}, nil, nil, "A=2 =C:=C:/ CUDA_VISIBLE_DEVICES=", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := slices.Clone(tc.base)
			got, warnings := ActorEnviron(tc.base, tc.device, tc.extra)
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("got  %s\nwant %s", s, tc.want)
			}
			if len(warnings) != len(tc.warns) {
				t.Fatalf("warnings %q", warnings)
			}
			for i, w := range warnings {
				if !strings.HasPrefix(w, tc.warns[i]) {
					t.Errorf("warning %q, want %q", w, tc.warns[i])
				}
			}
			if !slices.Equal(before, tc.base) {
				t.Error("base was changed")
			}
		})
	}
}
