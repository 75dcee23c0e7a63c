package flow

import (
	"encoding/json"
	"fmt"

	"github.com/dovetail-dedup/dovetail/executor"
)

// What tasks and results say is JSON.

// EncodeTasks makes a task of each value, named by its place: prefix-000000 and so on.
func EncodeTasks[T any](prefix string, values []T) ([]executor.Task, error) {
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

// DecodeTask decodes what a task or a result says.
func DecodeTask[T any](t executor.Task) (v T, err error) {
	if err := json.Unmarshal(t.Data, &v); err != nil {
		return v, fmt.Errorf("dedup: task %s: %w", t.ID, err)
	}
	return v, nil
}

// DecodeAll decodes several.
func DecodeAll[T any](tasks []executor.Task) ([]T, error) {
	out := make([]T, len(tasks))
	for i, t := range tasks {
		var err error
		if out[i], err = DecodeTask[T](t); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// OneResult is the result of a task that hands on one description.
func OneResult(task executor.Task, v any) ([]executor.Task, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return []executor.Task{{ID: task.ID, Data: data, Size: task.Size}}, nil
}

// PartTask describes the result of a partition.
func PartTask(part int, v any) executor.Task {
	data, err := json.Marshal(v)
	if err != nil {
		data = nil // a struct of integers and strings always encodes
	}
	return executor.Task{ID: fmt.Sprintf("part-%06d", part), Data: data}
}

// FilesOf returns the row files that are the results of tasks, without empty ones.
func FilesOf(tasks []executor.Task) ([]string, error) {
	rows, err := DecodeAll[RowResult](tasks)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range rows {
		if r.Rows > 0 {
			out = append(out, r.File)
		}
	}
	return out, nil
}
