package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/engine"
)

// What carries data between ranks.

const transportFlag = "transport"

func addTransport(fl *pflag.FlagSet, transport *string) {
	fl.StringVar(transport, transportFlag, engine.TransportAuto, "what carries data between ranks: "+strings.Join(engine.Transports(), ", ")+
		"; auto is ucx for ranks on one machine if all have it, else tcp, which alone encrypts ($DOVETAIL_TRANSPORT)")
}

// fabric returns what carries data between ranks that are processes; processes says whether they are. config comes before it. Faults are of the
// command line.
func (f *jobFlags) fabric(fl *pflag.FlagSet, processes bool, note func(string)) (executor.Fabric, error) {
	name := f.transport
	if v := os.Getenv("DOVETAIL_TRANSPORT"); v != "" && !fl.Changed(transportFlag) {
		name = v
	}
	name = cmp.Or(name, engine.TransportAuto)
	if processes {
		return engine.Fabric(name, f.ports, note)
	}
	switch name {
	case engine.TransportAuto, engine.TransportInproc:
		return nil, nil
	case engine.TransportTCP, engine.TransportUCX:
		if !fl.Changed(transportFlag) {
			return nil, nil // the environment is for all commands
		}
		return nil, fmt.Errorf("--transport %s: there is one process, whose ranks talk in its memory; --size makes it one of several", name)
	}
	return nil, fmt.Errorf("--transport %q: must be %s", name, strings.Join(engine.Transports(), ", "))
}
