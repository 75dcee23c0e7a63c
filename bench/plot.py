"""Draws docs/bench.svg or docs/bench-scale.svg: plot.py TABLE.json OUT.svg

Of a table: how far each row is on the way to its target, and the speed and memory of the whole job beside other programs. Of
a scaling: time and memory by the number of documents.
"""
import json
import statistics
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "dovetail"  # the same figures give the same file
import matplotlib.pyplot as plt

OWN, OTHER, SHORT = "#2a6f97", "#b8b8b8", "#c8553d"


def targets(ax, results):
    """Bars of the median by the target, so that 1 is what was wanted and more is better."""
    rows = []
    for result in results:
        for row in result.get("rows") or []:
            target, got = row.get("target") or {}, row["ratio"]
            if not target or not got["n"] or result["workload"].startswith("job-") and row["by"] != "daft":
                continue  # of the other programs the fastest
            if "at_least" in target:
                score = [got[k] / target["at_least"] for k in ("min", "median", "max")]
            else:
                score = [target["at_most"] / got[k] for k in ("max", "median", "min")]
            rows.append((row["what"], score))
    rows.reverse()
    for y, (_, (low, mid, high)) in enumerate(rows):
        ax.barh(y, mid, color=OWN if mid >= 1 else SHORT)
        ax.plot([low, high], [y, y], color="black", linewidth=1)
    ax.axvline(1, color="black", linewidth=1, linestyle=":")
    ax.set_yticks(range(len(rows)), [what for what, _ in rows], fontsize=8)
    ax.set_xscale("log")
    ax.set_title("by the target (1 = reached; line: min to max)", fontsize=9)


def job(ax, result, unit, title):
    sides = [(s["side"], s["values"][unit]) for s in result["sides"] if (s.get("values") or {}).get(unit)]
    sides.sort(key=lambda s: statistics.median(s[1]), reverse=unit == "MB")
    for y, (name, values) in enumerate(sides):
        ax.barh(y, statistics.median(values), color=OWN if name == "dovetail" else OTHER)
        ax.plot([min(values), max(values)], [y, y], color="black", linewidth=1)
    ax.set_yticks(range(len(sides)), [name for name, _ in sides], fontsize=8)
    ax.set_title(title, fontsize=9)


def table(data, out):
    jobs = [r for r in data["results"] if r["workload"].startswith("job-") and r.get("sides")]
    figure = plt.figure(figsize=(11, 5 + 2.4 * len(jobs)), layout="constrained")
    grid = figure.add_gridspec(1 + len(jobs), 2, height_ratios=[2] + [1] * len(jobs))
    targets(figure.add_subplot(grid[0, :]), data["results"])
    for i, result in enumerate(jobs):
        name = result["workload"].removeprefix("job-")
        job(figure.add_subplot(grid[1 + i, 0]), result, "MB/s", f"whole job, {name}: MB/s of text")
        job(figure.add_subplot(grid[1 + i, 1]), result, "MB", f"whole job, {name}: peak memory, MB")
    figure.savefig(out, metadata={"Date": None})


def scale(data, out):
    points = data["points"]
    documents = [p["documents"] for p in points]
    figure, (time, memory) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    limit = f"--memory-limit {data['memory_limit']}"
    for ax, plain, limited, title in ((time, "seconds", "limited_seconds", "time, s"),
                                      (memory, "peak_mb", "limited_peak_mb", "peak memory, MB")):
        ax.loglog(documents, [p[plain] for p in points], "o-", color=OWN, label="no limit")
        ax.loglog(documents, [p[limited] for p in points], "o--", color=SHORT, label=limit)
        ax.set_xlabel("documents of 1 kB")
        ax.set_title(title, fontsize=9)
        ax.legend(fontsize=8)
    figure.savefig(out, metadata={"Date": None})


with open(sys.argv[1]) as f:
    content = json.load(f)
(scale if "points" in content else table)(content, sys.argv[2])
