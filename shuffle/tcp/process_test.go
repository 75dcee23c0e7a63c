package tcp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/transporttest"
)

// rankEnv tells a process started by these tests who it is: rank, what to do, and the secret, if any.
const rankEnv = "DOVETAIL_TCP_TEST_RANK"

// TestRankProcess is one rank in a process of its own. It says where it listens, and reads where the others do.
func TestRankProcess(t *testing.T) {
	var rank int
	var what, secret string
	if _, err := fmt.Sscanf(os.Getenv(rankEnv), "%d %s %s", &rank, &what, &secret); err != nil {
		t.Skip("this is what TestProcesses starts")
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(l.Addr())
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	o := Options{Job: "processes", Rank: rank, Addrs: strings.Fields(line), Listener: l}
	if secret != "none" {
		o.ForceTLS, o.Secret = true, []byte(secret)
	}
	tr, err := Connect(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if what == "shuffle" {
		transporttest.RunRank(t, tr)
		return
	}
	defer tr.Close()
	fmt.Println("connected")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has had enough, or kills this process
}

// rankProcess is a started one.
type rankProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startProcesses starts one process for every rank from first on.
func startProcesses(t *testing.T, first, size int, what, secret string) (ps []*rankProcess, addrs []string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for r := first; r < size; r++ {
		p := &rankProcess{cmd: exec.CommandContext(t.Context(), exe, "-test.run=^TestRankProcess$", "-test.timeout=60s")}
		p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s %s", rankEnv, r, what, secret))
		p.cmd.Stderr = os.Stderr
		if p.in, err = p.cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p.out = bufio.NewReader(out)
		ps = append(ps, p)
	}
	for _, p := range ps {
		addrs = append(addrs, p.line(t))
	}
	return ps, addrs
}

func (p *rankProcess) line(t *testing.T) string {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("a rank ended: %v", err)
	}
	return strings.TrimSpace(line)
}

// finish waits for a process and returns what it printed last.
func (p *rankProcess) finish() (string, error) {
	rest, _ := io.ReadAll(p.out) // what it says when it fails comes with the error
	return string(rest), p.cmd.Wait()
}

// The shuffle works between processes, with and without encryption.
func TestProcesses(t *testing.T) {
	for _, size := range transporttest.Sizes {
		for _, secret := range []string{"none", string(testSecret)} {
			if secret != "none" && size != 3 || testing.Short() && size == 5 {
				continue
			}
			t.Run("ranks="+strconv.Itoa(size)+map[bool]string{true: "/tls"}[secret != "none"], func(t *testing.T) {
				ps, addrs := startProcesses(t, 0, size, "shuffle", secret)
				for _, p := range ps {
					if _, err := fmt.Fprintln(p.in, strings.Join(addrs, " ")); err != nil {
						t.Fatal(err)
					}
				}
				for r, p := range ps {
					if out, err := p.finish(); err != nil {
						t.Errorf("rank %d: %v\n%s", r, err, out)
					}
				}
			})
		}
	}
}

// A process that is killed is noticed at once, once, with a reason.
func TestKilledProcess(t *testing.T) {
	ps, addrs := startProcesses(t, 1, 2, "wait", "none")
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addrs = append([]string{l.Addr()}, addrs...)
	if _, err := fmt.Fprintln(ps[0].in, strings.Join(addrs, " ")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tr, err := Connect(ctx, Options{Job: "processes", Rank: 0, Addrs: addrs, Listener: l})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if got := ps[0].line(t); got != "connected" {
		t.Fatal(got)
	}
	start := time.Now()
	if err := ps[0].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ev := waitEvent(t, tr, shuffle.EventPeerDown)
	if d := time.Since(start); d > 8*time.Second {
		t.Errorf("it took %s", d)
	}
	if !strings.Contains(ev.Err.Error(), "rank 0 lost rank 1 at ") {
		t.Error(ev.Err)
	}
	_ = ps[0].cmd.Wait() // it was killed
}

// waitEvent polls until an event of some kind comes and returns it. Others are an error, except confirmations.
func waitEvent(t *testing.T, tr *Transport, kind shuffle.EventKind) shuffle.Event {
	t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		var events [1]shuffle.Event
		n, err := tr.Poll(events[:])
		if err != nil {
			t.Fatal(err)
		}
		switch ev := events[0]; {
		case n == 1 && ev.Kind == kind:
			return ev
		case n == 1 && ev.Kind != shuffle.EventSent:
			t.Fatalf("event %+v instead of kind %d", ev, kind)
		case n == 1:
			continue
		}
		select {
		case <-tr.Ready():
		case <-timeout:
			t.Fatalf("no event of kind %d in two minutes", kind)
		}
	}
}
