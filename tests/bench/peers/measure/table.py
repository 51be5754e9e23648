"""The table: one row for each scenario, the median where it was measured several times. It is Markdown."""

import statistics

HEAD = ["scenario", "events", "in/s", "ack p50 ms", "ack p99 ms", "out/s", "all s", "deliveries", "pairs newest", "stale", "older",
        "CPU µs/event", "memory MB", "disk MB", "written MB", "202 means"]
DAY_HEAD = ["scenario", "events", "late", "deliveries", "per event", "fresh p50 s", "fresh p99 s", "fresh max s", "every product s",
            "behind s", "converged after s", "not newest", "stale", "older", "CPU µs/event", "memory MB", "disk MB", "written MB", "202 means"]


def table(results):
    """The rows of results as they are in the file, in the order of their first appearance."""
    groups = {}
    for result in results:
        groups.setdefault(result["name"], []).append(result)
    head, row = (DAY_HEAD, row_of_day) if any("behind_ms" in result for result in results) else (HEAD, row_of_load)
    rows = [head, *(row(Runs(name, runs)) for name, runs in groups.items())]
    rows = [cells + [""] * (len(head) - len(cells)) for cells in rows]
    rows = [[str(cell).replace("|", "/") for cell in cells] for cells in rows]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |" for cells in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


class Runs:
    """All runs of a scenario: medians of its figures, and the worst of those that must not be lost in a median."""

    def __init__(self, name, runs):
        self.measured = [run for run in runs if "error" not in run]
        failed = f" ({len(runs) - len(self.measured)} of {len(runs)} runs failed)" if len(self.measured) < len(runs) else ""
        self.name = name + failed
        self.failed = None if self.measured else [name, "failed: " + " ".join(runs[-1]["error"].split())[-120:]]

    def number(self, value, digits=0):
        return f"{statistics.median(value(run) for run in self.measured):,.{digits}f}"

    def field(self, name, by=1, digits=0):
        return self.number(lambda run: run[name] / by, digits)

    def seconds(self, name, digits=1):
        """A time in ms; `never` if it has not come in one of the runs."""
        return "never" if any(run[name] is None for run in self.measured) else self.field(name, 1000, digits)

    def worst(self, value):
        return f"{max(value(run) for run in self.measured):,}"

    def complete(self):
        return all(run["complete"] for run in self.measured)

    def stale(self):
        return self.worst(lambda run: run["stale"]) if self.complete() else "–"

    def older(self):
        return self.worst(lambda run: run["older_after_newer"])

    def cost(self):
        return [
            self.number(lambda run: run["cpu_s"] * 1e6 / max(1, run["events"]), 1), self.field("memory", 1e6), self.field("disk_peak", 1e6),
            self.field("written", 1e6), self.measured[0]["acknowledged"],
        ]


def row_of_load(runs):
    if runs.failed:
        return runs.failed
    newest = min(run["newest_arrived"] / max(1, run["pairs"]) for run in runs.measured)
    return [
        runs.name, runs.field("events"), runs.field("in_per_s"), runs.field("ack_ms_p50", digits=1), runs.field("ack_ms_p99", digits=1),
        runs.field("out_per_s"), runs.field("all_s", digits=1) + ("" if runs.complete() else ", not complete"), runs.field("deliveries"),
        # Rounded down, so that 100 % means all of them.
        f"{int(newest * 1000) / 10:.1f} %", runs.stale(), runs.older(), *runs.cost(),
    ]


def row_of_day(runs):
    if runs.failed:
        return runs.failed
    unsent = max(run["not_sent"] for run in runs.measured)
    # What still waits at the limit, and how old it is.
    owed = max(runs.measured, key=lambda run: run["owed_pairs"])
    old = f", {owed['owed_ms'] / 1000:,.0f} s old" if owed["owed_pairs"] else ""
    return [
        runs.name, runs.field("events") + (f", {unsent:,} not sent" if unsent else ""),
        runs.number(lambda run: 100 * run["late"] / max(1, run["steady_requests"]), 1) + " %", runs.field("deliveries"),
        runs.number(lambda run: run["deliveries"] / max(1, run["events"]), 1), *(runs.seconds(f"fresh_ms_{name}", 3) for name in ("p50", "p99", "max")),
        runs.seconds("full_change_ms"), runs.seconds("behind_ms"), runs.seconds("converged_ms"), f"{owed['owed_pairs']:,} of {owed['pairs']:,}{old}",
        runs.stale(), runs.older(), *runs.cost(),
    ]
