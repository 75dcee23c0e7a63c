// Command pipeline is the guest of the simulator that runs plain stages and shuffles.
package main

import "github.com/dovetail-dedup/dovetail/internal/simulate/world"

func main() { world.Main(map[string]world.Workload{"pipeline": &world.Pipeline{}}) }
