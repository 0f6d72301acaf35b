"""What becomes of the overhead benchmark's measurements: a file that keeps them, summaries, bars, and a table."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.overhead_models import BASELINE, QUANTIZED, TEXT_ROW

TIMES = ("visual", "text", "prefill", "decode", "total")
METHOD = "DVP"
# Fewer say too little of a median.
LEAST_SAMPLES = 5
# With digits and unit, as fractions of a second.
SUMMARY_TIMES = (("prefill", 0, 1e3), ("decode", 1, 1e3), ("total", 1, 1.0))
# The settings that the bars are defined for.
BAR_SETTINGS = {"images": 5, "patches_per_image": 729, "text_tokens": 2048, "new_tokens": 256}
BAR_SETTINGS |= {"K": 24, "G": [8, 16, 24], "M": 64, "feed_forward": {"sampler": 4, "dvp": 4}}


class Measurements:
    """The measurements of a run, a line of JSON each, on disk as soon as they are made.

    Args:
        path (`Path`): The file; what an interrupted run of the same `head` left there is read.
        head (`dict`): Settings, hardware and versions: everything that a measurement depends on.

    Raises:
        ValueError: when the file is of another run.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]):
        self.path = path
        self.entries: list[dict[str, Any]] = []
        head = json.loads(json.dumps(head))
        # A run that was killed while it wrote leaves half a line.
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        if whole and whole[0] != head:
            raise ValueError(
                f"{path} is of an unfinished run with other settings, hardware or versions: finish that run, delete the "
                "file, or choose another --output."
            )
        self.entries = whole[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(entry) + "\n" for entry in [head, *self.entries]), encoding="utf-8")

    def add(self, row: str, kind: str, **values: Any) -> None:
        self.entries.append({"row": row, "kind": kind, **values})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.entries[-1]) + "\n")

    def of(self, row: str, kind: str) -> list[dict[str, Any]]:
        """The values of a row's measurements of that kind."""
        return [
            {name: value for name, value in entry.items() if name not in ("row", "kind")}
            for entry in self.entries
            if (entry["row"], entry["kind"]) == (row, kind)
        ]


class Bar(NamedTuple):
    """A ratio and its limit; `met` is None where the run cannot decide it, and `reason` says why."""

    name: str
    value: float | None
    limit: float
    met: bool | None
    reason: str | None


def summarize_row(measurements: Measurements, row: str, new_tokens: int) -> dict[str, Any]:
    """Median and 95th percentile of each time in seconds, tokens per second, memory and parameters of a row."""
    samples = measurements.of(row, "times")
    (parameters, *_) = measurements.of(row, "parameters")
    seconds = {
        name: {
            "median": float(np.median(values)),
            "p95": float(np.percentile(values, 95)),
            "values": values,
        }
        for name in TIMES
        for values in [[sample[name] for sample in samples]]
    }
    memory: dict[str, int] | None = None
    if peaks := [sample["gpu_memory"] for sample in samples if "gpu_memory" in sample]:
        memory = {"peak": max(peaks)}
    elif processes := measurements.of(row, "memory"):
        memory = dict(processes[-1])
        memory["model"] = memory["peak"] - memory["before"]
    return {
        "prompt_tokens": samples[0]["prompt_tokens"],
        "seconds": seconds,
        "tokens_per_second": {
            "decode": 1 / seconds["decode"]["median"],
            "whole": new_tokens / seconds["total"]["median"],
        },
        "memory": memory,
        "parameters": parameters,
    }


def _memory_of(row: Mapping[str, Any]) -> int | None:
    memory = row["memory"]
    # On a CPU without what the libraries take, which is the same for all.
    return None if memory is None else memory.get("model", memory["peak"])


def ratio(rows: Mapping[str, Mapping[str, Any]], name: str, other: str, what: str) -> float | None:
    """Of two rows' medians, or of their memory; None where one of them was not measured."""
    if name not in rows or other not in rows:
        return None
    pair = [
        _memory_of(rows[row]) if what == "memory" else rows[row]["seconds"][what]["median"] for row in (name, other)
    ]
    return None if None in pair else pair[0] / pair[1]


def add_ratios(rows: dict[str, dict[str, Any]]) -> None:
    """`to_onevision` and `to_text` of every row, in place."""
    for name, row in rows.items():
        row["to_onevision"] = {what: ratio(rows, name, BASELINE, what) for what in (*TIMES, "memory")}
        row["to_text"] = {"decode": ratio(rows, name, TEXT_ROW, "decode")}


def evaluate_bars(rows: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> list[Bar]:
    """The bars of this method's overhead; a run with other numbers of tokens, gates or towers, or too few
    samples, decides none of them."""
    other = [
        f"{name} {settings[name]} (not {value})" for name, value in BAR_SETTINGS.items() if settings[name] != value
    ]
    if settings["one_tower"]:
        other.append("one tower (not two)")
    if settings["samples"] < LEAST_SAMPLES:
        other.append(f"samples {settings['samples']} (not at least {LEAST_SAMPLES})")
    on_gpu, full = settings["device"].startswith("cuda"), settings["size"] == "7b" and settings["dtype"] == "bfloat16"
    bars = []
    for title, name, base, what, limit in (
        ("prefill, visual path included: DVP / OneVision", METHOD, BASELINE, "prefill", 0.60),
        ("decode per token, three gates: DVP / text model alone", METHOD, TEXT_ROW, "decode", 1.15),
        ("total at 256 new tokens: DVP / OneVision", METHOD, BASELINE, "total", 1.05),
        ("peak memory: DVP / OneVision", METHOD, BASELINE, "memory", 1.43),
        ("peak memory, new modules in 4 bit: DVP / OneVision", QUANTIZED[METHOD], BASELINE, "memory", 1.15),
    ):
        value, reason = ratio(rows, name, base, what), None
        if what == "memory" and not on_gpu:
            value, reason = None, "a bar of GPU memory"
        elif value is None:
            reason = f"{name} or {base} was not measured"
        elif other:
            reason = "measured with " + ", ".join(other)
        elif what == "memory" and not full:
            reason = "decided at size 7b in bfloat16"
        bars.append(Bar(title, value, limit, None if reason else value <= limit, reason))
    return bars


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *lines)]


def _number(value: float | None, digits: int, scale: float = 1.0) -> str:
    return "–" if value is None else f"{value * scale:,.{digits}f}"


def _describe(content: Mapping[str, Any]) -> str:
    settings, hardware = content["settings"], content["hardware"]
    on_gpu = settings["device"].startswith("cuda")
    machine = hardware["gpu"] if on_gpu else f"{hardware['processor']}, threads: {settings['threads']}"
    cache = "static cache" if settings["static_cache"] else "dynamic cache"
    return (
        f"Size {settings['size']} ({settings['size_note']}) on {machine}; {settings['dtype']}, {settings['attention']} "
        f"attention, {cache}{', compiled decode step' if settings['compile'] else ''}. {settings['samples']} articles after "
        f"{settings['warmups']} warm-ups, one at a time: {settings['images']} images of {settings['patches_per_image']} "
        f"patches, {settings['text_tokens']} text tokens, {settings['new_tokens']} new tokens. K = {settings['K']}, "
        f"G = {settings['G']}, M = {settings['M']}, feed-forward × {settings['feed_forward']['dvp']}. torch "
        f"{content['versions']['torch']}, transformers {content['versions']['transformers']}."
    )


def render_markdown(content: Mapping[str, Any]) -> str:
    """The result file as a table of the rows, one of the bars, and the notes."""
    rows, settings = content["rows"], content["settings"]
    unit, digits = ("GB", 2) if settings["device"].startswith("cuda") else ("MB", 0)
    scale = 1e-9 if unit == "GB" else 1e-6
    head = ["", "prompt tokens", "prefill ms (p95)", "visual ms", "text ms", "decode ms/token (p95)", "tokens/s"]
    head += ["total s (p95)", f"memory {unit}", "parameters M", "new M"]
    head += ["prefill / OV", "decode / OV", "total / OV", "memory / OV", "decode / text model"]
    lines = []
    for name, row in rows.items():
        seconds, against = row["seconds"], row["to_onevision"]

        def time(what: str, digits: int, scale: float, seconds: Mapping[str, Any] = seconds) -> str:
            return (
                f"{_number(seconds[what]['median'], digits, scale)} ({_number(seconds[what]['p95'], digits, scale)})"
            )

        lines.append(
            [
                name,
                str(row["prompt_tokens"]),
                time("prefill", 1, 1e3),
                _number(seconds["visual"]["median"], 1, 1e3),
                _number(seconds["text"]["median"], 1, 1e3),
                time("decode", 2, 1e3),
                _number(row["tokens_per_second"]["decode"], 1),
                time("total", 2, 1.0),
                _number(_memory_of(row), digits, scale),
                _number(row["parameters"]["total"], 1, 1e-6),
                _number(row["parameters"]["new"], 1, 1e-6),
                *[_number(against[what], 3) for what in ("prefill", "decode", "total", "memory")],
                _number(row["to_text"]["decode"], 3),
            ]
        )
    bars = [[bar["name"], _number(bar["value"], 3), f"{bar['limit']:.2f}", _verdict(bar)] for bar in content["bars"]]
    parts = [
        ["# Overhead of the variants", "", _describe(content), ""],
        [*_table(head, lines), "", "Times are medians.", ""],
        [*_table(["bar", "value", "at most", "met"], bars), ""],
        [f"- {note}" for note in content["notes"]],
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def render_summary(content: Mapping[str, Any]) -> str:
    """The ratios alone, and the bars that this run decides."""
    head = ["", "prompt tokens", "prefill ms", "decode ms/token", "total s", "prefill / OV", "total / OV"]
    lines = [
        [name, str(row["prompt_tokens"])]
        + [_number(row["seconds"][what]["median"], digits, scale) for what, digits, scale in SUMMARY_TIMES]
        + [_number(row["to_onevision"][what], 2) for what in ("prefill", "total")]
        + [_number(row["to_text"]["decode"], 2)]
        for name, row in content["rows"].items()
    ]
    bars = [
        f"- {bar['name']}: {_number(bar['value'], 2)}, at most {bar['limit']:.2f}: {'met' if bar['met'] else 'NOT met'}"
        for bar in content["bars"]
        if bar["met"] is not None
    ]
    return "\n".join([*_table([*head, "decode / text model"], lines), "", _describe(content), "", *bars]) + "\n"


def _verdict(bar: Mapping[str, Any]) -> str:
    if bar["met"] is None:
        return f"not decided: {bar['reason']}"
    return "yes" if bar["met"] else "no"
