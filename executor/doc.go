// Package executor runs stages of work on pools of actors, in this process or in several, and remembers what is done.
//
// Five ideas carry it:
//
//   - A [Task] describes work; a [Stage] says what kind of work; an [Actor] does it. A stage is set up once
//     per actor and torn down in every outcome. Work is handed out as actors become free, results come
//     back in input order, and what is in flight is bounded, so a slow consumer slows its producers.
//   - Every try of a task is an [Attempt]. The files it creates become visible only when the attempt
//     commits, all at once, and only one attempt of a task ever does.
//   - A [Work] folder holds the files and an append-only log of commits. A run that was killed at any moment is
//     started again with the same folder: committed tasks are not run again, and what attempts left behind
//     without committing is deleted. The folder is locked against a second run.
//   - A [ShuffleStage] moves rows between ranks through package shuffle: every actor inserts, every rank
//     finishes once, and partitions are extracted as they complete.
//   - A [CollectiveStage] has one actor on each rank, and these work on all tasks together: they wait for each
//     other, exchange bytes and reduce numbers through package collective.
//
// [Executor.Execute] runs stages one after another, each to completion. [Executor.Stream] runs one stage over a
// sequence, and streams can be chained. [Executor.Shuffle] runs one shuffle stage, [Executor.Collective] one
// collective stage. The rules for the number of actors are those of NeMo Curator's actor pool executor; see
// [ActorCount].
//
// A [Job] is several processes that run one program: [Join] makes this one a rank of those started by whoever wants to, and [Isolate]
// starts a process for every actor, and another in the place of one that dies.
//
// Actors of stages that ask for it own a [Device] each, or share one, on threads of their own. A device that is lost loses its
// actors, whose tasks go to others, and gets none again. [Executor.Snapshot] says how a run goes, for metrics.
//
// The executor knows stages, tasks, actors and ranks, and nothing of texts or duplicates.
package executor
