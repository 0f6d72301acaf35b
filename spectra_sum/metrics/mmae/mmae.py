"""MMAE of multimodal summaries from their ROUGE-L, MaxSim and image precision, as an `evaluate` module."""

from collections.abc import Sequence

import datasets
import evaluate

_DESCRIPTION = """
MMAE = 1.978 + 1.641 · ROUGE-L + 0.854 · MaxSim + 0.806 · IP: a linear regression of human judgements on three scores
(Zhu et al., "MSMO: Multimodal Summarization with Multimodal Output", EMNLP 2018), all three as shares, never in percent.
Each component is the mean over the articles where it is defined (MaxSim: articles with images; IP: articles with gold
images), with the count behind it; the formula is applied to the three means. With the published weights and components
in [0, 1] it lies in [1.978, 5.279]; a negative MaxSim lowers it to 1.124 at least.
What an article without gold images, without a selection or with one image contributes is settled where its component
is computed: None there is None here.
"""
_CITATION = """
@inproceedings{zhu-etal-2018-msmo,
    title = "{MSMO}: Multimodal Summarization with Multimodal Output",
    author = "Zhu, Junnan and Li, Haoran and Liu, Tianshang and Zhou, Yu and Zhang, Jiajun and Zong, Chengqing",
    booktitle = "Proceedings of EMNLP", year = "2018"}
"""
_KWARGS_DESCRIPTION = """
Args:
    rougeL (`list[float | None]`): Per article the ROUGE-L F1 of its summary, in [0, 1].
    max_sim (`list[float | None]`): Per article its MaxSim, a cosine in [-1, 1]; None where it is not defined.
    image_precision (`list[float | None]`): Per article its image precision, in [0, 1]; None where it is not defined.
    intercept (`float`, *optional*, defaults to `1.978`): Constant of the regression.
    rougeL_weight (`float`, *optional*, defaults to `1.641`): Weight of ROUGE-L.
    max_sim_weight (`float`, *optional*, defaults to `0.854`): Weight of MaxSim.
    image_precision_weight (`float`, *optional*, defaults to `0.806`): Weight of image precision.
    per_example (`bool`, *optional*, defaults to `False`): Whether to return each article's MMAE as well.

Returns:
    `mmae`; the components `rougeL`, `max_sim`, `image_precision`; `articles_rougeL`, `articles_max_sim`,
    `articles_image_precision`: how many articles each component averages; `articles`: how many have all three;
    `per_example` (on demand): `mmae` per article, None where a component is missing. Where every article has all three,
    its mean is `mmae`; elsewhere it is not, as the components then average different articles.

Raises:
    ValueError: when a component is defined for no article, or a value is outside its range.
"""

COMPONENTS = ("rougeL", "max_sim", "image_precision")
RANGES = {"rougeL": (0.0, 1.0), "max_sim": (-1.0, 1.0), "image_precision": (0.0, 1.0)}
# Cosines and means computed in single precision pass their bounds by this much.
ROUNDING = 1e-5


def mmae_of(
    components: Sequence[float],
    intercept: float = 1.978,
    rougeL_weight: float = 1.641,  # noqa: N803
    max_sim_weight: float = 0.854,
    image_precision_weight: float = 0.806,
) -> float:
    """The formula, for ROUGE-L, MaxSim and image precision in this order."""
    weights = (rougeL_weight, max_sim_weight, image_precision_weight)
    return intercept + sum(weight * value for weight, value in zip(weights, components, strict=True))


def implied_rouge_l(
    mmae: float,
    max_sim: float,
    image_precision: float,
    intercept: float = 1.978,
    rougeL_weight: float = 1.641,  # noqa: N803
    max_sim_weight: float = 0.854,
    image_precision_weight: float = 0.806,
) -> float:
    """The ROUGE-L that a reported MMAE implies, all in natural units; it may lie outside [0, 1].

    A text's ROUGE-L never exceeds its ROUGE-1 (a common subsequence is made of common words), so a row whose implied
    ROUGE-L does was not computed by this formula.
    """
    return (mmae - intercept - max_sim_weight * max_sim - image_precision_weight * image_precision) / rougeL_weight


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Mmae(evaluate.Metric):
    """MMAE of the mean ROUGE-L, MaxSim and image precision."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({name: datasets.Value("float64") for name in COMPONENTS}),
        )

    def _compute(
        self,
        rougeL: list[float | None],  # noqa: N803
        max_sim: list[float | None],
        image_precision: list[float | None],
        intercept: float = 1.978,
        rougeL_weight: float = 1.641,  # noqa: N803
        max_sim_weight: float = 0.854,
        image_precision_weight: float = 0.806,
        per_example: bool = False,
    ) -> dict[str, object]:
        values = dict(zip(COMPONENTS, (rougeL, max_sim, image_precision), strict=True))
        weights = (intercept, rougeL_weight, max_sim_weight, image_precision_weight)
        means, counts = {}, {}
        for name, column in values.items():
            low, high = RANGES[name]
            defined = [(index, value) for index, value in enumerate(column) if value is not None]
            for index, value in defined:
                if not low - ROUNDING <= value <= high + ROUNDING:
                    raise ValueError(
                        f"mmae: {name} of article {index} is {value}, outside [{low:g}, {high:g}]; give shares, not percent."
                    )
            if not defined:
                raise ValueError(f"mmae: {name} is defined for no article; there is nothing to average over.")
            means[name] = sum(value for _, value in defined) / len(defined)
            counts[f"articles_{name}"] = len(defined)
        rows = [None if None in row else row for row in zip(*values.values(), strict=True)]
        result: dict[str, object] = {"mmae": mmae_of(tuple(means.values()), *weights), **means, **counts}
        result["articles"] = sum(row is not None for row in rows)
        if per_example:
            result["per_example"] = {"mmae": [None if row is None else mmae_of(row, *weights) for row in rows]}
        return result
