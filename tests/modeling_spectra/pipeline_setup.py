"""What the tests of the pipeline share: the sizes of its models, and the articles that they summarize."""

from tests.tiny import SENTENCES, picture

POSITIONS, NEW_TOKENS = 160, 12
VARIANTS = {
    "dvp": {"fusion": "dvp", "dvp_num_layers": 3, "gate_layers": [1, 3], "num_latents": 2},
    "concat": {"fusion": "concat"},
}
# More images than are scored, more than are seen, none, one; a text that does not fit, an empty one.
ARTICLES = [
    {"text": SENTENCES[0], "images": [picture(seed) for seed in range(6)], "title": "Harbour"},
    {"text": SENTENCES[1]},
    {"text": " ".join(SENTENCES * 6), "images": [picture(7)]},
    {"text": " ".join(SENTENCES * 6), "images": [picture(8), picture(9), picture(10)], "title": None},
    {"text": "", "images": [], "title": "Only a title"},
]
