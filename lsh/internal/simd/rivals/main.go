// Command rivals measures what signs texts: the kernel of curator32 in assembly against other ways to write it, the parts of
// the sketch "fast", and every sketch on every path. `make bench-sign` runs it; it needs gcc. With GOEXPERIMENT=simd it
// measures Go's own vector types too.
package main

import (
	"flag"
	"fmt"
	"log"
	"runtime"
	"strconv"
	"strings"

	"github.com/dovetail-dedup/dovetail/lsh"
)

func main() {
	runtime.LockOSThread() // whose processor time is measured
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal("rivals: ", err)
	}
}

func run() error {
	repeats := flag.Int("repeats", 40, "how often each is measured; the least counts")
	what := flag.String("what", "kernel,parts,sign", "tables to print")
	sizes := flag.String("sizes", "100,300,1000,2500,10000,100000", "bytes of the documents that are signed")
	scripts := flag.String("scripts", "ASCII,Cyrillic,CJK", "what they are written in")
	paths := flag.String("paths", strings.Join(lsh.Paths(), ","), "paths that sign them")
	flag.Parse()
	for _, table := range strings.Split(*what, ",") {
		switch table {
		case "kernel":
			if err := kernelTable(*repeats); err != nil {
				return err
			}
		case "parts":
			partsTable(*repeats)
		case "sign":
			var bytes []int
			for _, s := range strings.Split(*sizes, ",") {
				n, err := strconv.Atoi(s)
				if err != nil {
					return fmt.Errorf("-sizes: %w", err)
				}
				bytes = append(bytes, n)
			}
			if err := signTable(strings.Split(*paths, ","), bytes, strings.Split(*scripts, ","), *repeats); err != nil {
				return err
			}
		default:
			return fmt.Errorf("-what %q: choose of kernel, parts and sign", table)
		}
	}
	return nil
}
