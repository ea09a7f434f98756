"""Results as SVG: throughput over connections, latency as a distribution and under load, CPU per command."""

import re
from collections.abc import Iterable
from pathlib import Path

from asynq_load import SHARES
from comparison import Sample, medians
from matplotlib import use
from matplotlib.axes import Axes

use("svg")  # no window

from matplotlib import pyplot as plt

_COLOURS = {
    "direct": "#888888",
    "haproxy": "#1f6fb4",
    "asynq-ttl": "#f2a03d",
    "asynq-ttl-traced": "#d1422f",
    "asynq-ttl-observed": "#8a1f5c",
    "asynq-ttl-two": "#c9a227",
    "asynq-ttl-off": "#3f9b52",
    "twemproxy": "#8c66b0",
    "forwarder": "#111111",
}


def draw(samples: list[Sample], folder: Path) -> list[Path]:
    """Draw what the samples have data for, and return the files.

    Args:
        samples: of any loads.
        folder: where the files go.
    """
    contestants = [name for name in _COLOURS if any(sample.contestant == name for sample in samples)]
    plt.rcParams["svg.hashsalt"] = "asynq-ttl"  # the same data gives the same file
    drawn = []
    for name, plot in (("throughput", _throughput), ("latency", _latency), ("cpu", _cpu), ("under-load", _under_load)):
        figure, axes = plt.subplots(1, 2, figsize=(10, 4))
        if plot(samples, contestants, list(axes)):
            figure.tight_layout()
            drawn.append(folder / f"{name}.svg")
            figure.savefig(drawn[-1], metadata={"Date": None})
        plt.close(figure)
    return drawn


def _throughput(samples: list[Sample], contestants: list[str], axes: list[Axes]) -> bool:
    for each, pipeline in zip(axes, (1, 16), strict=True):
        found = (re.fullmatch(rf"c(\d+)-p{pipeline}-64B", load) for load in _loads(samples))
        loads = sorted((int(match[1]), match[0]) for match in found if match)
        for name in contestants:
            points = [(count, medians(samples, load, name).get("get_per_second")) for count, load in loads]
            measured = [(count, rate) for count, rate in points if rate is not None]
            if measured:
                each.plot(*zip(*measured, strict=True), marker="o", color=_COLOURS[name], label=name)
        each.set(title=f"GET, 64 bytes, pipeline {pipeline}", xlabel="connections", ylabel="commands per second")
        each.set_xscale("log")
        each.set_ylim(bottom=0)
        _finish(each)
    return any(each.has_data() for each in axes)


def _latency(samples: list[Sample], contestants: list[str], axes: list[Axes]) -> bool:
    for each, load in zip(axes, ("one-connection", "c20-p1-64B"), strict=True):
        for name in contestants:
            rounds = [sample for sample in samples if (sample.load, sample.contestant) == (load, name)]
            if rounds:
                # The round in the middle, by its median.
                middle = sorted(rounds, key=lambda sample: sample.figures["get_p50_ms"])[len(rounds) // 2]
                points = [(milliseconds * 1000, share) for share, milliseconds in middle.latencies]
                each.plot(*zip(*points, strict=True), color=_COLOURS[name], label=name, drawstyle="steps-post")
        each.set(title=f"GET, {load}", xlabel="answered within, µs", ylabel="share of the commands")
        each.set_xscale("log")
        _finish(each)
    return any(each.has_data() for each in axes)


def _cpu(samples: list[Sample], contestants: list[str], axes: list[Axes]) -> bool:
    for each, load in zip(axes, ("asynq", "c20-p1-64B"), strict=True):
        for position, name in enumerate(contestants):
            found = medians(samples, load, name)
            if found:
                proxy, server = (found.get(f"{part}_cpu_us_per_command", 0.0) for part in ("proxy", "redis"))
                each.bar(position, proxy, color=_COLOURS[name])
                each.bar(position, server, bottom=proxy, color=_COLOURS[name], alpha=0.35)
        each.set(title=f"{load}: proxy (solid) and Redis (pale)", ylabel="CPU µs per command")
        each.set_xticks(range(len(contestants)), contestants, rotation=20, ha="right")
        each.grid(visible=True, axis="y", alpha=0.3)
    return any(each.has_data() for each in axes)


def _under_load(samples: list[Sample], contestants: list[str], axes: list[Axes]) -> bool:
    for each, (what, title) in zip(axes, (("enqueue", "enqueueing"), ("task", "a whole task")), strict=True):
        for name in contestants:
            rows = [(percent, medians(samples, f"asynq-{percent}%", name)) for percent in SHARES]
            for figure, line in _PERCENTILES.items():
                points = [(percent, row[f"{what}_{figure}_ms"]) for percent, row in rows if row]
                if points:
                    label = f"{name}, {figure}"
                    each.plot(*zip(*points, strict=True), line, marker="o", color=_COLOURS[name], label=label)
        each.set(title=f"{title}, from when it was due", xlabel="rate, % of HAProxy's highest", ylabel="ms")
        each.set_yscale("log")
        _finish(each)
    return any(each.has_data() for each in axes)


_PERCENTILES = {"p50": "-", "p99": "--", "p99.9": ":"}


def _finish(axes: Axes) -> None:
    axes.grid(visible=True, alpha=0.3)
    if axes.has_data():
        axes.legend()


def _loads(samples: Iterable[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.load for sample in samples))
