"""Write the README's result tables from the committed result files: `python benchmarks/readme_tables.py`."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
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
            f"{metrics['versions']['torch']}, transformers {metrics['versions']['transformers']} "
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
    """The tables of the controlled experiment over seeds and difficulties."""
    parts = []
    for difficulty, result in content["results"].items():
        chance = ", ".join(f"{kind} {share:.2f}" for kind, share in result["chance"].items())
        kinds = list(result["chance"])
        rows = [
            [name, *(spread(scores[key]) for key in ("visual_facts", *(f"visual_facts_{kind}" for kind in kinds)))]
            + [str(len(scores["visual_facts"]["values"]))]
            for name, scores in result["variants"].items()
        ]
        parts += [f"**{difficulty}** (chance: {chance})", table(["variant", "visual facts", *kinds, "seeds"], rows)]
    standard = content["results"]["standard"]
    selections = [
        [name, spread(scores["image_precision"]), spread(scores["coverage"])]
        for name, scores in standard["selections"].items()
    ]
    differences = [
        [f"{row['a']} − {row['b']}", row["score"].replace("_", " "), spread(row["over_seeds"])]
        + [f"{row['over_articles']['low']:+.3f} to {row['over_articles']['high']:+.3f}"]
        for row in (*standard["differences"], *standard["selection_differences"])
    ]
    hardware = content["hardware"]
    parts += [
        "Selection of 2 images in the standard world:",
        table(["selection", "image precision", "coverage"], selections),
        "Paired differences in the standard world:",
        table(["difference", "score", "over seeds", "95 % over articles"], differences),
        f"Mean ± standard deviation over seeds {content['settings']['seeds']}, {content['settings']['eval_articles']} test "
        f"articles each; {hardware['processor']}, {hardware['cores']} cores, {hardware['processes']} processes of one "
        "thread (`benchmarks/results/closed_world.json`).",
    ]
    return "\n\n".join(parts)


def spread(value: dict[str, Any]) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{value['mean']:.3f}" + ("" if value["sd"] is None else f" ± {value['sd']:.3f}")


def main() -> None:
    """Replace what stands between the README's marks."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    sections = {
        "demo": demo_section(json.loads((RESULTS / "closed_world_demo.json").read_text(encoding="utf-8"))),
        "world": world_section(json.loads((RESULTS / "closed_world.json").read_text(encoding="utf-8"))),
        "real": real_section([RESULTS / "real_articles" / name for name in REAL_SYSTEMS]),
    }
    for name, content in sections.items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda match, content=content: match[1] + content + "\n" + match[2],
            text,
            flags=re.DOTALL,
        )
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
