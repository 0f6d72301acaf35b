"""Write the README's result tables from the committed result files: `python benchmarks/readme_tables.py`."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


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


def real_section(content: dict[str, Any]) -> str:
    """The table of the real articles, with its hardware."""
    rows = [
        [name, *(f"{row[key]:.3f}" for key in ("rouge1", "rouge2", "rougeL")), f"{row['words']:.0f}"]
        for name, row in content["results"].items()
    ]
    training, hardware = content["training"], content["hardware"]
    return "\n\n".join(
        [
            table(["system", "ROUGE-1", "ROUGE-2", "ROUGE-L", "words"], rows),
            f"{training['steps']} steps of one article, {content['articles']} test articles; {hardware['processor']}, "
            f"{hardware['threads']} threads (`benchmarks/results/real_articles.json`).",
        ]
    )


def main() -> None:
    """Replace what stands between the README's marks."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name, file, write in (("demo", "closed_world_demo", demo_section), ("real", "real_articles", real_section)):
        content = write(json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8")))
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda match, content=content: match[1] + content + "\n" + match[2],
            text,
            flags=re.DOTALL,
        )
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
