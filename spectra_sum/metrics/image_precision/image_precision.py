"""Image precision (IP) of multimodal summaries, as an `evaluate` module."""

from statistics import fmean
from typing import Any

import datasets
import evaluate

_DESCRIPTION = """
IP = |selected ∩ gold| / |selected|, averaged over the articles that have gold images (Zhu et al., "MSMO: Multimodal
Summarization with Multimodal Output", EMNLP 2018). What else goes by that name has a name of its own here, averaged over
the same articles: `hit_at_1` = 1 if the image selected first is gold, else 0; `recall` = |selected ∩ gold| / |gold|;
`ip_at_k` = IP of the first k selected images (of all of them when fewer are selected). All in [0, 1]; papers print them
times 100.

Articles without gold images are left out and counted. An article with gold images whose selection is empty scores 0 in all
of them and is counted. With one selected image, IP, `hit_at_1` and `ip_at_k` are equal. The selection is ordered, so whoever
ranked the images has broken the ties; only `hit_at_1` and `ip_at_k` depend on that order.
"""
_CITATION = """
@inproceedings{zhu-etal-2018-msmo,
    title = "{MSMO}: Multimodal Summarization with Multimodal Output",
    author = "Zhu, Junnan and Li, Haoran and Liu, Tianshang and Zhou, Yu and Zhang, Jiajun and Zong, Chengqing",
    booktitle = "Proceedings of EMNLP", year = "2018"}
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[list[int]]`): Per article the indices of the selected images, best first, each once.
    references (`list[list[int]]`): Per article the indices of its gold images; empty or None where there are none.
    k (`int`, *optional*): Also compute `ip_at_k` for this k, at least 1.
    per_example (`bool`, *optional*, defaults to `False`): Also return `per_example`: each score per article, in order;
        `None` where there are no gold images.

Returns:
    `image_precision`, `hit_at_1`, `recall`, and with `k` `ip_at_k`; `articles`: how many were averaged;
    `articles_without_gold`: how many were left out; `empty_selections`: how many of the averaged ones selected nothing.

Raises:
    ValueError: no article has gold images, an index is negative or None, a selection is missing or names an image twice,
        or k is under 1.
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ImagePrecision(evaluate.Metric):
    """Share of the selected images that are gold, averaged over the articles with gold images."""

    def _info(self) -> evaluate.MetricInfo:
        indices = datasets.List(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": indices, "references": indices}),
        )

    def _compute(
        self,
        predictions: list[list[int]],
        references: list[list[int]],
        k: int | None = None,
        per_example: bool = False,
    ) -> dict[str, Any]:
        if k is not None and k < 1:
            raise ValueError(f"image_precision: k must be at least 1, got {k}.")
        scores: dict[str, list[float | None]] = {"image_precision": [], "hit_at_1": [], "recall": []}
        if k is not None:
            scores["ip_at_k"] = []
        empty = 0
        for index, (selected, reference) in enumerate(zip(predictions, references, strict=True)):
            gold = set(reference or ())
            _check_indices(index, selected, gold)
            if not gold:
                for values in scores.values():
                    values.append(None)
                continue
            empty += not selected
            scores["image_precision"].append(_precision(selected, gold))
            scores["hit_at_1"].append(_precision(selected[:1], gold))
            scores["recall"].append(len(gold.intersection(selected)) / len(gold))
            if k is not None:
                scores["ip_at_k"].append(_precision(selected[:k], gold))
        defined = {name: [value for value in values if value is not None] for name, values in scores.items()}
        articles = len(defined["image_precision"])
        if not articles:
            raise ValueError("image_precision: no article has gold images; there is nothing to average over.")
        result: dict[str, Any] = {
            **{name: fmean(values) for name, values in defined.items()},
            "articles": articles,
            "articles_without_gold": len(references) - articles,
            "empty_selections": empty,
        }
        if per_example:
            result["per_example"] = scores
        return result


def _precision(selected: list[int], gold: set[int]) -> float:
    return len(gold.intersection(selected)) / len(selected) if selected else 0.0


def _check_indices(index: int, selected: list[int] | None, gold: set[int]) -> None:
    if selected is None:
        raise ValueError(f"image_precision: article {index} has no selection; give an empty list if it is empty.")
    for argument, images in (("predictions", selected), ("references", gold)):
        if None in images:
            raise ValueError(f"image_precision: {argument} of article {index} hold None in place of an image's index.")
    if len(set(selected)) != len(selected):
        raise ValueError(f"image_precision: the selection of article {index} names an image twice: {selected}.")
    if any(image < 0 for image in (*selected, *gold)):
        raise ValueError(f"image_precision: article {index} has a negative image index; images count from 0.")
