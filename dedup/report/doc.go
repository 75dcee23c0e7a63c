// Package report renders the page that a run leaves beside its run.json: what was removed and why, charts, the
// largest clusters and some removals with both texts side by side, and what the run cost.
//
// [Render] makes the page from plain [Data]. It is one file: it loads nothing, runs no script and stays below
// [MaxBytes] whatever it is given. It carries its own data in compressed form, so [Read] gets them back from a
// finished page and a later version can render it anew.
//
// Names, ids and texts are untrusted. Everything goes through html/template; besides, bytes that are not UTF-8,
// control characters and characters that change the direction of what follows are replaced by marks that can be seen.
//
// [Compare] marks the differences of two texts. It takes time linear in their length and shows a few KB at most.
//
// The package imports nothing of the project but lsh, for the curve of the bands.
package report
