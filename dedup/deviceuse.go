package dedup

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/dovetail-dedup/dovetail/dedup/report"
)

// DeviceUse says what devices did in a run. Sizes are in bytes.
type DeviceUse struct {
	Devices   int   `json:"devices"`
	Documents int64 `json:"documents"` // signed, without those that were left to the processor
	Batches   int64 `json:"batches"`
	Shrunk    int64 `json:"shrunk"` // times that memory was short and a batch was cut
	Uploaded  int64 `json:"uploaded"`
	Pinned    int64 `json:"pinned"` // of them, texts that were read into memory from which devices copy by themselves
	Pairs     int64 `json:"pairs"`  // compared, those in vain included
	Launches  int64 `json:"launches"`
	// Tiers are where texts were held that later passes wanted and memory had no room for: on the device, and what was moved down.
	Tiers []TierUse `json:"tiers,omitempty"`
}

// TierUse says what was held in a tier.
type TierUse struct {
	Tier string `json:"tier"`
	Peak int64  `json:"peak"` // the most at one time, on one device
	// Spilled were moved there from a tier above, and Returned from there to one above. Read were copied from there and stayed.
	Spills       int64 `json:"spills"`
	SpilledBytes int64 `json:"spilled_bytes"`
	Returned     int64 `json:"returned_bytes"`
	Reads        int64 `json:"reads"`
	ReadBytes    int64 `json:"read_bytes"`
}

// rows are the lines of the report.
func (d *DeviceUse) rows() (rows []report.Row) {
	if d == nil {
		return nil
	}
	rows = append(rows, report.Row{Name: "devices", Value: fmt.Sprintf("%d signed %s documents in %s batches and compared %s pairs in %s launches",
		d.Devices, humanize.Comma(d.Documents), humanize.Comma(d.Batches), humanize.Comma(d.Pairs), humanize.Comma(d.Launches))})
	var held []string
	for _, t := range d.Tiers {
		if t.Peak > 0 {
			held = append(held, fmt.Sprintf("%s at most in tier %s (%s moved down there, %s read from there)", humanize.IBytes(uint64(t.Peak)), t.Tier,
				humanize.IBytes(uint64(t.SpilledBytes)), humanize.IBytes(uint64(t.ReadBytes))))
		}
	}
	if len(held) > 0 {
		rows = append(rows, report.Row{Name: "held by devices", Value: strings.Join(held, ", ")})
	}
	return rows
}
