package data

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// makePackage builds a Debian package of some files, as apt-get download would leave it.
func makePackage(t *testing.T, dir, name, version string, files map[string]string) {
	t.Helper()
	root := t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a test\n", name, version)
	for path, content := range files {
		writeFile(t, filepath.Join(root, path), content)
	}
	writeFile(t, filepath.Join(root, "DEBIAN/control"), control)
	out := filepath.Join(dir, "deb", name+"_"+version+"_all.deb")
	if err := os.MkdirAll(filepath.Dir(out), 0o777); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", root, out).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sourceTree returns a .tar.xz of a folder.
func sourceTree(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		writeFile(t, filepath.Join(root, name, path), content)
	}
	out, err := exec.Command("tar", "-C", root, "-cJf", "-", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestMake makes the sets of packages that are there already, so that nothing is fetched.
func TestMake(t *testing.T) {
	for _, tool := range []string{"dpkg-deb", "tar", "xz"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	for i, k := range kernels {
		tree := sourceTree(t, k, map[string]string{
			"a.c": fmt.Sprintf("int a = %d;\n", i), "same.c": "int same;\n", "empty.c": "", "latin1.c": "/* caf\xe9 */\n",
			"large.c": strings.Repeat("x", maxSource+1), "binary": "a\x00b",
		})
		makePackage(t, dir, k, fmt.Sprintf("6.%d-1", i), map[string]string{"usr/src/" + k + ".tar.xz": tree})
	}
	page := "<html><head><title>t</title></head><body><p>" + strings.Repeat("A page of some words. ", 10) + "</p></body></html>"
	for _, p := range pages {
		makePackage(t, dir, p, "1", map[string]string{"usr/share/doc/" + p + "/index.html": page, "usr/share/doc/" + p + "/logo.png": "png", "usr/share/doc/" + p + "/short.txt": "short"})
	}
	z := Sizes{Code: 1000, Prose: 1000}
	var notes []string
	note := func(s string) { notes = append(notes, s) }
	if err := Make(t.Context(), dir, []string{"code", "prose"}, z, note); err != nil {
		t.Fatal(err)
	}
	code, err := Open(dir, "code")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := code.Each(func(d Doc) bool {
		got = append(got, d.Source+": "+d.Text)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	var want []string
	for i, k := range kernels {
		want = append(want, fmt.Sprintf("%s/a.c: int a = %d;\n", k, i), k+"/latin1.c: /* café */\n", k+"/same.c: int same;\n")
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("documents %q, want %q", got, want)
	}
	if len(code.Packages) != 2 || code.Packages[1].Version != "6.1-1" || len(code.Packages[0].SHA256) != 64 || len(code.Files[0].SHA256) != 64 {
		t.Errorf("%+v", code.Packages)
	}
	prose, err := Open(dir, "prose")
	if err != nil {
		t.Fatal(err)
	}
	if prose.Documents != int64(len(pages)) {
		t.Errorf("%d documents of %d packages", prose.Documents, len(pages))
	}
	if err := prose.Each(func(d Doc) bool {
		if strings.Contains(d.Text, "<") || !strings.HasPrefix(d.Text, "A page") {
			t.Errorf("%q", d.Text)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	// The second time they are there, and another size is another set.
	notes = nil
	if err := Make(t.Context(), dir, []string{"code"}, z, note); err != nil || !strings.HasSuffix(notes[0], "made before") {
		t.Errorf("%v, %q", err, notes)
	}
	if err := Make(t.Context(), dir, []string{"nothing"}, z, note); err == nil {
		t.Error("a set of no known name is no error")
	}
}
