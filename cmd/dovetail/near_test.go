package main

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/internal/bootstrap"
)

// TestNearCPUs asks where ranks of a machine of two nodes and 16 processors run, which has GPUs at each.
func TestNearCPUs(t *testing.T) {
	text := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s + "\n")} }
	machine := func(first, second int) fstest.MapFS {
		m := fstest.MapFS{}
		for i := range first + second {
			at := fmt.Sprintf("bus/pci/devices/0000:%02d:00.0/", i)
			m[at+"vendor"], m[at+"class"], m[at+"local_cpulist"] = text("0x10de"), text("0x030200"), text("0-7")
			if i >= first {
				m[at+"local_cpulist"] = text("8-15")
			}
		}
		return m
	}
	span := func(from, to int) (cpus []int) {
		for n := from; n <= to; n++ {
			cpus = append(cpus, n)
		}
		return cpus
	}
	gpus := func(from, to int) (all []string) {
		for _, n := range span(from, to) {
			all = append(all, fmt.Sprintf("00000000:%02d:00.0", n))
		}
		return all
	}
	for _, c := range []struct {
		what    string
		sys     fstest.MapFS
		gpus    []string
		allowed []int
		workers int
		want    []int
	}{
		{"a rank for each GPU", machine(2, 2), gpus(0, 0), span(0, 15), 4, span(0, 7)},
		{"of the second node", machine(2, 2), gpus(3, 3), span(0, 15), 4, span(8, 15)},
		{"a rank for each node", machine(2, 2), gpus(2, 3), span(0, 15), 8, span(8, 15)},
		{"all GPUs at one node", machine(4, 0), gpus(0, 0), span(0, 15), 4, nil},
		{"more workers than are near", machine(2, 2), gpus(0, 0), span(0, 15), 5, nil},
		{"a rank with GPUs at both", machine(2, 2), gpus(1, 2), span(0, 15), 4, nil},
		{"bound by the launcher", machine(2, 2), gpus(0, 0), span(0, 3), 2, nil},
		{"bound to a part of both", machine(1, 1), gpus(0, 0), span(4, 11), 4, span(4, 7)},
		{"bound elsewhere", machine(2, 2), gpus(0, 0), span(8, 15), 4, nil},
		{"nothing known", fstest.MapFS{}, gpus(0, 0), span(0, 15), 4, nil},
	} {
		if got := nearCPUs(c.sys, c.gpus, c.allowed, c.workers); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

// Whoever has no GPUs, or has said so, stays where it is; so does a wrong --bind.
func TestStay(t *testing.T) {
	several := &bootstrap.Place{Launcher: bootstrap.Slurm, Size: 2}
	for _, c := range []struct {
		args, env string
		place     *bootstrap.Place
		want      string
	}{
		{"--device cpu", "", several, ""},
		{"--device sim", "", several, ""},
		{"", "", nil, ""},
		{"", "", &bootstrap.Place{Size: 1}, ""},
		{"--bind none --device cpu", "core", several, ""},
		{"--bind core", "", nil, `--bind "core"`},
		{"", "core", several, `--bind "core"`},
	} {
		t.Setenv(bindVariable, c.env)
		if c.env == "" {
			os.Unsetenv(bindVariable)
		}
		var f deviceFlags
		fl := pflag.NewFlagSet("test", pflag.ContinueOnError)
		f.add(fl)
		if err := fl.Parse(strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		near, err := f.stay(fl, c.place)
		if near != nil || (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, $%s=%s: %v, %v, want %q", c.args, bindVariable, c.env, near != nil, err, c.want)
		}
	}
	if len(several.Notes) > 0 {
		t.Errorf("there are notes: %q", several.Notes)
	}
}
