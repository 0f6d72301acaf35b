"""Sets per second of the DPP teacher, against DPPy and against the eigendecomposition alone.

    python benchmarks/dpp_teacher.py --output dpp_teacher.json

One run, one thread, batches of 250 sets after one untimed batch; with `--device cuda` teacher and eigendecomposition run on the
GPU. DPPy takes one set at a time, is handed the scaled
kernel s·L and computes the marginal kernel K; the teacher also builds L from embeddings of width 768 and solves for s.
DPPy is a test extra; without it the output says so and has no such row.
"""

import argparse
import contextlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path[0] = str(Path(__file__).resolve().parents[1])

from spectra_sum.environment import describe_commit, describe_hardware, describe_versions  # noqa: E402 - found through the line above
from spectra_sum.selection.dpp import dpp_marginals, solve_scale  # noqa: E402

BETA, SIGMA, KAPPA, EPSILON = 20.0, 0.8, 3, 1e-6
WIDTH = 768
BATCH = 250


def make_sets(sets: int, images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (sets, images, 768) and relevances (sets, images) spread like SigLIP's cosines."""
    generator = torch.Generator().manual_seed(seed)
    embeds = F.normalize(torch.randn(sets, images, WIDTH, generator=generator) + 0.9, dim=-1)
    return embeds, 0.1 + 0.035 * torch.randn(sets, images, generator=generator)


def scaled_kernels(embeds: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """s·L of every set, (sets, images, images): what DPPy is handed."""
    embeds, relevance = embeds.double(), relevance.double()
    quality = (BETA * relevance).exp()
    kernels = quality[:, :, None] * ((embeds @ embeds.mT - 1) / SIGMA**2).exp() * quality[:, None, :]
    mean_eigenvalue = kernels.diagonal(dim1=1, dim2=2).mean(-1)
    kernels = kernels + EPSILON * mean_eigenvalue[:, None, None] * torch.eye(kernels.shape[-1])
    scale = solve_scale(torch.linalg.eigvalsh(kernels), torch.full_like(mean_eigenvalue, KAPPA))
    return scale[:, None, None] * kernels


def timed(work: Callable[..., object], *arrays: torch.Tensor) -> tuple[list[object], float]:
    """The results of `work` batch by batch, and the seconds they took; the first batch is run once before."""
    batches = list(zip(*(array.split(BATCH) for array in arrays), strict=True))
    wait = torch.cuda.synchronize if arrays[0].is_cuda else lambda: None
    work(*batches[0])
    wait()
    start = time.perf_counter()
    results = [work(*batch) for batch in batches]
    wait()
    return results, time.perf_counter() - start


def teacher_marginals(embeds: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(relevance.shape, dtype=torch.bool, device=embeds.device)
    return dpp_marginals(embeds, relevance, mask, beta=BETA, sigma=SIGMA, kappa=KAPPA, epsilon=EPSILON)


def dppy_marginals(kernels: torch.Tensor) -> torch.Tensor:
    from dppy.finite_dpps import FiniteDPP

    marginals = np.empty(kernels.shape[:2])
    with contextlib.redirect_stdout(None):  # compute_K prints three lines a set
        for row, kernel in enumerate(kernels.numpy()):
            process = FiniteDPP("likelihood", L=kernel)
            process.compute_K()
            marginals[row] = np.diag(process.K)
    return torch.from_numpy(marginals)


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--sets", type=int, default=10_000, help="how many sets (default: %(default)s)")
    parser.add_argument("--images", type=int, default=9, help="images per set, more than 3 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="write the result to this JSON file")
    arguments = parser.parse_args(argv)
    if arguments.sets < 1 or arguments.images <= KAPPA:
        parser.error(f"--sets must be at least 1 and --images more than {KAPPA}, the expected size of a selection")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here; use --device cpu.")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, check against DPPy, and print."""
    arguments = parse_options(argv)
    torch.set_num_threads(1)
    embeds, relevance = make_sets(arguments.sets, arguments.images, arguments.seed)
    kernels = scaled_kernels(embeds, relevance)

    seconds = {}
    there = [array.to(arguments.device) for array in (embeds, relevance, kernels)]
    marginals, seconds["dpp_marginals"] = timed(teacher_marginals, *there[:2])
    _, seconds["torch.linalg.eigh"] = timed(torch.linalg.eigh, there[2])
    difference = None
    dppy_installed = importlib.util.find_spec("dppy") is not None
    if not dppy_installed:
        print("DPPy: left out, it is not installed (pip install dppy)")
    else:
        expected, seconds["DPPy"] = timed(dppy_marginals, kernels)
        difference = (torch.cat(marginals).cpu() - torch.cat(expected)).abs().max().item()

    result = {
        "sets": arguments.sets,
        "images": arguments.images,
        "seed": arguments.seed,
        "device": arguments.device,
        "sets_per_second": {name: arguments.sets / value for name, value in seconds.items()},
        "largest_difference_to_dppy": difference,
        "hardware": describe_hardware(),
        "commit": describe_commit(),
        "versions": describe_versions(("torch", "numpy", *(("dppy",) if dppy_installed else ()))),
    }
    print(f"{arguments.sets} sets of {arguments.images} images, one run")
    print(f"{'':18} {'seconds':>8} {'sets/s':>9}   the teacher is")
    for name, value in seconds.items():
        ratio = value / seconds["dpp_marginals"]
        print(f"{name:18} {value:8.3f} {arguments.sets / value:9,.0f}   {ratio:.2f}x as fast")
    if difference is not None:
        print(f"largest difference of a marginal to DPPy: {difference:.1e}")
    print(
        f"{result['hardware']['processor']}, {result['hardware']['threads']} thread; "
        + ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    )
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
