"""Image precision (IP) of multimodal summaries, as an `evaluate` module."""

import datasets
import evaluate

_DESCRIPTION = """
IP = |selected ∩ gold| / |selected|, averaged over the articles that have gold images (Zhu et al., "MSMO: Multimodal
Summarization with Multimodal Output", EMNLP 2018). Articles without gold images are left out and counted; an article
with gold images whose selection is empty scores 0 and is counted.
"""
_CITATION = """
@inproceedings{zhu-etal-2018-msmo,
    title = "{MSMO}: Multimodal Summarization with Multimodal Output",
    author = "Zhu, Junnan and Li, Haoran and Liu, Tianshang and Zhou, Yu and Zhang, Jiajun and Zong, Chengqing",
    booktitle = "Proceedings of EMNLP", year = "2018"}
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[list[int]]`): Per article the indices of the selected images, each once.
    references (`list[list[int]]`): Per article the indices of its gold images; empty where there are none.

Returns:
    `image_precision`: in [0, 1]; `articles`: how many were averaged; `articles_without_gold`: how many were left out;
    `empty_selections`: how many of the averaged ones selected nothing.

Raises:
    ValueError: when no article has gold images, or a selection names an image twice.
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

    def _compute(self, predictions: list[list[int]], references: list[list[int]]) -> dict[str, float]:
        for index, selected in enumerate(predictions):
            if len(set(selected)) != len(selected):
                raise ValueError(
                    f"image_precision: the selection of article {index} names an image twice: {selected}."
                )
        pairs = [(set(chosen), set(gold)) for chosen, gold in zip(predictions, references, strict=True) if gold]
        if not pairs:
            raise ValueError("image_precision: no article has gold images; there is nothing to average over.")
        precisions = [len(chosen & gold) / len(chosen) if chosen else 0.0 for chosen, gold in pairs]
        return {
            "image_precision": sum(precisions) / len(pairs),
            "articles": len(pairs),
            "articles_without_gold": len(references) - len(pairs),
            "empty_selections": sum(not chosen for chosen, _ in pairs),
        }
