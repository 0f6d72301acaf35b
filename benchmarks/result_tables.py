"""Write the tables of docs/results.md from the committed result files: `python benchmarks/result_tables.py`."""

import itertools
import json
import re
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import (
    data,
    default_model,
    dual_encoder,
    figure_selection_results,
    image_guidance,
    long_documents,
    overhead_results,
    paired_test,
    parameters,
    picture_summaries,
    quantization,
    real_pictures,
    serve,
    startup,
    training_results,
)

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
# Results that their benchmarks turn into Markdown themselves.
OWN_TABLES = {
    "parameters": parameters.render,
    "overhead_tiny": overhead_results.render_summary,
    "overhead_field_fusions": overhead_results.render_summary,
    "training_tiny": training_results.render_summary,
    "startup": startup.render,
    "serve": serve.render,
    "paired_test": paired_test.render,
    "data": data.render,
    "default_model": default_model.render,
    "default_model_no_captions": default_model.render,
    "long_documents": long_documents.render,
    "dual_encoder": dual_encoder.render,
    "real_pictures": real_pictures.render,
    "picture_summaries": picture_summaries.render,
    "adapter_openstax": picture_summaries.render,
    "image_guidance": image_guidance.render,
    "figure_selection": figure_selection_results.render,
    "quantization_smollm2": quantization.markdown,
    "quantization": quantization.markdown,
}
REAL_SYSTEMS = ("smollm2-lora", "smollm2-untrained", "lead-3", "oracle")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def demo_section(metrics: dict[str, Any]) -> str:
    """The closed world's tables, with their hardware."""
    variants = [
        [name, *(f"{share:.3f}" for share in (row["rougeL"], row["text_facts"], *facts)), f"{row['seconds']:.0f}"]
        + [f"{row['parameters']:,}"]
        for name, row in metrics["variants"].items()
        for facts in [(row["visual_facts"]["trend"], row["visual_facts"]["setting"])]
    ]
    variants.append(["chance", "", "", *(f"{metrics['chance'][kind]:.3f}" for kind in ("trend", "setting")), "", ""])
    selection = [
        [name, f"{row['image_precision']:.3f}", f"{row['coverage']:.3f}"] for name, row in metrics["selection"].items()
    ]
    hardware = metrics["hardware"]
    return "\n\n".join(
        [
            table(["variant", "ROUGE-L", "text facts", "trend", "setting", "seconds", "parameters"], variants),
            table(["selection of 2 images", "image precision", "coverage"], selection),
            f"Seed {metrics['seed']}, {metrics['settings']['eval_articles']} unseen articles; {hardware['processor']}, "
            f"{hardware['cores']} cores, {hardware['processes']} processes of one thread; torch "
            f"{metrics['versions']['torch']}, transformers {metrics['versions']['transformers']}{commit_of(metrics)} "
            "(`benchmarks/results/closed_world_demo.json`).",
        ]
    )


def real_section(folders: list[Path]) -> str:
    """The table of the evaluations of the real articles, with its hardware."""
    results = [json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in folders]
    runs = [json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in folders]
    rows = [
        [result["system"], *(interval(result["scores"][kind]) for kind in ("rouge1", "rouge2", "rougeL"))]
        for result in results
    ]
    processors = sorted({f"{run['hardware']['processor']}, {run['hardware']['threads']} threads" for run in runs})
    return "\n\n".join(
        [
            table(["system", "ROUGE-1", "ROUGE-2", "ROUGE-L"], rows),
            f"{results[0]['data']['articles']} test articles, 95 % intervals; {'; '.join(processors)} "
            "(`benchmarks/results/real_articles/`).",
        ]
    )


def interval(score: dict[str, float]) -> str:
    """A mean with its interval."""
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def world_section(content: dict[str, Any]) -> str:
    """The tables of the controlled experiment over seeds and difficulties, each value with its seed."""
    standard = content["results"]["standard"]
    selections = [
        [name, spread(scores["image_precision"]), spread(scores["coverage"]), by_seed(scores["coverage"]["values"])]
        for name, scores in standard["selections"].items()
    ]
    rows = difference_rows((*standard["differences"], *standard["selection_differences"]))
    return "\n\n".join(
        [
            *itertools.chain.from_iterable(variant_tables(content)),
            "Selection of 2 images in the standard world:",
            table(["selection", "image precision", "coverage", "coverage by seed"], selections),
            "Paired differences in the standard world (those of the others stand in the result file):",
            table(["difference", "score", "by seed", "95 % over articles, models fixed"], rows),
            world_source(content, "closed_world.json"),
        ]
    )


def fusions_section(file: str) -> str:
    """The tables of fusions in the closed world: scores by seed, cost, and differences from the paper's ways."""
    content = json.loads((RESULTS / file).read_text(encoding="utf-8"))
    parts = []
    for difficulty, (head, scores) in zip(content["results"], variant_tables(content, costs=True), strict=True):
        rows = difference_rows(content["results"][difficulty]["differences"])
        differences = [[name, *cells] for name, _, *cells in rows]
        parts += [head, scores, table(["difference in visual facts", "by seed", "95 % over articles"], differences)]
    return "\n\n".join([*parts, world_source(content, file)])


def variant_tables(content: dict[str, Any], *, costs: bool = False) -> Iterator[tuple[str, str]]:
    """Of each difficulty its heading and the scores of its variants; `costs`: parameters, steps and seconds a step, too."""
    for difficulty, result in content["results"].items():
        chance = ", ".join(f"{kind} {share:.2f}" for kind, share in result["chance"].items())
        kinds = list(result["chance"])
        rows = []
        for name, scores in result["variants"].items():
            runs = [run for run in result["runs"] if run["variant"] == name]
            row = [name, by_seed(scores["visual_facts"]["values"], [run["seed"] for run in runs])]
            row += [spread(scores[score]) for score in ("visual_facts", *(f"visual_facts_{kind}" for kind in kinds))]
            if costs:
                seconds = statistics.median(run["seconds"] / run["steps"] for run in runs)
                row += [f"{runs[0]['parameters']:,}", f"{runs[0]['steps']}", f"{seconds:.3f}"]
            rows.append(row)
        head = ["variant", "by seed", "visual facts", *kinds] + ["parameters", "steps", "seconds a step"] * costs
        yield f"**{difficulty}** (chance: {chance})", table(head, rows)


def difference_rows(differences: Iterable[dict[str, Any]]) -> list[list[str]]:
    """Of each paired difference its names, its score, each seed's value, and the interval over the articles."""
    return [
        [
            f"{row['a']} − {row['b']}",
            row["score"].replace("_", " "),
            by_seed(row["over_seeds"]["values"], row["seeds"]),
            f"{row['over_articles']['low']:+.3f} to {row['over_articles']['high']:+.3f}",
        ]
        for row in differences
    ]


def world_source(content: dict[str, Any], file: str) -> str:
    """Where the figures of the closed world come from, and what is missing."""
    hardware, missing = content["hardware"], len(content["missing"])
    return (
        f"Mean ± standard deviation over the seeds, {content['settings']['eval_articles']} test articles each; "
        f"{hardware['processor']}, {hardware['cores']} cores, {hardware['processes']} processes of one thread"
        f"{commit_of(content)} (`benchmarks/results/{file}`)."
        + (f" {missing} of the grid's jobs were not run; the file names them." if missing else "")
    )


def commit_of(content: dict[str, Any]) -> str:
    """The commit that made a result; files of before this was recorded name none."""
    return f"; commit {content['commit'][:12]}" if content.get("commit") else ""


def by_seed(values: list[float], seeds: list[int] | None = None) -> str:
    """Every seed's value."""
    if seeds is None:
        return ", ".join(f"{value:.3f}" for value in values)
    return ", ".join(f"{seed}: {value:.3f}" for seed, value in zip(seeds, values, strict=True))


def spread(value: dict[str, Any]) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{value['mean']:.3f}" + ("" if value["sd"] is None else f" ± {value['sd']:.3f}")


def own_section(name: str) -> str:
    """What a benchmark writes of its result, without the heading that it has as a file of its own."""
    content = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    lines = OWN_TABLES[name](content).strip().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#")).strip()


def main() -> None:
    """Replace what stands between the page's marks."""
    page = ROOT / "docs" / "results.md"
    text = page.read_text(encoding="utf-8")
    sections = {
        "demo": demo_section(json.loads((RESULTS / "closed_world_demo.json").read_text(encoding="utf-8"))),
        "world": world_section(json.loads((RESULTS / "closed_world.json").read_text(encoding="utf-8"))),
        "fusions": fusions_section("closed_world_fusions.json"),
        "fusions_equal_time": fusions_section("closed_world_fusions_time.json"),
        "real": real_section([RESULTS / "real_articles" / name for name in REAL_SYSTEMS]),
        **{name: own_section(name) for name in OWN_TABLES},
    }
    for name, content in sections.items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda match, content=content: match[1] + content + "\n" + match[2],
            text,
            flags=re.DOTALL,
        )
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
