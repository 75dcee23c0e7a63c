package executor

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
)

var doorSecret = []byte("q83vEjRWeJCrze8S")

// door is a job of two that waits for rank 1.
func door(t *testing.T, bend func(c *JobConfig)) (root JobConfig, ended <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	root = JobConfig{Size: 2, Root: l.Addr().String(), Listener: l, Name: "door", Spec: "s", JoinTimeout: 20 * time.Second, Secret: doorSecret}
	if bend != nil {
		bend(&root)
	}
	end := make(chan error, 1)
	go func() {
		j, err := Join(t.Context(), root)
		j.Close(err)
		end <- err
	}()
	return root, end
}

// joinAt joins as rank 1.
func joinAt(t *testing.T, root JobConfig) (*Job, error) {
	root.Listener, root.Note, root.Rank = nil, nil, 1
	return Join(t.Context(), root)
}

// Callers who say nothing, however many, do not keep a rank out.
func TestJoinThroughACrowd(t *testing.T) {
	for _, secret := range [][]byte{nil, doorSecret} {
		var mu sync.Mutex
		notes := 0
		root, ended := door(t, func(c *JobConfig) {
			c.Secret = secret
			c.Note = func(line string) {
				mu.Lock()
				defer mu.Unlock()
				if notes++; !strings.Contains(line, "it has not said who it is, and others want to") {
					t.Errorf("note %q", line)
				}
			}
		})
		var crowd []net.Conn
		for i := range 3 * strangers {
			c, err := net.Dial("tcp", root.Root)
			if err != nil {
				t.Fatal(err)
			}
			crowd = append(crowd, c)
			if i%2 == 0 && secret != nil {
				_, _ = c.Write([]byte{0x16, 3, 1})
			}
		}
		start := time.Now()
		j, err := joinAt(t, root)
		if took := time.Since(start); err != nil || took > greetTime/2 {
			t.Errorf("joined after %v: %v", took, err)
		}
		j.Close(nil)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, c := range crowd {
			c.Close()
		}
		mu.Lock()
		if notes == 0 || notes > 30 {
			t.Errorf("%d notes", notes)
		}
		mu.Unlock()
	}
}

// A rank of another version of the protocol hears so, whatever else it says; one of another version of the program, too.
func TestJoinVersions(t *testing.T) {
	root, ended := door(t, func(c *JobConfig) { c.Secret, c.Version = nil, "1.2" })
	c, err := net.Dial("tcp", root.Root)
	if err != nil {
		t.Fatal(err)
	}
	k := control.NewConn(c, time.Minute)
	hello := &control.Message{Kind: kindHello, N: control.Version + 1, Names: []string{"many", "names", "of", "a", "kind", "to come"}}
	if err := k.Send(hello); err != nil {
		t.Fatal(err)
	}
	m, err := k.Receive()
	if err != nil || m.Kind != kindRefuse || !strings.Contains(m.Text, "it speaks version "+strconv.Itoa(control.Version+1)) {
		t.Errorf("%+v, %v", m, err)
	}
	k.Break()
	other := root
	other.Version = "1.3"
	if _, err := joinAt(t, other); err == nil || !strings.Contains(err.Error(), `rank 1 is version "1.3", rank 0 version "1.2"`) {
		t.Errorf("%v", err)
	}
	j, err := joinAt(t, root)
	if err != nil {
		t.Fatal(err)
	}
	j.Close(nil)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Once it is known, a rank may be silent for as long as the job says, and not only for as long as a greeting takes.
func TestJoinSilence(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := JobConfig{Size: 2, Root: l.Addr().String(), Listener: l, Silence: 3 * greetTime, JoinTimeout: 20 * time.Second}
	var all sync.WaitGroup
	all.Go(func() {
		j, err := joinAt(t, cfg)
		if err != nil {
			t.Error(err)
			return
		}
		j.Close(nil)
	})
	j, err := Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	j.mu.Lock()
	k := j.links[1]
	j.mu.Unlock()
	if k != nil && k.conn.Silence() != cfg.Silence {
		t.Errorf("rank 1 may be silent for %v, want %v", k.conn.Silence(), cfg.Silence)
	}
	j.Close(nil)
	all.Wait()
}

// Nobody listens where others than the ranks could call, unless told to.
func TestMayListen(t *testing.T) {
	for _, c := range []struct {
		addr   string
		secret bool
		public bool
		says   string
	}{
		{"127.0.0.1:1", false, false, ""},
		{"10.1.2.3:1", true, false, ""},
		{"10.1.2.3:1", false, false, "without a Secret"},
		{"203.0.113.9:1", true, false, "a public address: give an address"},
		{"203.0.113.9:1", true, true, ""},
		{"203.0.113.9:1", false, true, "without a Secret"},
		{"0.0.0.0:1", true, false, "all addresses of this machine"},
		{"[::]:1", true, true, ""},
	} {
		cfg := JobConfig{Rank: 3, Public: c.public}
		if c.secret {
			cfg.Secret = doorSecret
		}
		j := &Job{cfg: cfg}
		if err := j.protect(); err != nil {
			t.Fatal(err)
		}
		err := j.mayListen(c.addr)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	_, err := Join(t.Context(), JobConfig{Size: 2, Root: "0.0.0.0:0", Secret: doorSecret, JoinTimeout: 10 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "all addresses of this machine") {
		t.Errorf("%v", err)
	}
	_, err = Join(t.Context(), JobConfig{Size: 2, Root: "0.0.0.0:0", Secret: doorSecret, JoinTimeout: 10 * time.Millisecond, Public: true})
	if err == nil || !strings.Contains(err.Error(), "misses rank 1") {
		t.Errorf("%v", err)
	}
}
