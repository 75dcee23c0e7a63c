//go:build ucx && cgo

package ucx

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/transporttest"
)

// rankEnv tells a process started by these tests who it is: way, rank and what to do.
const rankEnv = "DOVETAIL_UCX_TEST_RANK"

// TestRankProcess is one rank in a process of its own. It says what its address is, and reads those of the others.
func TestRankProcess(t *testing.T) {
	var way, what string
	var rank int
	if _, err := fmt.Sscanf(os.Getenv(rankEnv), "%s %d %s", &way, &rank, &what); err != nil {
		t.Skip("this is what TestProcesses starts")
	}
	p, err := contexts[way].Listen()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(p.Addr())
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tr, err := p.Connect(ctx, processOptions(rank, strings.Fields(line)))
	if err != nil {
		t.Fatal(err)
	}
	if what == "shuffle" {
		transporttest.RunRank(t, tr)
		return
	}
	defer tr.Close()
	fmt.Println("connected")
	if what == "traffic" {
		traffic(t, tr, 1<<62)
		return
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has had enough, or kills this process
}

func processOptions(rank int, addrs []string) Options {
	return Options{Job: "processes", Rank: rank, Addrs: addrs, Secret: testSecret, LinkTimeout: 5 * time.Second}
}

// rankProcess is a started one.
type rankProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startProcesses starts one process for every rank from first on.
func startProcesses(t *testing.T, way string, first, size int, what string) (ps []*rankProcess, addrs []string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for r := first; r < size; r++ {
		p := &rankProcess{cmd: exec.CommandContext(t.Context(), exe, "-test.run=^TestRankProcess$", "-test.timeout=60s")}
		p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", rankEnv, way, r, what))
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

// The shuffle works between processes.
func TestProcesses(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		for _, size := range transporttest.Sizes {
			if testing.Short() && size == 5 {
				continue
			}
			t.Run(fmt.Sprintf("ranks=%d", size), func(t *testing.T) {
				ps, addrs := startProcesses(t, way, 0, size, "shuffle")
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
	})
}

// pair is rank 0 here and rank 1 in a process of its own, which waits.
func pair(t *testing.T, way, what string) (*Transport, *rankProcess) {
	t.Helper()
	ps, addrs := startProcesses(t, way, 1, 2, what)
	port, err := contexts[way].Listen()
	if err != nil {
		t.Fatal(err)
	}
	addrs = append([]string{port.Addr()}, addrs...)
	if _, err := fmt.Fprintln(ps[0].in, strings.Join(addrs, " ")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tr, err := port.Connect(ctx, processOptions(0, addrs))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	if got := ps[0].line(t); got != "connected" {
		t.Fatal(got)
	}
	return tr, ps[0]
}

// A process that is killed is noticed soon, once, with a reason; what was on the way to it is released.
func TestKilledProcess(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		tr, p := pair(t, way, "wait")
		postBytes(t, tr, 1, 3<<20)
		start := time.Now()
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait() // it was killed; while nobody has looked, UCX takes it to be alive
		ev := waitEvent(t, tr, shuffle.EventPeerDown)
		t.Logf("noticed after %s: %v", time.Since(start), ev.Err)
		// UCX finds that out by itself, before the silence of the peer would.
		if strings.Contains(ev.Err.Error(), "said nothing for ") {
			t.Error(ev.Err)
		}
		if !strings.Contains(ev.Err.Error(), "rank 0 lost rank 1: ") {
			t.Error(ev.Err)
		}
	})
}

// traffic sends and takes messages with payloads of all sizes, n each way or until the peer is down. It returns why that is.
func traffic(t *testing.T, tr *Transport, n int) error {
	other := 1 - tr.Rank()
	alloc := mem.NewChecked(t, mem.Host())
	buffer := func(n int) []*mem.Buffer {
		b, err := alloc.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		return []*mem.Buffer{b}
	}
	sizes := []int{1 << 20, 100, 6 << 20, 300_000, 20_000}
	for posted, sent, got := 0, 0, 0; sent < n || got < n; {
		var ops []shuffle.Op
		for posted < n && posted-sent < 8 {
			ops = append(ops, shuffle.Op{Kind: shuffle.OpSend, Peer: other, Header: []byte("h"), Payload: buffer(sizes[posted%len(sizes)])})
			posted++
		}
		var events [16]shuffle.Event
		k, err := tr.Poll(events[:])
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events[:k] {
			switch ev.Kind {
			case shuffle.EventSent:
				sent++
			case shuffle.EventOffer:
				ops = append(ops, shuffle.Op{Kind: shuffle.OpAccept, Peer: other, Cookie: ev.Cookie, Payload: buffer(int(ev.Size))})
			case shuffle.EventMessage:
				got++
				link.ReleaseAll(ev.Payload)
			case shuffle.EventPeerDown:
				for _, op := range ops {
					link.ReleaseAll(op.Payload)
				}
				return ev.Err
			}
		}
		post(t, tr, ops...)
		if k == 0 {
			<-tr.Ready()
		}
	}
	return nil
}

// A process that is killed in the middle of large payloads takes nothing else down.
func TestKilledBusy(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		for i := range 3 {
			tr, p := pair(t, way, "traffic")
			timer := time.AfterFunc(time.Duration(100+50*i)*time.Millisecond, func() {
				_ = p.cmd.Process.Kill()
				_ = p.cmd.Wait()
			})
			err := traffic(t, tr, 1<<62)
			timer.Stop()
			t.Log(err)
			if err == nil || !strings.Contains(err.Error(), "rank 0 lost rank 1: ") {
				t.Error(err)
			}
			_ = tr.Close()
		}
	})
}

// A process that is stopped is lost after LinkTimeout, whatever its system confirms for it.
func TestStoppedProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 6 s each")
	}
	forWays(t, func(t *testing.T, way string) {
		tr, p := pair(t, way, "wait")
		start := time.Now()
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}()
		ev := waitEvent(t, tr, shuffle.EventPeerDown)
		t.Logf("noticed after %s: %v", time.Since(start), ev.Err)
		if d := time.Since(start); d < 3*time.Second || d > 20*time.Second {
			t.Errorf("it took %s", d)
		}
		if !strings.Contains(ev.Err.Error(), "said nothing for ") {
			t.Error(ev.Err)
		}
	})
}
