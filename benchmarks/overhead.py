"""The paper's overhead table: latency, tokens per second, peak memory and parameters of all six variants.

    python benchmarks/overhead.py --size tiny --samples 7 --warmups 1 --output benchmarks/results/overhead_tiny.json
    python benchmarks/overhead.py --size 7b --device cuda --new-modules-4bit --output benchmarks/results/overhead_7b.json

Random weights, the same random articles for every row, exactly the same number of new tokens: nothing here says how good
a summary is. The text model alone, without any image, is a row of its own, to compare decoding with. On a CPU all rows
take turns, article by article, so that what else the machine does falls on all of them alike, and memory is that of a
process per row; on a GPU and with --compile one row follows the other. Finished measurements are kept beside the output
until all are there: interrupt it and run the same command to go on.
"""

import argparse
import gc
import importlib.util
import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import nn
from tqdm import tqdm
from transformers import CompileConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from benchmarks.overhead_models import (
    GATE_INIT,
    MATRICES,
    MATRIX,
    QUANTIZED,
    SEED,
    SIZES,
    TEXT_ROW,
    Row,
    build_model,
    count_parameters,
    make_article,
    make_inputs,
    make_rows,
)
from benchmarks.overhead_results import Measurements, add_ratios, evaluate_bars, render_markdown, summarize_row
from benchmarks.process_memory import forget_peak_memory, resident_memory
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions

NOTES = (
    "Random weights and inputs; min_new_tokens = max_new_tokens, so that every row decodes equally.",
    "prefill: from the call of generate() to the first token's logits. visual + text = prefill; visual ends where the "
    "language model starts: towers, visual path and generate()'s own preparations, which are all of it for the text model.",
    "OneVision is LLaVA-OneVision as it is: one tower. All others have a second tower for the image embeddings, which MM-OV "
    "needs to choose images, and has no use for while it generates. The gated MM- rows have the modules of their "
    "namesakes, and the losses exist in training only: what differs between them is the noise of this run.",
    "new: the parameters of the visual path, in number, also where they are stored in 4 bit.",
)
CPU_MEMORY_NOTE = (
    "memory: peak of a process per row while it generates once, less what it had before the model was built."
)
GPU_MEMORY_NOTE = (
    "memory: torch.cuda.max_memory_allocated while generating, weights included, building excluded. The paper's figures: "
    "OV 15.80 GB, Vision Sampler 16.81, DVP 22.56."
)


class Sample(NamedTuple):
    """Seconds of one generation.

    prefill: from the call of generate() to the first token's logits, all visual work included; it is the sum of visual
    (up to the start of the language model: towers, visual path, generate()'s own preparations) and text. decode: of one
    token, the mean over all tokens after the first. total: the whole call.
    """

    visual: float
    text: float
    prefill: float
    decode: float
    total: float


class Clock(LogitsProcessor):
    """Notes the time when it is called: CUDA events on a GPU, which do not make it wait, and a timer elsewhere."""

    def __init__(self, device: torch.device):
        self.device = device
        self.marks: list[Any] = []

    def mark(self) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.mark()
        return scores

    def seconds(self) -> list[float]:
        """Of each mark, since the first one."""
        if self.device.type != "cuda":
            return [mark - self.marks[0] for mark in self.marks]
        torch.cuda.synchronize(self.device)
        return [self.marks[0].elapsed_time(mark) / 1000 for mark in self.marks]


def generation_options(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of generate() for a static cache and a compiled decode step, which needs one."""
    if not options.static_cache:
        return {}
    if not options.compile:
        return {"cache_implementation": "static", "disable_compile": True}
    config = CompileConfig(fullgraph=True, dynamic=False)
    config._compile_all_devices = True  # generate() compiles on accelerators only, unless told otherwise
    return {"cache_implementation": "static", "compile_config": config}


@torch.inference_mode()
def measure_sample(
    model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], new_tokens: int, options: Mapping[str, Any]
) -> Sample:
    """Generate exactly `new_tokens` tokens (at least 2) greedily.

    Raises:
        RuntimeError: when the generation did not go as the times are read.
    """
    device = inputs["input_ids"].device
    clock = Clock(device)

    def start_text(module: nn.Module, args: tuple, kwargs: dict) -> None:
        # Of the prefill only: a compiled decode step has no room for it.
        handle.remove()
        clock.mark()

    handle = model.get_decoder().register_forward_pre_hook(start_text, with_kwargs=True)
    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        clock.mark()
        sequences = model.generate(
            **inputs,
            **options,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            logits_processor=LogitsProcessorList([clock]),
        )
        clock.mark()
    finally:
        handle.remove()
    seconds = clock.seconds()
    generated = sequences.shape[1] - inputs["input_ids"].shape[1]
    if generated != new_tokens or len(seconds) != new_tokens + 3:
        raise RuntimeError(
            f"generated {generated} tokens with {len(seconds)} marks, not {new_tokens} and {new_tokens + 3}."
        )
    _, text_start, first_token, *_, last_token, end = seconds
    return Sample(
        visual=text_start,
        text=first_token - text_start,
        prefill=first_token,
        decode=(last_token - first_token) / (new_tokens - 1),
        total=end,
    )


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; `device` and `dtype` as torch has them, `sizes` and `rows` as they will be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--size", required=True, choices=SIZES)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the result")
    parser.add_argument("--markdown", type=Path, help="its table; by default beside it, with the ending .md")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="bfloat16 on a GPU, else float32")
    parser.add_argument("--samples", type=int, default=100, help="articles that are measured (default: 100)")
    parser.add_argument("--warmups", type=int, default=10, help="articles before them that are not (default: 10)")
    parser.add_argument("--images", type=int, help="images per article (default: 5)")
    parser.add_argument("--text-tokens", type=int, help="text tokens per article (default: 2048)")
    parser.add_argument("--new-tokens", type=int, help="tokens to generate (default: 256)")
    parser.add_argument(
        "--matrix", type=Path, default=MATRIX, metavar="FILE", help="of the rows (default: the paper's)"
    )
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="only these rows, and the text model alone")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument(
        "--one-tower",
        action="store_true",
        help="patches and image embeddings from one tower; by default two, as the published LLaVA-OneVision needs them",
    )
    parser.add_argument(
        "--new-modules-4bit",
        action="store_true",
        help=f"measure {' and '.join(QUANTIZED)} also with Vision Sampler and Deep Visual Processor in NF4",
    )
    parser.add_argument("--static-cache", action="store_true", help="generate with a static cache")
    parser.add_argument("--compile", action="store_true", help="compile the decode step; implies --static-cache")
    parser.add_argument(
        "--no-memory", action="store_true", help="on a CPU: leave out the processes that measure memory"
    )
    parser.add_argument("--peak-memory-of", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)

    try:
        options.device = torch.device(options.device)
    except RuntimeError:
        parser.error(f"--device {options.device} is no device of torch; use cpu or cuda.")
    if options.device.type not in ("cpu", "cuda"):
        parser.error(f"--device {options.device} is not supported; use cpu or cuda.")
    if options.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here; use --device cpu, or install torch with CUDA.")
    options.dtype = options.dtype or ("bfloat16" if options.device.type == "cuda" else "float32")
    options.static_cache = options.static_cache or options.compile
    options.markdown = options.markdown or options.output.with_suffix(".md")
    if options.markdown == options.output:
        parser.error("--output and --markdown name the same file; give --output the ending .json.")
    if not options.markdown.absolute().parent.is_dir() and options.markdown.parent != options.output.parent:
        parser.error(f"--markdown {options.markdown}: there is no such folder; make it, or name another.")
    for name, least in (("samples", 1), ("warmups", 0), ("images", 1), ("text_tokens", 1), ("new_tokens", 2)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} is {value}; it must be at least {least}.")
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads is {options.threads}; it must be at least 1.")
    if options.new_modules_4bit and importlib.util.find_spec("bitsandbytes") is None:
        parser.error("--new-modules-4bit needs bitsandbytes: pip install -e '.[quantization]'.")

    given = {name: getattr(options, name) for name in ("images", "text_tokens", "new_tokens")}
    options.dimensions = replace(
        SIZES[options.size], **{name: value for name, value in given.items() if value is not None}
    )
    if not options.matrix.is_file():
        parser.error(f"--matrix {options.matrix}: there is no such file; those of this project are in {MATRICES}.")
    rows = make_rows(options.dimensions, options.new_modules_4bit, options.matrix)
    most = next(row.fields["max_images"] for row in rows if row.fields)
    if options.dimensions.images > most:
        parser.error(f"--images is {options.dimensions.images}; the summarizer reads at most {most} (max_images).")
    if options.variants is not None:
        unknown = sorted(set(options.variants) - {row.name for row in rows})
        if unknown:
            parser.error(f"--variants: there are no rows {unknown}; the rows are {[row.name for row in rows]}.")
        rows = [row for row in rows if row.name in {*options.variants, TEXT_ROW}]
    options.rows = rows
    return options


def prepare(row: Row, options: argparse.Namespace) -> tuple[PreTrainedModel, dict[str, int]]:
    """The row's model, ready to generate, and its parameters."""
    dtype = getattr(torch, options.dtype)
    model = build_model(row, options.dimensions, options.device, dtype, options.attention, options.one_tower)
    # Counted before quantization, which packs two of them into one element.
    parameters = count_parameters(model)
    if row.quantized:
        # Of bitsandbytes, an optional dependency.
        from spectra_sum.models.quantization import quantize_new_modules

        quantize_new_modules(model)
    return model, parameters


def measure(row: Row, model: PreTrainedModel, sample: int, options: argparse.Namespace) -> dict[str, float]:
    """The times of one article; warm-ups have numbers below 0."""
    size = options.dimensions
    inputs = make_inputs(row, model, make_article(size, sample), options.device, getattr(torch, options.dtype))
    times = measure_sample(model, inputs, size.new_tokens, generation_options(options))
    return {"prompt_tokens": inputs["input_ids"].shape[1], **times._asdict()}


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that a result depends on; a run is continued with equal settings only."""
    size = options.dimensions
    fields = next(row.fields for row in make_rows(size, matrix=options.matrix) if row.name == "DVP")
    given = ("size", "samples", "warmups", "dtype", "attention", "one_tower", "static_cache", "compile", "no_memory")
    return {
        **{name: getattr(options, name) for name in given},
        "size_note": size.note,
        "text": dict(size.text),
        "towers": {
            **size.tower,
            "layers": [size.tower_layers, size.tower_layers + 1][: 1 if options.one_tower else 2],
        },
        "patches_per_image": (size.tower["image_size"] // size.tower["patch_size"]) ** 2,
        **{name: getattr(size, name) for name in ("images", "text_tokens", "new_tokens")},
        "K": fields["dvp_num_layers"],
        "G": list(fields["gate_layers"]),
        "M": fields["num_latents"],
        "sampler_depth": fields["sampler_depth"],
        "feed_forward": {name: fields[f"{name}_feed_forward_multiplier"] for name in ("sampler", "dvp")},
        "gate_init": GATE_INIT,
        "seed": SEED,
        "rows": {row.name: row.fields for row in options.rows},
        "batch_size": 1,
        "device": str(options.device),
        "threads": torch.get_num_threads(),
        "order": "in turns" if takes_turns(options) else "one after the other",
    }


def takes_turns(options: argparse.Namespace) -> bool:
    # The compiler keeps the graphs of all models under one function and looks through them at each call; GPU memory
    # tells nothing about a row while other rows' models are there.
    return options.device.type == "cpu" and options.dimensions.all_fit and not options.compile


def missing_samples(
    rows: Sequence[Row], options: argparse.Namespace, measurements: Measurements
) -> list[tuple[int, Row]]:
    """What is left to do for these rows, in turns, with the warm-ups before it; nothing if all is done."""
    done = {row.name: {entry["sample"] for entry in measurements.of(row.name, "times")} for row in rows}
    # In another order each time, so that no row always comes after the same one.
    turns = [(sample, random.Random(sample).sample(list(rows), len(rows))) for sample in range(options.samples)]
    samples = [(sample, row) for sample, turn in turns for row in turn if sample not in done[row.name]]
    warmups = [(-1 - index, row) for index in range(options.warmups) for row in rows]
    return [*warmups, *samples] if samples else []


def measure_rows(rows: Sequence[Row], options: argparse.Namespace, measurements: Measurements, progress: tqdm) -> None:
    """All samples of these rows, in turns; their models are in memory together."""
    on_gpu, models = options.device.type == "cuda", {}
    samples = missing_samples(rows, options, measurements)
    for row in rows if samples else []:
        progress.set_postfix_str(f"building {row.name}")
        models[row.name], parameters = prepare(row, options)
        if not measurements.of(row.name, "parameters"):
            measurements.add(row.name, "parameters", **parameters)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(options.device)
    for sample, row in samples:
        progress.set_postfix_str(row.name if sample >= 0 else f"{row.name}, warm-up")
        values = measure(row, models[row.name], sample, options)
        if on_gpu:
            values["gpu_memory"] = torch.cuda.max_memory_allocated(options.device)
        if sample >= 0:
            measurements.add(row.name, "times", sample=sample, **values)
        progress.update()


def print_peak_memory(options: argparse.Namespace) -> None:
    """Of this process, which builds one row's model and generates once; null where the system does not tell."""
    before = resident_memory()
    (row,) = [row for row in options.rows if row.name == options.peak_memory_of]
    model, _ = prepare(row, options)
    if before is not None:
        # Building takes more than generating where weights are made in one precision and kept in another.
        forget_peak_memory()
    measure(row, model, 0, options)
    print(json.dumps(before and {"peak": resident_memory()[1], "before": before[0]}))


def measure_memory(row: Row, argv: Sequence[str], measurements: Measurements) -> None:
    """The peak of a process of its own, into the measurements."""
    command = [sys.executable, str(Path(__file__).resolve()), *argv, "--peak-memory-of", row.name]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    memory = json.loads(process.stdout.splitlines()[-1])
    if memory is not None:
        measurements.add(row.name, "memory", **memory)


def main(argv: Sequence[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    options = parse_options(argv)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.peak_memory_of is not None:
        print_peak_memory(options)
        return
    on_gpu = options.device.type == "cuda"
    if on_gpu:
        # Where events are recorded, and the GPU that the hardware's description names.
        torch.cuda.set_device(options.device.index or 0)
    hardware = describe_hardware() | ({"gpu_memory": torch.cuda.mem_get_info()[1]} if on_gpu else {})
    packages = ["torch", "transformers", *(["bitsandbytes"] if options.new_modules_4bit else [])]
    head = {
        "settings": settings_of(options),
        "hardware": hardware,
        "versions": describe_versions(packages),
        "commit": describe_commit(),
    }
    try:
        measurements = Measurements(options.output.with_suffix(".measured.jsonl"), head)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    groups = [options.rows] if takes_turns(options) else [[row] for row in options.rows]
    with tqdm(
        total=sum(len(missing_samples(rows, options, measurements)) for rows in groups), unit="article"
    ) as progress:
        for rows in groups:
            measure_rows(rows, options, measurements, progress)
            gc.collect()
            if on_gpu:
                torch.cuda.empty_cache()
            torch._dynamo.reset()
        for row in [] if on_gpu or options.no_memory else options.rows:
            if not measurements.of(row.name, "memory"):
                progress.set_postfix_str(f"memory of {row.name}")
                measure_memory(row, argv, measurements)
    rows = {row.name: summarize_row(measurements, row.name, options.dimensions.new_tokens) for row in options.rows}
    add_ratios(rows)
    bars = [bar._asdict() for bar in evaluate_bars(rows, head["settings"])]
    content = {"rows": rows, "bars": bars, "notes": [*NOTES, GPU_MEMORY_NOTE if on_gpu else CPU_MEMORY_NOTE], **head}
    write_text_atomically(options.output, json.dumps(content, indent=2) + "\n")
    write_text_atomically(options.markdown, render_markdown(content))
    measurements.path.unlink()
    print(render_markdown(content))


if __name__ == "__main__":
    main()
