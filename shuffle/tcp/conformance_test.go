package tcp

import (
	"testing"

	"github.com/dovetail-dedup/dovetail/shuffle/transporttest"
)

func TestConformance(t *testing.T) { transporttest.Run(t, makeRanks(nil)) }
