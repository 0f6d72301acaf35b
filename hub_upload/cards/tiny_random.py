"""The card of a tiny random model."""

from huggingface_hub import ModelCard, ModelCardData

from ..repository import PROJECT_TAG
from .text import markdown

TEXT = """---
{data}
---

# {name}

> **Its weights are random.** What it writes and which images it selects are noise. It is for tests of programs that use
> SPeCTrA-Sum models: the whole architecture, with open gates, in less than a megabyte.

```python
from transformers import pipeline

summarize = pipeline("multimodal-summarization", model="{repo_id}", trust_remote_code=True)
summarize({{"text": "A short text.", "images": ["first.jpg", "second.jpg"]}}, max_new_tokens=8)
```

A token is a byte. The same program makes the same weights: `spectra-sum push model --tiny-random`.
"""


def tiny_random_card(repo_id: str) -> ModelCard:
    """
    Makes the card; no network.

    Args:
        repo_id (`str`): `"namespace/name"` where the card will be.
    """
    data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=[PROJECT_TAG, "tiny-random", "custom_code"],
    )
    return ModelCard(TEXT.format(data=data.to_yaml(), name=markdown(repo_id.rpartition("/")[2]), repo_id=repo_id))
