"""Measures the scenarios one after another and prints the table. `../run` calls it; README.md says what the columns mean."""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from .processes import Watch, free_port, get, on_disk, spawn, wait_until
from .scenarios import days, scenarios
from .systems import REPOSITORY, Rig, Weir
from .table import table

# A scenario ends this many seconds after its load began.
SECONDS_MAX = 60
# No request is begun later than this, so that a slow system can still deliver what it took.
LOAD_SECONDS = 30
# A system that has delivered nothing for so long has delivered what it ever will.
QUIET_MS = 4_000
SAMPLE_SECONDS = 0.25


def arguments():
    parser = argparse.ArgumentParser(prog="run", description="Runs Weir and what teams use instead under the same load, and prints a table.")
    parser.add_argument("--short", action="store_true", help="a minute: one scenario of each system (or those of --only), 3 sites, 4,000 events, or 10,000 in a day of 12 s")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="only scenarios whose name contains this; repeat it for more")
    parser.add_argument("--without", action="append", default=[], metavar="TEXT", help="no scenario whose name contains this; repeat it for more")
    parser.add_argument("--sites", metavar="N,...", help="numbers of sites that everything is delivered to (default 1,18)")
    parser.add_argument("--map", action="store_true", help="also with events of a PIM that have to be mapped, where a system can")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="all scenarios N times in turns; the table has medians")
    parser.add_argument("--events", type=int, default=60_000, metavar="N", help="events to send, if it is no day")
    parser.add_argument("--keys", type=int, metavar="N", help="products that the events are about (default 20,000; 100,000 of a day)")
    parser.add_argument("--batch", type=int, default=500, metavar="N", help="events of a request")
    parser.add_argument("--connections", type=int, default=8, metavar="N", help="connections that send at the same time")
    parser.add_argument("--day", action="store_true", help="the load of a day with bursts and a change of every product, through Weir and the plain bridge")
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="length of the day")
    parser.add_argument("--per-second", type=int, default=3_000, metavar="N", help="events of a second of the day; ten times as many in its bursts")
    parser.add_argument("--limit", type=int, default=300, metavar="N", help="seconds after the day when a scenario of it ends, whatever still waits")
    parser.add_argument("--list", action="store_true", help="print the scenarios that would run")
    parser.add_argument("--table", metavar="FILE", help="print the table of an earlier run again")
    parser.add_argument("--keep", action="store_true", help="leave the data of the systems in the folder")
    parser.add_argument("--folder", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.short:
        # Small requests, so that a product is in several of them: bridges merge what is in one.
        options.events, options.keys, options.batch = 4_000, 1_000, 50
        options.seconds, options.per_second, options.limit = 12, 300, 30
    options.keys = options.keys or (100_000 if options.day else 20_000)
    options.sites = [int(count) for count in (options.sites or ("3" if options.short else "18" if options.day else "1,18")).split(",")]
    options.folder = options.folder.resolve()
    return options


def program():
    """The Weir to measure."""
    named = os.environ.get("WEIR_BIN")
    path = pathlib.Path(named or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / "weir")
    if not os.access(path, os.X_OK):
        sys.exit(f"{path} is not there: build it with `cargo build --release`, or set WEIR_BIN to a program")
    return path.resolve()


def component(weir, folder):
    """The mapper `pim-product`, built from its source."""
    built = folder / "pim-product.component.wasm"
    with open(folder / "plugin.log", "wb") as log:
        command = [weir, "plugin", "build", REPOSITORY / "plugins" / "pim-product", "--out", built]
        subprocess.run(command, check=True, stdout=log, stderr=log, env={**os.environ, "CARGO_TARGET_DIR": str(folder)})
    return built


def chosen(options):
    def fits(scenario):
        named = lambda texts: any(text in scenario.name for text in texts)
        wanted = named(options.only) if options.only else scenario.short or not options.short
        return wanted and not named(options.without)

    all_of_them = days(options.sites) if options.day else scenarios(options.sites, options.map)
    found = [scenario for scenario in all_of_them if fits(scenario)]
    here = [scenario for scenario in found if scenario.system.installed(options.folder)]
    missing = {scenario.system.__name__ for scenario in found} - {scenario.system.__name__ for scenario in here}
    if missing:
        print(f"not installed, so left out: {', '.join(sorted(missing))}", file=sys.stderr)
    return here


def measure(scenario, events, keys, options):
    """One run of a scenario, as a result for the table."""
    result = {"name": scenario.name, "acknowledged": scenario.acknowledged, "at": time.strftime("%F %T"), "load_average": os.getloadavg()[0]}
    folder = options.folder / "run" / "".join(letter if letter.isalnum() else "-" for letter in scenario.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rig, port = options.folder / "rig" / "release" / "peers-rig", free_port()
    with contextlib.ExitStack() as stack:
        def child(*words, log):
            process = spawn([rig, *words], folder, folder / log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        sink = child("sink", "--port", port, log="sink.log")
        system = scenario.system(options.folder, folder, scenario.sites, port, scenario.mapped, **scenario.options)
        if isinstance(system, Weir):
            system.program, system.component = options.program, options.component
        if not options.keep:
            stack.callback(shutil.rmtree, system.data, ignore_errors=True)
        stack.callback(system.stop)
        try:
            wait_until(10, "the sink is ready", lambda: get(f"http://127.0.0.1:{port}/stats"))
            system.start()
            common = ["--keys", keys, "--batch", options.batch, "--connections", options.connections, "--expected", folder / "expected"]
            if scenario.day:
                words = ["day", system.url, "--full-change-url", system.full_change_url(), "--seconds", options.seconds, "--per-second", options.per_second,
                         "--give-up", options.limit // 2, "--events", folder / "events", *common]
                words += ["--burst-every", 6, "--burst-lasts", 1] if options.short else []
            else:
                words = ["load", system.url, "--events", events, "--seconds", LOAD_SECONDS,
                         "--format", "pim" if scenario.mapped else "plain", *common]
            seconds = options.seconds + options.limit if scenario.day else SECONDS_MAX
            result |= follow(system, sink, port, lambda: child(*words, log="load.json"), folder, seconds)
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            result["error"] = str(error)[-800:]
    return result


def follow(system, sink, port, start_load, folder, seconds_max):
    """Starts the load, and watches until all newest states have arrived, until nothing arrives any more, or until the time is over."""
    ask = lambda path, body=None: json.loads(get(f"http://127.0.0.1:{port}/{path}", body))
    watch, watch_sink = Watch([child.pid for child in system.children], system.shared_memory), Watch([sink.pid])
    watch.start()
    watch_sink.start()
    disk_before = disk_peak = on_disk(system.data)
    began, load, loaded, complete, samples = time.monotonic(), start_load(), None, False, []
    while not complete and time.monotonic() - began < seconds_max:
        time.sleep(SAMPLE_SECONDS)
        system.running()
        samples.append((time.time() * 1000, watch.sample(), watch_sink.sample()))
        if len(samples) % 2:
            continue
        disk_peak = max(disk_peak, on_disk(system.data))
        if loaded is None and load.poll() is not None:
            output = (folder / "load.json").read_text()
            if load.returncode != 0:
                raise RuntimeError(f"the load failed: {output}")
            loaded = json.loads(output)
        if loaded:
            stats = ask("stats")
            quiet = time.time() * 1000 - max(stats["last_ms"], loaded["started_ms"] + loaded["seconds"] * 1000)
            if quiet > 1000:
                verdict = ask("check", (folder / "expected").read_bytes())
                complete = quiet > QUIET_MS or verdict["newest_arrived"] == verdict["keys"] * len(system.sites)
    if not loaded:
        raise RuntimeError(f"the load did not end within {seconds_max} s")
    until_ms = int(time.time() * 1000)
    stats, verdict = ask("stats"), ask("check", (folder / "expected").read_bytes())
    pairs = verdict["keys"] * len(system.sites)
    last_ms = stats["last_ms"] or time.time() * 1000
    seconds = max(0.001, (last_ms - loaded["started_ms"]) / 1000)
    # The first sample after the last delivery: what a system does afterwards is not part of it.
    _, cpu, cpu_sink = next((sample for sample in samples if sample[0] >= last_ms), samples[-1])
    day = {}
    if "day_end_ms" in loaded:
        day = {name: loaded[name] for name in ("steady_requests", "late", "not_sent", "full_change")}
        day |= ask(f"day/{len(system.sites)}/{loaded['day_end_ms']}/{until_ms}", (folder / "events").read_bytes())
    return day | {
        "events": loaded["events"], "keys": loaded["keys"], "sites": len(system.sites), "bytes_per_event": loaded["bytes_per_event"],
        "in_per_s": loaded["events_per_s"], "ack_ms_p50": loaded["ack_ms_p50"], "ack_ms_p99": loaded["ack_ms_p99"], "retried": loaded["retried"],
        "deliveries": stats["items"], "requests_out": stats["requests"], "out_per_s": stats["items"] / seconds, "all_s": seconds,
        "pairs": pairs, "newest_arrived": verdict["newest_arrived"], "stale": verdict["stale"],
        "missing": pairs - (verdict["paths"] * verdict["keys"] - verdict["missing"]), "older_after_newer": stats["older_after_newer"],
        "unread": stats["unread"], "complete": complete, "cpu_s": cpu, "cpu_sink_s": cpu_sink, "memory": watch.memory(),
        "disk_peak": max(0, disk_peak - disk_before), "written": watch.written(),
    }


def wrong(result):
    """What must not happen in a run, whatever the system: it would be a fault of the measurement, or of Weir."""
    if "error" in result:
        return result["error"]
    if result["unread"]:
        return f"{result['unread']} deliveries could not be read"
    promises = result["name"].startswith("weir") and result["complete"]
    if promises and (result["newest_arrived"] < result["pairs"] or result["stale"]):
        return f"{result['pairs'] - result['newest_arrived']} pairs miss the newest state, {result['stale']} are stale"
    return None


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    options = arguments()
    if options.table:
        print(table([json.loads(line) for line in open(options.table)]))
        return 0
    todo = chosen(options)
    if options.list:
        print("\n".join(scenario.name for scenario in todo))
        return 0
    options.program = options.component = None
    if any(scenario.system is Weir for scenario in todo):
        options.program = program()
        if options.map:
            options.component = component(options.program, options.folder)
    results, faults, file = [], [], options.folder / f"results-{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    load_before = os.getloadavg()[0]
    for scenario in todo * options.repeat:
        print(f"… {scenario.name}", file=sys.stderr, flush=True)
        # A system that did not deliver everything in time is run once more with a fifth of the events and products.
        for part in (1,) if scenario.day else (1, 5):
            result = measure(scenario, max(1, options.events // part), max(1, options.keys // part), options)
            if part > 1:
                result["name"] += ", a fifth"
            results.append(result)
            with open(file, "a") as lines:
                lines.write(json.dumps(result) + "\n")
            if fault := wrong(result):
                faults.append(f"{result['name']}: {fault}")
            if "error" in result or result["complete"] or scenario.system is Rig:
                break
    print(f"{os.cpu_count()} cores, load average {load_before:.1f} before and {os.getloadavg()[0]:.1f} after; program {options.program}\n")
    print(table(results))
    print(f"\nall figures: {file}")
    for fault in faults:
        print(f"FAILED {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
