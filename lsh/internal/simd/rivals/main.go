// Command rivals measures what signs texts: the kernel of curator32 in assembly against other ways to write it, and every
// sketch on every path. `make bench-sign` runs it.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
)

func main() {
	runtime.LockOSThread()
	repeats := flag.Int("repeats", 20, "how often each is measured; the least counts")
	what := flag.String("what", "kernel,sign", "")
	flag.Parse()
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
	if err := signTable([]int{100, 300, 1000, 2500, 10_000, 100_000}, []string{"ASCII", "Cyrillic", "CJK"}, *repeats); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
