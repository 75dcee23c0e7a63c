package bootstrap

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// pmi speaks version 1 of the wire protocol of PMI, lines of words on a descriptor that the launcher has opened: that of MPICH's
// mpiexec (Hydra), and of Slurm with --mpi=pmi2, which serves version 1 as well. It needs no library.
type pmi struct {
	conn       io.ReadWriteCloser
	in         *bufio.Reader
	rank, size int
	space      string
	longest    int // value
}

// openPMI joins the service at a descriptor.
func openPMI(fd, rank, size int) (kvs, error) {
	if fd < 3 {
		return nil, fmt.Errorf("$PMI_FD is %d, which is not of a launcher", fd)
	}
	f := os.NewFile(uintptr(fd), "PMI")
	if f == nil {
		return nil, fmt.Errorf("$PMI_FD is %d, which is not open", fd)
	}
	return newPMI(f, rank, size)
}

func newPMI(conn io.ReadWriteCloser, rank, size int) (*pmi, error) {
	p := &pmi{conn: conn, in: bufio.NewReaderSize(conn, 1<<12), rank: rank, size: size}
	if err := p.begin(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return p, nil
}

func (p *pmi) begin() error {
	if _, err := p.call("response_to_init", "cmd=init pmi_version=1 pmi_subversion=1"); err != nil {
		return err
	}
	maxes, err := p.call("maxes", "cmd=get_maxes")
	if err != nil {
		return err
	}
	if p.longest, err = strconv.Atoi(maxes["vallen_max"]); err != nil {
		return fmt.Errorf("PMI: how long values may be is not said: %w", err)
	}
	name, err := p.call("my_kvsname", "cmd=get_my_kvsname")
	if err != nil {
		return err
	}
	if p.space = name["kvsname"]; p.space == "" {
		return errors.New("PMI: the launcher names no space for values")
	}
	return nil
}

// call sends a line and returns the words of the answer, which must be the one expected and without an error.
func (p *pmi) call(expect, line string) (map[string]string, error) {
	if _, err := io.WriteString(p.conn, line+"\n"); err != nil {
		return nil, fmt.Errorf("PMI: %w", err)
	}
	answer, err := p.in.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("PMI: no answer from the launcher: %w", err)
	}
	words := make(map[string]string)
	for word := range strings.FieldsSeq(answer) {
		name, value, _ := strings.Cut(word, "=")
		words[name] = value
	}
	if rc := words["rc"]; words["cmd"] != expect || rc != "" && rc != "0" {
		return nil, fmt.Errorf("PMI: the launcher answers %q to %s", strings.TrimSpace(answer), line[:min(len(line), 40)])
	}
	return words, nil
}

func (p *pmi) Size() int { return p.size }

func (p *pmi) Put(key string, value []byte) error {
	text := base64.RawURLEncoding.EncodeToString(value)
	if len(text) >= p.longest {
		return fmt.Errorf("PMI: a value of %d bytes is longer than the launcher's limit of %d; give --root and --secret-file, or --data-host for fewer addresses",
			len(text), p.longest)
	}
	_, err := p.call("put_result", fmt.Sprintf("cmd=put kvsname=%s key=%s-%d value=%s", p.space, key, p.rank, text))
	return err
}

func (p *pmi) Fence() error {
	_, err := p.call("barrier_out", "cmd=barrier_in")
	return err
}

func (p *pmi) Get(rank int, key string) ([]byte, error) {
	words, err := p.call("get_result", fmt.Sprintf("cmd=get kvsname=%s key=%s-%d", p.space, key, rank))
	if err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.DecodeString(words["value"])
}

func (p *pmi) Close() error {
	_, err := p.call("finalize_ack", "cmd=finalize")
	return errors.Join(err, p.conn.Close())
}
