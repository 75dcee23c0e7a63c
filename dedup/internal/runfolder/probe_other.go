//go:build !linux

package runfolder

func probe(string) error { return errNameless }
