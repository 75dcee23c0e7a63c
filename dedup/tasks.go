package dedup

import (
	"encoding/json"
	"fmt"

	"github.com/dovetail-dedup/dovetail/executor"
)

// What tasks and results say is JSON.

// encodeTasks makes a task of each value, named by its place: prefix-000000 and so on.
func encodeTasks[T any](prefix string, values []T) ([]executor.Task, error) {
	out := make([]executor.Task, len(values))
	for i, v := range values {
		data, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		out[i] = executor.Task{ID: fmt.Sprintf("%s-%06d", prefix, i), Data: data}
	}
	return out, nil
}

// decodeTask decodes what a task or a result says.
func decodeTask[T any](t executor.Task) (v T, err error) {
	if err := json.Unmarshal(t.Data, &v); err != nil {
		return v, fmt.Errorf("dedup: task %s: %w", t.ID, err)
	}
	return v, nil
}

// decodeAll decodes several.
func decodeAll[T any](tasks []executor.Task) ([]T, error) {
	out := make([]T, len(tasks))
	for i, t := range tasks {
		var err error
		if out[i], err = decodeTask[T](t); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// oneResult is the result of a task that hands on one description.
func oneResult(task executor.Task, v any) ([]executor.Task, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return []executor.Task{{ID: task.ID, Data: data, Size: task.Size}}, nil
}

// partTask describes the result of a partition.
func partTask(part int, v any) executor.Task {
	data, err := json.Marshal(v)
	if err != nil {
		data = nil // a struct of integers and strings always encodes
	}
	return executor.Task{ID: fmt.Sprintf("part-%06d", part), Data: data}
}
