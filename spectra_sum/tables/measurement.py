"""The models behind a score: its values can be compared only where the same ones measured them."""

from ..evaluation.corpus_bleu import BLEU4
from .evaluation import Evaluation

FILTERED = ("pcd_mean_filtered", "pcd_max_filtered")
SIMILARITY = ("max_sim", "clip_score", "pcd_mean", "pcd_max", *FILTERED, "mmae")
BERTSCORE = "bertscore_f1"
# A published value of these cannot be set against one's own, as the model behind it is not known.
MODEL_BASED = (*SIMILARITY, BERTSCORE)
# What ROUGE is measured with unless an evaluation says otherwise: not worth a word in a table.
USUAL = "ROUGE by its default tokenizer"


def measured_by(evaluation: Evaluation, score: str) -> tuple[str, ...]:
    """
    What a score was measured with, in words; two systems' values can be compared where it is the same.

    Args:
        evaluation (`Evaluation`): The system.
        score (`str`): Name of a score that it has.

    Returns:
        The dual encoder of MaxSim, CLIPScore, pairwise cosine distance and (through MaxSim) MMAE, with the threshold of
        the filtered distances; BERTScore's model, layer and hash code; ROUGE's tokenizer; BLEU's signature; nothing for
        other scores.
    """
    if score.startswith("rouge"):
        return (f"ROUGE by its {evaluation.rouge_tokenizer} tokenizer",)
    if score == BLEU4:
        return (f"BLEU-4 by {evaluation.bleu}",)
    if score == BERTSCORE:
        return (f"BERTScore by {evaluation.bertscore}",)
    if score not in SIMILARITY:
        return ()
    model = f"similarity model {evaluation.similarity_model}"
    return (model, f"relevance threshold {evaluation.relevance_threshold}") if score in FILTERED else (model,)
