// Package flow holds what the stages of all pipelines of dedup are made of: tasks and results as JSON, the records that
// travel in shuffles ([Layout], [RecordWriter], [EachRecord]), the row files that lie between shuffles ([RowFile],
// [ColumnReader]), sorting more than fits in memory ([Sorter]), tables of more groups than fit ([Smallest]), and shares of memory ([Plan], [Large]).
//
// It knows stages and nothing of texts or duplicates. Nothing here is safe for concurrent use unless it says so.
package flow
