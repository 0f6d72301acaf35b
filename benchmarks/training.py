"""Steps per second and peak memory of training, with and without the feature cache, for L_lm alone and for three losses.

    python benchmarks/training.py --size tiny --output benchmarks/results/training_tiny.json
    python benchmarks/training.py --size 7b --device cuda --output benchmarks/results/training_7b.json

A step is what `SpectraTrainer` computes of one article, its backward pass and the optimizer's step, on a model with random
weights and a frozen language model. All six variants (no cache, embeddings, patches; L_lm, three losses) take turns on the
same articles in one process, so that what else the machine does falls on all of them. Decoding images is left out: it is the
work of other processes. A profile of one step of each says where the time goes.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function
from tqdm import tqdm

from benchmarks.overhead_models import GATE_INIT, SEED, SIZES, count_parameters
from benchmarks.process_memory import forget_peak_memory, resident_memory
from benchmarks.training_models import (
    LOSSES,
    SENTENCES,
    build_student,
    build_teacher,
    make_batches,
    training_size,
)
from benchmarks.training_results import (
    NOTES,
    VARIANTS,
    evaluate_bar,
    name_of,
    render_markdown,
    summarize,
    write_results,
)
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from trainer.arguments import SpectraTrainingArguments
from trainer.spectra_trainer import SpectraTrainer
from trainer.trainable import set_trainable


class Bench:
    """One model with its teacher, and for each variant the trainer that steps it."""

    def __init__(self, options: argparse.Namespace, folder: Path, variants: Sequence[tuple[str, str]] = VARIANTS):
        size, device = options.dimensions, options.device
        self.options, self.size, self.device = options, size, device
        self.profiling = False
        self.model = build_student(size, device, getattr(torch, options.dtype), options.one_tower)
        teacher = build_teacher(size, self.model.config, device)
        # A step of any variant asks for features of the same articles.
        self.batches = [
            make_batches(size, self.model, teacher, sample, options.summary_tokens, device)
            for sample in range(options.articles)
        ]
        self.teacher_bytes = sum(value.nbytes for value in teacher.dual_encoder.parameters())
        self.teacher = teacher if ("none", "three") in variants else None
        teacher.span = self.span
        arguments = SpectraTrainingArguments(
            output_dir=str(folder),
            use_cpu=device.type == "cpu",
            optim="adafactor",
            learning_rate=1e-5,
            report_to="none",
            disable_tqdm=True,
        )
        self.trainers: dict[tuple[str, str], SpectraTrainer] = {}
        for variant in variants:
            cache, losses = variant
            self.set_losses(losses)
            self.trainers[variant] = SpectraTrainer(
                model=self.model,
                args=arguments,
                teacher=self.teacher if variant == ("none", "three") else None,
                cached_teacher=cache != "none",
            )
            queue = self.trainers[variant].negative_queue
            generator = torch.Generator().manual_seed(SEED)
            embeds = torch.randn(queue.size, queue.dim, generator=generator)
            queue.push(nn.functional.normalize(embeds, dim=-1), torch.arange(-queue.size, 0))
        self.set_losses("three")
        self.optimizer = self.trainers[variants[-1]].create_optimizer()

    def set_losses(self, losses: str) -> None:
        """Weights of the losses, and what they train."""
        self.model.config.align_weight, self.model.config.distill_weight = LOSSES[losses]
        set_trainable(self.model, train_language_model=False)

    def wait(self) -> None:
        """Until a GPU has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A range that a profile shows under its name, with all that a GPU does of it."""
        if self.profiling:
            self.wait()
        with record_function(name):
            yield
            if self.profiling:
                self.wait()

    def step(self, variant: tuple[str, str], sample: int) -> float:
        """One optimizer step; the loss before it."""
        cache, losses = variant
        self.set_losses(losses)
        trainer, batch = self.trainers[variant], self.batches[sample % len(self.batches)][cache]
        count = int((batch["labels"] != -100).sum())
        with self.span("forward"):
            loss = trainer.compute_loss(self.model.train(), batch, num_items_in_batch=count)
        with self.span("backward"):
            loss.backward()
        with self.span("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad()
        trainer.push_pending_negatives()
        return loss.item()

    def timed_step(self, variant: tuple[str, str], sample: int) -> dict[str, float]:
        """Seconds of a step, and on a GPU the peak of its memory."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        self.wait()
        start = time.perf_counter()
        loss = self.step(variant, sample)
        self.wait()
        values = {"seconds": time.perf_counter() - start, "loss": loss}
        if on_gpu:
            # Only one variant has a teacher at work; the others would not have loaded it.
            resting = 0 if variant == ("none", "three") else self.teacher_bytes
            values["memory"] = torch.cuda.max_memory_allocated(self.device) - resting
        return values

    def profiled_step(self, variant: tuple[str, str]) -> dict[str, Any]:
        """Milliseconds of a step by the parts that are named below, and their share of it."""
        parts = {"vision tower": self.model.vision_tower, "language model": self.model.get_decoder()}
        parts["visual path"] = self.model.visual_path
        if self.model.embedding_tower is not None:
            parts["embedding tower"] = self.model.embedding_tower
        if self.teacher is not None:
            parts["teacher's text tower"] = self.teacher.dual_encoder.text_model
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device.type == "cuda" else [])]
        names = [*parts, "teacher", "forward", "backward", "optimizer"]
        self.profiling = True
        try:
            with recorded(parts, self.span), profile(activities=activities) as profiler, self.span("step"):
                self.step(variant, 0)
        finally:
            self.profiling = False
        # On a GPU each range is listed again, with what it covers there.
        rows = [event for event in profiler.key_averages() if event.device_type == DeviceType.CPU]
        events = {event.key: event for event in rows if event.key in [*names, "step"]}
        whole = events["step"].cpu_time_total
        return {
            name: {
                "calls": events[name].count if name in events else 0,
                "milliseconds": events[name].cpu_time_total / 1000 if name in events else 0.0,
                "share": events[name].cpu_time_total / whole if name in events else 0.0,
            }
            for name in names
        }


@contextmanager
def recorded(parts: Mapping[str, nn.Module], span: Callable[[str], AbstractContextManager]) -> Iterator[None]:
    """Within the block each call of these modules is a `span` of its name."""
    handles, ranges = [], []

    def enter(name: str) -> None:
        ranges.append(span(name))
        ranges[-1].__enter__()

    def leave(*_: Any) -> None:
        # What a forward hook returns would take the place of the module's output.
        ranges.pop().__exit__(None, None, None)

    for name, module in parts.items():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: enter(name)))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def measure_memory(variant: tuple[str, str], argv: Sequence[str]) -> dict[str, int] | None:
    """The peak of a process of its own that makes one step; None where the system does not tell."""
    command = [sys.executable, str(Path(__file__).resolve()), *argv, "--peak-memory-of", "/".join(variant)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def print_peak_memory(options: argparse.Namespace, folder: Path) -> None:
    before = resident_memory()
    variant = tuple(options.peak_memory_of.split("/"))
    options.articles = 1
    bench = Bench(options, folder, [variant])
    if before is not None:
        # What made the features of a cache is no part of training from it.
        forget_peak_memory()
    bench.step(variant, 0)
    print(json.dumps(before and {"peak": resident_memory()[1], "before": before[0]}))


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """The options; `device` as torch has it, `dimensions` as they will be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--size", required=True, choices=SIZES)
    parser.add_argument("--output", type=Path, required=True, help="JSON file; the table comes beside it as .md")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="bfloat16 on a GPU, else float32")
    parser.add_argument("--turns", type=int, default=6, help="steps of each variant (default: 6)")
    parser.add_argument("--warmups", type=int, default=1, help="steps of each before them (default: 1)")
    parser.add_argument("--articles", type=int, default=2, help="different articles (default: 2)")
    parser.add_argument("--images", type=int, help="images per article (default: 9)")
    parser.add_argument("--text-tokens", type=int, help="tokens of prompt and summary (default: 2048)")
    parser.add_argument("--summary-tokens", type=int, help="tokens with a label (default: 128, or half of all)")
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument("--one-tower", action="store_true", help="patches and embeddings from one tower")
    parser.add_argument(
        "--no-memory", action="store_true", help="on a CPU: leave out the processes that measure memory"
    )
    parser.add_argument("--peak-memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.device not in ("cpu", "cuda"):
        parser.error(
            f"--device {options.device}: choose cpu or cuda; CUDA_VISIBLE_DEVICES chooses among several GPUs."
        )
    options.device = torch.device(options.device)
    if options.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here; use --device cpu.")
    for name in ("turns", "articles", "images", "text_tokens", "summary_tokens", "threads"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1.")
    if options.output.suffix == ".md":
        parser.error("--output is the JSON file; the table is written beside it.")
    options.dtype = options.dtype or ("bfloat16" if options.device.type == "cuda" else "float32")
    options.dimensions = training_size(options.size, options.images, options.text_tokens)
    options.summary_tokens = options.summary_tokens or min(128, options.dimensions.text_tokens // 2)
    if options.summary_tokens >= options.dimensions.text_tokens:
        parser.error("--summary-tokens must leave --text-tokens room for an article.")
    return options


def describe(options: argparse.Namespace, bench: Bench, rows: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the result file, as yet without a profile."""
    config, size = bench.model.config, options.dimensions
    given = ("size", "dtype", "turns", "warmups", "articles", "one_tower", "no_memory")
    settings = {name: getattr(options, name) for name in given}
    fields = (
        "sampler_depth",
        "sampler_feed_forward_multiplier",
        "dvp_feed_forward_multiplier",
        "max_candidate_images",
    )
    return {
        "rows": rows,
        "profile": {},
        "bar": evaluate_bar(rows, settings)._asdict(),
        "notes": list(NOTES),
        "settings": {
            **settings,
            "text": dict(size.text),
            "towers": {
                **size.tower,
                "layers": [size.tower_layers, size.tower_layers + 1][: 1 if options.one_tower else 2],
            },
            "teacher": "a SigLIP of the tower's width and depth with its text tower, float32",
            "loss_weights": {
                name: dict(zip(("align", "distill"), pair, strict=True)) for name, pair in LOSSES.items()
            },
            "vrp_dropout": config.vrp_dropout,
            **{name: getattr(config, name) for name in fields},
            "attention": config._attn_implementation,
            "activation_checkpointing": False,
            "order": "all variants on an article, in another order each turn",
            "device": str(options.device),
            "size_note": options.dimensions.note,
            "images": options.dimensions.images,
            "text_tokens": options.dimensions.text_tokens,
            "summary_tokens": options.summary_tokens,
            "summary_sentences": SENTENCES,
            "max_images": config.max_images,
            "K": config.dvp_num_layers,
            "G": config.gate_layers,
            "M": config.num_latents,
            "gate_init": GATE_INIT,
            "negatives": config.negative_queue_size,
            "optimizer": "adafactor",
            "parameters": count_parameters(bench.model),
            "seed": SEED,
        },
        "hardware": describe_hardware(),
        "commit": describe_commit(),
        "versions": describe_versions(("torch", "transformers", "accelerate")),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the JSON file and its table."""
    argv = list(sys.argv[1:] if argv is None else argv)
    options = parse_options(argv)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        if options.peak_memory_of:
            print_peak_memory(options, Path(folder))
            return
        bench = Bench(options, Path(folder))
        if bench.model.config.max_candidate_images < options.dimensions.images:
            raise SystemExit(f"--images: at most {bench.model.config.max_candidate_images} are scored.")
        steps: dict[tuple[str, str], list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
        for turn in tqdm(range(-options.warmups, options.turns), desc="training steps", unit="turn"):
            # In another order each time, so that no variant always comes after the same one.
            for variant in random.Random(turn).sample(VARIANTS, len(VARIANTS)):
                values = bench.timed_step(variant, turn)
                if turn >= 0:
                    steps[variant].append(values)
        content = describe(options, bench, summarize(steps, bench.batches[0]))
        # What took long is written first: a profile, or a process that is killed, must not lose it.
        write_results(options.output, content)
        content["profile"] = {name_of(variant): bench.profiled_step(variant) for variant in VARIANTS}
        write_results(options.output, content)
        del bench
    if options.device.type == "cpu" and not options.no_memory:
        for variant in tqdm(VARIANTS, desc="memory", unit="process"):
            content["rows"][name_of(variant)]["memory"] = measure_memory(variant, argv)
        write_results(options.output, content)
    print(render_markdown(content))


if __name__ == "__main__":
    main()
