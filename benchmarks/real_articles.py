"""ROUGE on the test split of a real dataset: a trained run against the untrained model and lead-3.

python benchmarks/real_articles.py --data "$SPECTRA_DATA" --run runs/smollm2_lora --output benchmarks/results/real_articles.json
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from spectra_sum.environment import describe_hardware, describe_versions
from spectra_sum.metrics import load_metric
from spectra_sum.msmo import load_msmo
from spectra_sum.prediction import predict_summaries
from spectra_sum.pretrained import LoadedModel, load_model, load_smollm2
from spectra_sum.sentences import split_sentences


def lead(record: dict[str, Any], count: int) -> str:
    """The first `count` sentences of the body."""
    return " ".join(split_sentences(" ".join(record["article"].split()))[:count])


def generate(loaded: LoadedModel, records: Any, options: argparse.Namespace) -> list[str]:
    """Greedy summaries of the records."""
    predictions = predict_summaries(
        loaded.model,
        loaded.processor,
        records,
        batch_size=options.batch_size,
        max_length=options.max_length,
        max_new_tokens=options.max_new_tokens,
    )
    return [prediction["summary"] for prediction in predictions]


def main() -> None:
    """Score the three systems and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder in the MSMO layout")
    parser.add_argument("--run", required=True, help="output folder of trainer/train.py")
    parser.add_argument("--output", type=Path, required=True, help="result file (JSON)")
    parser.add_argument("--max-length", type=int, default=384, help="most text tokens of a prompt")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="most tokens of a summary")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    records = load_msmo(options.data)["test"]
    references = ["\n".join(record["summary"]) for record in records]
    rouge = load_metric("summary_rouge")
    results = {}
    systems = {
        "lead-3": lambda: [lead(record, 3) for record in records],
        "untrained": lambda: generate(load_smollm2(), records, options),
        "trained": lambda: generate(load_model(options.run), records, options),
    }
    for name, summarize in systems.items():
        started = time.perf_counter()
        summaries = summarize()
        seconds = time.perf_counter() - started
        words = sum(len(summary.split()) for summary in summaries) / len(summaries)
        results[name] = {
            **rouge.compute(predictions=summaries, references=references),
            "words": words,
            "seconds": seconds,
            "first_summary": summaries[0],
        }
        print(name, json.dumps(results[name]))
    log = json.loads((Path(options.run) / "trainer_state.json").read_text())
    content = {
        "articles": len(records),
        "results": results,
        "training": {
            "steps": log["global_step"],
            "seconds": log["log_history"][-1].get("train_runtime"),
            "loss_lm": [entry["loss_lm"] for entry in log["log_history"] if "loss_lm" in entry],
        },
        "settings": {"max_length": options.max_length, "max_new_tokens": options.max_new_tokens},
        "hardware": describe_hardware(),
        "versions": describe_versions(("torch", "transformers", "peft")),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
