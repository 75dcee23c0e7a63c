package process

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain is also the program that the tests run.
func TestMain(m *testing.M) {
	if n := os.Getenv("PROCESS_TEST_BYTES"); n != "" {
		hold := make([]byte, 100<<20)
		for i := range hold {
			hold[i] = byte(i)
		}
		// Busy for 400 ms, and on a busy machine until it has had the processor for half of that: what takes long was interrupted.
		had := time.Duration(0)
		for start, at := time.Now(), time.Now(); time.Since(start) < 400*time.Millisecond || had < 200*time.Millisecond; {
			hold[0]++
			took := time.Since(at)
			if at = at.Add(took); took < time.Millisecond {
				had += took
			}
		}
		os.Stdout.WriteString(n)
		return
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	u, out, err := Run(t.Context(), Command{Args: []string{self}, Env: []string{"PROCESS_TEST_BYTES=yes"}})
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != "yes" {
		t.Errorf("output %q", out)
	}
	if u.PeakBytes < 100<<20 || u.PeakBytes > 400<<20 {
		t.Errorf("peak of a program that holds 100 MiB is %d MiB", u.PeakBytes>>20)
	}
	if u.CPU < 100*time.Millisecond || u.Wall < 400*time.Millisecond {
		t.Errorf("a program that is busy for 400 ms took %v, %v of processor", u.Wall, u.CPU)
	}
}

// What this process holds does not count.
func TestRunSmall(t *testing.T) {
	hold := make([]byte, 300<<20)
	for i := range hold {
		hold[i] = byte(i)
	}
	u, _, err := Run(t.Context(), Command{Args: []string{"sleep", "0.2"}})
	if err != nil {
		t.Fatal(err)
	}
	if u.PeakBytes == 0 || u.PeakBytes > 100<<20 {
		t.Errorf("peak of a program that does nothing is %d MiB", u.PeakBytes>>20)
	}
	runtime.KeepAlive(hold)
}

// A server that the program leaves behind counts.
func TestRunServer(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	u, _, err := Run(t.Context(), Command{
		Args: []string{"sh", "-c", `sh -c '"$0" > /dev/null & wait' "$0" & sleep 3`, self}, Env: []string{"PROCESS_TEST_BYTES=yes"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if u.CPU < 100*time.Millisecond {
		t.Errorf("a server that is busy for 400 ms took %v of processor", u.CPU)
	}
}

// Two processes with 100 MiB each, started by a third, count together.
func TestRunTree(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := `"$0" & "$0" & wait`
	u, _, err := Run(t.Context(), Command{
		Args: []string{"sh", "-c", script, self}, Env: []string{"PROCESS_TEST_BYTES=yes", "HOME"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if u.PeakBytes < 180<<20 {
		t.Errorf("peak of two that hold 100 MiB each is %d MiB", u.PeakBytes>>20)
	}
	if u.CPU < 200*time.Millisecond {
		t.Errorf("two that are busy for 400 ms took %v of processor", u.CPU)
	}
}

func TestRunErrors(t *testing.T) {
	_, _, err := Run(t.Context(), Command{Args: []string{"sh", "-c", "echo why it failed >&2; exit 7"}})
	if err == nil || !strings.Contains(err.Error(), "why it failed") || !strings.Contains(err.Error(), "7") {
		t.Errorf("error %v", err)
	}
	start := time.Now()
	_, _, err = Run(t.Context(), Command{Args: []string{"sh", "-c", "sleep 60 & sleep 60"}, Timeout: 200 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "stopped after 200ms") {
		t.Errorf("error %v", err)
	}
	if d := time.Since(start); d > 50*time.Second {
		t.Errorf("it took %v to stop", d)
	}
	if _, _, err = Run(t.Context(), Command{Args: []string{"/no/such/program"}}); err == nil {
		t.Error("no error")
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("PROCESS_TEST_A", "1")
	t.Setenv("PROCESS_TEST_B", "2")
	got := strings.Join(environment([]string{"PROCESS_TEST_A", "PROCESS_TEST_B=3"}), "\n")
	if strings.Contains(got, "PROCESS_TEST_A=") || !strings.Contains(got, "PROCESS_TEST_B=3") || strings.Contains(got, "_B=2") {
		t.Error(got)
	}
}
