"""The table: one row for each scenario, the median where it was measured several times. It is Markdown."""

import statistics

HEAD = ["scenario", "events", "in/s", "ack p50 ms", "ack p99 ms", "out/s", "all s", "deliveries", "pairs newest", "stale", "older",
        "CPU µs/event", "memory MB", "disk MB", "written MB", "202 means"]


def table(results):
    """The rows of results as they are in the file, in the order of their first appearance."""
    groups = {}
    for result in results:
        groups.setdefault(result["name"], []).append(result)
    rows = [HEAD, *(row(name, runs) for name, runs in groups.items())]
    rows = [[str(cell).replace("|", "/") for cell in cells] for cells in rows]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEAD))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |" for cells in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def row(name, runs):
    measured = [run for run in runs if "error" not in run]
    if not measured:
        return [name, "failed: " + " ".join(runs[-1]["error"].split())[-120:], *[""] * (len(HEAD) - 2)]
    median = lambda value: statistics.median(value(run) for run in measured)
    number = lambda value, digits=0: f"{median(value):,.{digits}f}"
    field = lambda name, by=1, digits=0: number(lambda run: run[name] / by, digits)
    # A wrong pair must not be lost in a median.
    worst = lambda name: f"{max(run[name] for run in measured):,}"
    complete = all(run["complete"] for run in measured)
    failed = f" ({len(runs) - len(measured)} of {len(runs)} runs failed)" if len(measured) < len(runs) else ""
    newest = min(run["newest_arrived"] / max(1, run["pairs"]) for run in measured)
    return [
        name + failed, field("events"), field("in_per_s"), field("ack_ms_p50", digits=1), field("ack_ms_p99", digits=1), field("out_per_s"),
        field("all_s", digits=1) + ("" if complete else ", not complete"), field("deliveries"),
        # Rounded down, so that 100 % means all of them.
        f"{int(newest * 1000) / 10:.1f} %", worst("stale") if complete else "–", worst("older_after_newer"),
        number(lambda run: run["cpu_s"] * 1e6 / max(1, run["events"]), 1), field("memory", 1e6), field("disk_peak", 1e6), field("written", 1e6),
        measured[0]["acknowledged"],
    ]
