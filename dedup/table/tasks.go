package table

import (
	"encoding/json"
	"fmt"

	"github.com/dovetail-dedup/dovetail/executor"
)

// splitInput is the task of a split.
type splitInput struct {
	Split int `json:"split"`
}

func decodeTask[T any](t executor.Task) (v T, err error) {
	if err := json.Unmarshal(t.Data, &v); err != nil {
		return v, fmt.Errorf("task %s: %w", t.ID, err)
	}
	return v, nil
}

// oneResult is the result of a task that hands on one description.
func oneResult(task executor.Task, v any) ([]executor.Task, error) {
	data, err := json.Marshal(v)
	return []executor.Task{{ID: task.ID, Data: data}}, err
}
