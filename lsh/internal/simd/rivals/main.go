// Command rivals measures what signs texts: the kernel of curator32 in assembly against other ways to write it, and every
// sketch on every path. `make bench-sign` runs it.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/dovetail-dedup/dovetail/lsh"
)

func main() {
	runtime.LockOSThread()
	repeats := flag.Int("repeats", 20, "how often each is measured; the least counts")
	what := flag.String("what", "kernel,sign", "")
	sizes := flag.String("sizes", "100,300,1000,2500,10000,100000", "bytes of the documents")
	scripts := flag.String("scripts", "ASCII,Cyrillic,CJK", "what they are written in")
	paths := flag.String("paths", strings.Join(lsh.Paths(), ","), "")
	flag.Parse()
	var bytes []int
	for _, s := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		bytes = append(bytes, n)
	}
	if *what == "kernel,sign" {
		if err := kernelTable(*repeats * 10); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if *what == "parts" {
		partsTable(*repeats * 10)
		return
	}
	if err := signTable(strings.Split(*paths, ","), bytes, strings.Split(*scripts, ","), *repeats); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
