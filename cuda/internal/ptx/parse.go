package ptx

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Module is PTX that was parsed. It is not changed by launches and may be used by several goroutines.
type Module struct {
	kernels map[string]*kernel
	consts  []byte         // all constant arrays
	symbols map[string]int // their offsets
	dynamic string         // the name of the dynamic shared memory
}

// kernel is an entry of a module.
type kernel struct {
	name      string
	params    map[string]int // by name, the number
	code      []instr
	regs      []uint64 // what registers hold when a thread begins: constants among them
	shared    map[string]int
	arrays    []sharedArray
	maxBlock  int
	dynamicAt int
}

// sharedArray is a variable in shared memory.
type sharedArray struct {
	name     string
	at, size int
}

// Registers that are set when a thread begins.
const (
	regTid = iota
	regNtid
	regCtaid
	regNctaid
	regLane
	numSpecial
)

var specials = map[string]int{"%tid.x": regTid, "%ntid.x": regNtid, "%ctaid.x": regCtaid, "%nctaid.x": regNctaid, "%laneid": regLane}

// Addresses. Shared memory of a block begins at sharedBase in generic addresses; in its own space addresses are what is above.
const (
	sharedBase  = 0x7f00_0000_0000_0000
	sharedFirst = 256 // the first array's address, so that 0 is none
	sharedGap   = 64
)

// Kernels returns the names of all kernels.
func (m *Module) Kernels() []string {
	var names []string
	for n := range m.kernels {
		names = append(names, n)
	}
	return names
}

// Params returns the number of parameters of a kernel, and whether there is such a kernel.
func (m *Module) Params(name string) (int, bool) {
	k := m.kernels[name]
	if k == nil {
		return 0, false
	}
	return len(k.params), true
}

// parser reads a module statement by statement.
type parser struct {
	m     *Module
	lines []string
	at    int

	// Of the kernel that is being read.
	k       *kernel
	scopes  []map[string]reg
	labels  map[string]int
	jumps   map[int]string // by instruction, the label it goes to
	numbers map[uint64]int // registers of constants
	dynamic int32          // the register of the dynamic array's address, 0 if there is none
	next    int
}

// reg is a register and its width in bits, 1 for a predicate.
type reg struct {
	index int
	bits  int
}

// Parse reads PTX as nvcc writes it.
func Parse(text string) (*Module, error) {
	p := &parser{m: &Module{kernels: map[string]*kernel{}, symbols: map[string]int{}}, lines: strings.Split(text, "\n")}
	for p.at = 0; p.at < len(p.lines); p.at++ {
		line := p.line()
		var err error
		switch {
		case line == "" || strings.HasPrefix(line, ".version") || strings.HasPrefix(line, ".target"):
		case line == ".address_size 64":
		case strings.HasPrefix(line, ".const"):
			err = p.constant(line)
		case strings.HasPrefix(line, ".extern .shared"):
			err = p.external(line)
		case strings.HasPrefix(line, ".visible .entry"):
			err = p.entry(line)
		default:
			err = fmt.Errorf("unknown directive %q", line)
		}
		if err != nil {
			return nil, fmt.Errorf("ptx: line %d: %w", p.at+1, err)
		}
	}
	return p.m, nil
}

// line returns the current line without comments.
func (p *parser) line() string {
	line, _, _ := strings.Cut(p.lines[p.at], "//")
	return strings.TrimSpace(line)
}

var (
	constPattern    = regexp.MustCompile(`^\.const \.align (\d+) \.b8 ([\w$]+)\[(\d+)\] = \{(.*)\};$`)
	externalPattern = regexp.MustCompile(`^\.extern \.shared \.align \d+ \.b8 ([\w$]+)\[\];$`)
	sharedPattern   = regexp.MustCompile(`^\.shared \.align (\d+) \.b8 ([\w$]+)\[(\d+)\]$`)
	paramPattern    = regexp.MustCompile(`^\.param \.[ubs]64 (?:\.ptr (?:\.\w+ )?\.align \d+ )?([\w$]+)$`)
	regPattern      = regexp.MustCompile(`^\.reg \.(\w+)\s+(%\w+)(?:<(\d+)>)?$`)
)

func (p *parser) constant(line string) error {
	f := constPattern.FindStringSubmatch(line)
	if f == nil {
		return fmt.Errorf("unknown constant %.60q", line)
	}
	align, _ := strconv.Atoi(f[1])
	size, _ := strconv.Atoi(f[3])
	for len(p.m.consts)%align != 0 {
		p.m.consts = append(p.m.consts, 0)
	}
	p.m.symbols[f[2]] = len(p.m.consts)
	values := strings.Split(f[4], ",")
	if len(values) != size {
		return fmt.Errorf("constant %s has %d bytes of %d", f[2], len(values), size)
	}
	for _, v := range values {
		b, err := strconv.ParseUint(strings.TrimSpace(v), 0, 8)
		if err != nil {
			return err
		}
		p.m.consts = append(p.m.consts, byte(b))
	}
	return nil
}

func (p *parser) external(line string) error {
	f := externalPattern.FindStringSubmatch(line)
	if f == nil || p.m.dynamic != "" {
		return fmt.Errorf("unknown or second dynamic array %q", line)
	}
	p.m.dynamic = f[1]
	return nil
}

// entry reads a kernel, from its first line to the brace that ends it.
func (p *parser) entry(line string) error {
	head := line
	for p.at++; p.at < len(p.lines) && p.line() != "{"; p.at++ {
		head += " " + p.line()
	}
	if p.at == len(p.lines) {
		return fmt.Errorf("no body of %q", line)
	}
	name, rest, ok := strings.Cut(strings.TrimPrefix(head, ".visible .entry "), "(")
	list, rest, ok2 := strings.Cut(rest, ")")
	if !ok || !ok2 {
		return fmt.Errorf("unknown entry %q", head)
	}
	k := &kernel{name: strings.TrimSpace(name), params: map[string]int{}, shared: map[string]int{}, maxBlock: 1024}
	for _, s := range strings.Split(list, ",") {
		f := paramPattern.FindStringSubmatch(strings.Join(strings.Fields(s), " "))
		if f == nil {
			return fmt.Errorf("%s: unknown parameter %q", k.name, s)
		}
		k.params[f[1]] = len(k.params)
	}
	for f := strings.Fields(strings.ReplaceAll(rest, ",", " ")); len(f) > 0; {
		if f[0] == ".minnctapersm" && len(f) > 1 {
			f = f[2:]
			continue
		}
		if f[0] != ".maxntid" || len(f) < 2 {
			return fmt.Errorf("%s: unknown directive %q", k.name, rest)
		}
		n := 1
		for f = f[1:]; len(f) > 0 && f[0][0] != '.'; f = f[1:] {
			x, err := strconv.Atoi(f[0])
			if err != nil {
				return err
			}
			n *= x
		}
		k.maxBlock = n
	}
	p.k, p.labels, p.jumps, p.numbers = k, map[string]int{}, map[int]string{}, map[uint64]int{}
	p.next, p.dynamic = numSpecial, 0
	p.scopes = []map[string]reg{{}}
	k.dynamicAt = sharedFirst
	if err := p.body(); err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	for i, label := range p.jumps {
		target, ok := p.labels[label]
		if !ok {
			return fmt.Errorf("%s: no label %s", k.name, label)
		}
		k.code[i].target = int32(target)
	}
	k.regs = make([]uint64, p.next)
	for v, r := range p.numbers {
		k.regs[r] = v
	}
	if p.dynamic != 0 {
		k.regs[p.dynamic] = uint64(k.dynamicAt)
	}
	p.m.kernels[k.name] = k
	return nil
}

// body reads the statements of a kernel.
func (p *parser) body() error {
	pending := ""
	for p.at++; p.at < len(p.lines); p.at++ {
		pending += p.line()
		for pending != "" {
			pending = strings.TrimSpace(pending)
			if strings.HasPrefix(pending, "{") {
				p.scopes = append(p.scopes, map[string]reg{})
				pending = pending[1:]
				continue
			}
			if strings.HasPrefix(pending, "}") {
				p.scopes = p.scopes[:len(p.scopes)-1]
				pending = pending[1:]
				if len(p.scopes) == 0 {
					return nil
				}
				continue
			}
			if label, ok := strings.CutSuffix(pending, ":"); ok && strings.HasPrefix(label, "$") {
				p.labels[label] = len(p.k.code)
				pending = ""
				continue
			}
			statement, rest, ok := strings.Cut(pending, ";")
			if !ok {
				pending += " " // it goes on in the next line
				break
			}
			if err := p.statement(strings.Join(strings.Fields(statement), " ")); err != nil {
				return fmt.Errorf("%q: %w", statement, err)
			}
			pending = rest
		}
	}
	return fmt.Errorf("no end")
}

func (p *parser) statement(s string) error {
	switch {
	case strings.HasPrefix(s, ".reg "):
		f := regPattern.FindStringSubmatch(s)
		if f == nil {
			return fmt.Errorf("unknown declaration")
		}
		bits, ok := map[string]int{"pred": 1, "b16": 16, "b32": 32, "u32": 32, "b64": 64, "u64": 64, "s16": 16}[f[1]]
		if !ok {
			return fmt.Errorf("unknown type %s", f[1])
		}
		scope := p.scopes[len(p.scopes)-1]
		if f[3] == "" {
			scope[f[2]] = p.newReg(bits)
			return nil
		}
		n, _ := strconv.Atoi(f[3])
		for i := range n {
			scope[f[2]+strconv.Itoa(i)] = p.newReg(bits)
		}
		return nil
	case strings.HasPrefix(s, ".shared "):
		f := sharedPattern.FindStringSubmatch(s)
		if f == nil {
			return fmt.Errorf("unknown declaration")
		}
		align, _ := strconv.Atoi(f[1])
		size, _ := strconv.Atoi(f[3])
		at := (p.k.dynamicAt + align - 1) / align * align
		p.k.shared[f[2]] = at
		p.k.arrays = append(p.k.arrays, sharedArray{f[2], at, size})
		p.k.dynamicAt = (at + size + sharedGap + 15) / 16 * 16
		return nil
	case strings.HasPrefix(s, ".pragma"):
		return nil
	case strings.HasPrefix(s, "."):
		return fmt.Errorf("unknown directive")
	}
	in := instr{line: int32(p.at + 1), pred: -1}
	if strings.HasPrefix(s, "@") {
		guard, rest, _ := strings.Cut(s[1:], " ")
		if guard, in.not = strings.CutPrefix(guard, "!"); guard == "" {
			return fmt.Errorf("no predicate")
		}
		r, err := p.register(guard, 1)
		if err != nil {
			return err
		}
		in.pred = r
		s = rest
	}
	op, rest, _ := strings.Cut(s, " ")
	args, err := split(rest)
	if err != nil {
		return err
	}
	if err := p.instruction(&in, strings.Split(op, "."), args); err != nil {
		return err
	}
	p.k.code = append(p.k.code, in)
	return nil
}

// split separates operands at commas that are not inside of braces.
func split(s string) ([]string, error) {
	var args []string
	depth, from := 0, 0
	for i, c := range s {
		switch {
		case c == '{':
			depth++
		case c == '}':
			depth--
		case c == ',' && depth == 0:
			args = append(args, strings.TrimSpace(s[from:i]))
			from = i + 1
		}
	}
	if depth != 0 {
		return nil, fmt.Errorf("braces do not match")
	}
	if last := strings.TrimSpace(s[from:]); last != "" {
		args = append(args, last)
	}
	return args, nil
}

func (p *parser) newReg(bits int) reg {
	r := reg{p.next, bits}
	p.next++
	return r
}

func (p *parser) find(name string) (reg, error) {
	if name == "_" {
		return reg{-1, 0}, nil
	}
	for i := len(p.scopes) - 1; i >= 0; i-- {
		if r, ok := p.scopes[i][name]; ok {
			return r, nil
		}
	}
	return reg{}, fmt.Errorf("unknown register %q", name)
}

// register returns a register of at least `bits` bits, exactly 1 for predicates.
func (p *parser) register(name string, bits int) (int32, error) {
	r, err := p.find(name)
	if err == nil && r.index >= 0 && (r.bits < bits || (bits == 1) != (r.bits == 1)) {
		err = fmt.Errorf("register %s has %d bits, not %d", name, r.bits, bits)
	}
	return int32(r.index), err
}

// number returns a register that holds a constant.
func (p *parser) number(v uint64) int32 {
	r, ok := p.numbers[v]
	if !ok {
		r = p.newReg(64).index
		p.numbers[v] = r
	}
	return int32(r)
}

// source returns the register of an operand that is read: a register, a number, a special register or the address of an array.
func (p *parser) source(s string, bits int) (int32, error) {
	if r, ok := specials[s]; ok {
		return int32(r), nil
	}
	if strings.HasPrefix(s, "%") {
		return p.register(s, bits)
	}
	if v, err := parseNumber(s); err == nil {
		return p.number(v & maskOf(bits)), nil
	}
	if r, ok := p.symbol(s); ok {
		return r, nil
	}
	return 0, fmt.Errorf("unknown operand %q", s)
}

// symbol returns a register that holds the address of an array in shared or constant memory, in its own space. Where the
// dynamic array begins is known when all others are.
func (p *parser) symbol(s string) (int32, bool) {
	if s == p.m.dynamic && s != "" {
		if p.dynamic == 0 {
			p.dynamic = int32(p.newReg(64).index)
		}
		return p.dynamic, true
	}
	at, ok := p.k.shared[s]
	if !ok {
		if at, ok = p.m.symbols[s]; !ok {
			return 0, false
		}
	}
	return p.number(uint64(at)), true
}

func parseNumber(s string) (uint64, error) {
	s = strings.TrimSuffix(s, "U")
	if v, err := strconv.ParseInt(s, 0, 64); err == nil {
		return uint64(v), nil
	}
	return strconv.ParseUint(s, 0, 64)
}

func maskOf(bits int) uint64 {
	if bits >= 64 {
		return ^uint64(0)
	}
	return 1<<bits - 1
}
