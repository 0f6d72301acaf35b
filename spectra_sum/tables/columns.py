"""The columns of the tables: scores, and how their values are shown."""

from dataclasses import dataclass

MINUS = "−"


@dataclass(frozen=True)
class ScoreColumn:
    """
    A column of scores.

    Args:
        key (`str`): The score's name in `metrics.json` and in the published rows.
        heading (`str`): The paper's name of it.
        factor (`float`, *optional*, defaults to `100`): From natural units to those of the table.
        decimals (`int`, *optional*, defaults to `2`): Digits shown.
    """

    key: str
    heading: str
    factor: float = 100
    decimals: int = 2

    def shown(self, value: float) -> str:
        """A value that is in the table's units."""
        return f"{value:.{self.decimals}f}".replace("-", MINUS)

    def shown_difference(self, difference: float) -> str:
        """A difference in the table's units, with its sign."""
        return f"{difference:+.{self.decimals}f}".replace("-", MINUS)


ROUGE1 = ScoreColumn("rouge1", "R-1")
ROUGE2 = ScoreColumn("rouge2", "R-2")
BERTSCORE = ScoreColumn("bertscore_f1", "BERTScore")
IP = ScoreColumn("image_precision", "IP")
MAX_SIM = ScoreColumn("max_sim", "MaxSim")
CLIP_SCORE = ScoreColumn("clip_score", "CLIPScore")
PCD = (
    ScoreColumn("pcd_mean_filtered", "PCD mean, filtered"),
    ScoreColumn("pcd_max_filtered", "PCD max, filtered"),
    ScoreColumn("pcd_mean", "PCD mean, unfiltered"),
    ScoreColumn("pcd_max", "PCD max, unfiltered"),
)
# Published with two decimals in the comparison, with four among the variants.
MMAE = ScoreColumn("mmae", "MMAE", factor=1)
MMAE_OF_VARIANTS = ScoreColumn("mmae", "MMAE", factor=1, decimals=4)

COMPARISON_COLUMNS = (ROUGE1, ROUGE2, IP, MAX_SIM, MMAE)
VARIANT_COLUMNS = (ROUGE1, ROUGE2, BERTSCORE, IP, CLIP_SCORE, MMAE_OF_VARIANTS, *PCD)
LM_COLUMNS = (ROUGE1, ROUGE2, BERTSCORE)
RELEVANCE_COLUMNS = (IP, MAX_SIM, CLIP_SCORE, *PCD)
# Of tasks with instructions; CIDEr lies in [0, 10].
TASK_COLUMNS = (ScoreColumn("rougeL", "ROUGE-L"), ScoreColumn("cider", "CIDEr"), ScoreColumn("bleu4", "BLEU-4"))
PAIRED_COLUMNS = (ROUGE1, ROUGE2, BERTSCORE, IP, MAX_SIM, CLIP_SCORE, MMAE_OF_VARIANTS, *PCD)
