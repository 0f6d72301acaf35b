"""Loaded tiny models and documents of the summarizer's tests."""

import torch

from spectra_sum.documents.parts import Document, DocumentImage
from spectra_sum.models.loading import LoadedModel
from tests import tiny

SENTENCES = [
    "The harbour reopened on Monday after the storm had passed.",
    "Engineers counted twelve damaged ships near the bridge.",
    "Two bridges were closed until the evening.",
    "A spokesman said that the repair will cost four million euros.",
    "Children fed the ducks in the park.",
]
BODY = " ".join(SENTENCES)


def loaded_model(trained=True, kind="spectra-sum", **fields):
    model = tiny.tiny_model(gate=0.8, vrp_context="article", **fields)
    return LoadedModel(model, tiny.tiny_processor(max_candidate_images=6), trained, kind)


def document(body=BODY, images=(), title="A title", name="doc"):
    """`images` are pairs of alternative text and caption."""
    pictures = [
        DocumentImage(f"{index}.png", alt, tiny.picture(index), caption) for index, (alt, caption) in enumerate(images)
    ]
    return Document(name, f"{name}.md", title, body, pictures)


def force_summary(monkeypatch, loaded, text, end=True):
    """Lets a model write `text` for every article."""
    tokens = loaded.processor.tokenizer(text)["input_ids"] + [1] * end

    def generate(input_ids, **options):
        return torch.cat([input_ids, torch.tensor([tokens] * len(input_ids))], dim=1)

    monkeypatch.setattr(loaded.model, "generate", generate)


def kinds(summary):
    return [problem.kind for problem in summary.problems]
