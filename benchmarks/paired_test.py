"""
How often a paired test finds a difference where there is none:

    python benchmarks/paired_test.py --output benchmarks/results/paired_test.json

Both systems' scores are drawn from one distribution, so that a test at the 5 % level should find p < 0.05 in 5 % of the
comparisons. Three kinds of scores: `normal`; `skewed` (Beta(1, 4), as a low image precision is); `ties` (equal on half of
the articles). Compared are the randomisation test that `spectra-sum tables` uses, the percentile bootstrap that it used
before, and Student's paired test. With ties on few articles an exact test has few values to take, and stays under 5 %.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from scipy import stats
from tqdm import tqdm

from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.sign_flip import sign_flip_p_value

# Comparisons per number of articles: more where they are cheap and the test has few values to take.
COMPARISONS = {8: 6000, 12: 4000, 20: 4000, 50: 2500, 200: 2000}
LEVEL = 0.05
RESAMPLES = 1000
# With more articles half of them are enough.
MOST_TIED = 20
# The share of p < 0.05 that the test may have where scores do not tie.
BOUNDS = (0.04, 0.06)


def draw_differences(kind: str, articles: int, generator: np.random.Generator) -> np.ndarray:
    """Differences (articles,) of two systems that do not differ."""
    if kind == "normal":
        one, other = generator.normal(size=(2, articles))
    else:
        one, other = generator.beta(1, 4, size=(2, articles))
    differences = one - other
    return differences * (generator.random(articles) < 0.5) if kind == "ties" else differences


def bootstrap_p_value(differences: np.ndarray, resamples: int, seed: int) -> float:
    """Twice the smaller share of resampled means on one side of zero, each count plus one: what was used before."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(differences), size=(resamples, len(differences)))
    means = differences[drawn].mean(axis=1)
    side = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return min(1.0, 2 * (side + 1) / (resamples + 1))


def student_p_value(differences: np.ndarray, resamples: int, seed: int) -> float:
    """Of the paired t-test, which draws nothing."""
    return float(stats.ttest_1samp(differences, 0.0).pvalue) if differences.any() else 1.0


TESTS: dict[str, Callable[[np.ndarray, int, int], float]] = {
    "randomisation": sign_flip_p_value,
    "bootstrap": bootstrap_p_value,
    "Student": student_p_value,
}
KINDS = ("normal", "skewed", "ties")


def simulate(comparisons: Mapping[int, int], seed: int) -> list[dict[str, Any]]:
    """
    The share of p < 0.05 per kind of scores and number of articles.

    Args:
        comparisons (`Mapping[int, int]`): By number of articles, how many; each test sees the same ones.
        seed (`int`): Seed of the scores, and of what the tests draw.
    """
    rows = []
    grid = [(kind, articles) for kind in KINDS for articles in comparisons if kind != "ties" or articles <= MOST_TIED]
    # Time grows with the articles.
    total = sum(articles * comparisons[articles] for _, articles in grid)
    with tqdm(total=total, unit="articles", unit_scale=True) as progress:
        for kind, articles in grid:
            count = comparisons[articles]
            generator = np.random.default_rng([seed, KINDS.index(kind), articles])
            found = dict.fromkeys(TESTS, 0)
            for number in range(count):
                differences = draw_differences(kind, articles, generator)
                for name, test in TESTS.items():
                    found[name] += test(differences, RESAMPLES, number) < LEVEL
                progress.update(articles)
            shares = {name: times / count for name, times in found.items()}
            rows.append({"scores": kind, "articles": articles, "comparisons": count, "shares": shares})
    return rows


def render(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    head = ["scores", "articles", "comparisons", *TESTS]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for row in result["rows"]:
        shares = [f"{100 * row['shares'][name]:.1f} %" for name in TESTS]
        lines.append(
            "| " + " | ".join([row["scores"], str(row["articles"]), f"{row['comparisons']:,}", *shares]) + " |"
        )
    free = [row["shares"]["randomisation"] for row in result["rows"] if row["scores"] != "ties"]
    met = all(BOUNDS[0] <= share <= BOUNDS[1] for share in free)
    low, high = (f"{100 * bound:g}" for bound in BOUNDS)
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n".join(
        [
            *lines,
            "",
            "Share of p < 0.05 where there is no difference. "
            f"Randomisation, without ties, within {low} to {high} %: {'met' if met else 'missed'}.",
            "",
            f"{result['hardware']['processor']}; {versions}; commit {result['commit']}",
        ]
    )


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's own options."""
    parser = argparse.ArgumentParser(prog="paired_test.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--comparisons", type=int, help="for every number of articles (default: 2,000 to 6,000)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate, print the table, and write the result."""
    options = parse_options(argv)
    comparisons = dict.fromkeys(COMPARISONS, options.comparisons) if options.comparisons else COMPARISONS
    result = {
        "rows": simulate(comparisons, options.seed),
        "seed": options.seed,
        "hardware": describe_hardware(),
        "commit": describe_commit(),
        "versions": describe_versions(("numpy", "scipy")),
    }
    print(render(result))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
