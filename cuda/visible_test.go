package cuda

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// machine has GPUs 0 to 3, of which 2 is divided into two instances, and 1 and 3 have UUIDs that begin alike.
func machine() []Device {
	uuids := []string{"GPU-aaaa0000", "GPU-bbbb0001", "GPU-cccc0002", "GPU-bbbb0003"}
	var all []Device
	for i, u := range uuids {
		if i != 2 {
			all = append(all, Device{Index: i, UUID: u})
			continue
		}
		for k, m := range []string{"MIG-dddd0000", "MIG-dddd0001"} {
			all = append(all, Device{Index: i, UUID: m, MIG: &Instance{Parent: u, GPUInstance: 1 + k}})
		}
	}
	return all
}

func TestVisible(t *testing.T) {
	for _, tc := range []struct {
		name, list, want, note string
	}{
		{"empty", "", "", ""},
		{"blank", " ", "", ""},
		{"one", "0", "a0", ""},
		{"order", "3,0", "b3 a0", ""},
		{"spaces", " 3 , 0 ", "b3 a0", ""},
		{"a divided GPU is its instances", "2", "d0 d1", ""},
		{"negative", "-1", "", `"-1" is no device`},
		{"negative ends the list", "0,3,-1,1", "a0 b3", `"-1" is no device of this machine, so only the 2 before it count`},
		{"too large", "0,4,1", "a0", `"4" is no device`},
		{"no entry between commas", "0,,1", "a0", `"" is no device`},
		{"a comma at the end", "0,", "a0", `"" is no device`},
		{"leading digits count", "1gpu3,0x3", "b1 a0", ""},
		{"a plus", "+1", "b1", ""},
		{"a word", "all", "", `"all" is no device`},
		{"NoDevFiles, as Slurm has it", "NoDevFiles", "", `"NoDevFiles" is no device`},
		{"huge", "99999999999999999999", "", "is no device"},
		{"twice", "0,1,0", "", `names a device twice, at "0", so there are none`},
		{"twice in two spellings", "0,00", "", `twice, at "00"`},
		{"twice, after the end", "0,-1,0", "a0", "is no device"},
		{"UUID", "GPU-bbbb0003,GPU-aaaa0000", "b3 a0", ""},
		{"prefix", "GPU-a", "a0", ""},
		{"a prefix of two", "GPU-a,GPU-bbbb,GPU-c", "a0", `"GPU-bbbb" is the beginning of more than one device's UUID`},
		{"unknown", "GPU-a,GPU-ffff", "a0", `"GPU-ffff" is no device`},
		{"lower case is no UUID", "gpu-aaaa0000", "", "is no device"},
		{"the UUID of a divided GPU", "GPU-cccc", "d0 d1", ""},
		{"twice by prefixes", "GPU-a,GPU-aaaa", "", "twice"},
		{"a kind after another", "0,GPU-b", "a0", `"GPU-b" is not of the kind of the first`},
		{"an index after a UUID", "GPU-a,1", "a0", `"1" is not of the kind`},
		{"an instance after a GPU", "GPU-a,MIG-dddd0001", "a0", "not of the kind"},
		{"instance", "MIG-dddd0001", "d1", ""},
		{"instances in order", "MIG-dddd0001,MIG-dddd0000", "d1 d0", ""},
		{"a prefix of two instances", "MIG-dddd", "", "more than one"},
		{"old form", "MIG-GPU-cccc0002/2/0", "d1", ""},
		{"old form, no such instance", "MIG-GPU-cccc0002/9/0", "", "is no device"},
		{"instance twice", "MIG-dddd0001,MIG-GPU-cccc0002/2/0", "", "twice"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, note := Visible(machine(), tc.list)
			var names []string
			for _, d := range got {
				names = append(names, d.UUID[4:5]+d.UUID[len(d.UUID)-1:])
			}
			if s := strings.Join(names, " "); s != tc.want {
				t.Errorf("got %q, want %q", s, tc.want)
			}
			if (note != "") != (tc.note != "") || !strings.Contains(note, tc.note) {
				t.Errorf("note %q, want %q", note, tc.note)
			}
		})
	}
}

// Whatever the value is, what is visible are devices of the machine, none of them twice.
func FuzzVisible(f *testing.F) {
	for _, s := range []string{"0,1", "GPU-a,GPU-b", "MIG-dddd0001", "0,,", "2,2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		all := machine()
		got, _ := Visible(all, list)
		seen := make(map[string]bool)
		for _, d := range got {
			known := slices.ContainsFunc(all, func(e Device) bool { return e.UUID == d.UUID })
			if !known || seen[d.UUID] {
				t.Fatalf("%q shows %+v", list, got)
			}
			seen[d.UUID] = true
		}
	})
}

// fakeLibrary is a library without a machine.
type fakeLibrary struct{ inv Inventory }

func (f fakeLibrary) list() (Inventory, error) { return f.inv, nil }
func (f fakeLibrary) check(string) error       { return nil }
func (f fakeLibrary) close() error             { return nil }

// The variable is followed if it is set, even to nothing.
func TestDevicesEnvironment(t *testing.T) {
	for _, tc := range []struct {
		value string
		set   bool
		want  int
		notes int
	}{{"", false, 5, 0}, {"", true, 0, 0}, {"1,3", true, 2, 0}, {"1,9", true, 1, 1}} {
		s := &System{fakeLibrary{Inventory{Devices: machine()}}}
		inv, err := s.Devices(Options{
			Sys: fstest.MapFS{},
			LookupEnv: func(name string) (string, bool) {
				if name != "CUDA_VISIBLE_DEVICES" {
					t.Errorf("%s was read", name)
				}
				return tc.value, tc.set
			},
		})
		if err != nil || len(inv.Devices) != tc.want || len(inv.Notes) != tc.notes {
			t.Errorf("%+v: %+v, %v", tc, inv, err)
		}
		for _, d := range inv.Devices {
			if d.NUMANode != -1 {
				t.Error(fmt.Sprint(d))
			}
		}
	}
}
