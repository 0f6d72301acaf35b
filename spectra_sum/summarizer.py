"""From a document to its multimodal summary: text, ranked images, and what each sentence attended to."""

from dataclasses import dataclass

import torch
from PIL import Image
from transformers import BatchFeature

from .documents import Document, DocumentError, Problem
from .pretrained import LoadedModel
from .report.contents import SentenceEvidence
from .sentences import sentence_spans

# §8: long inputs are cut to this many text tokens.
MAX_LENGTH = 2048


@dataclass
class DocumentSummary:
    """
    The multimodal summary of a document; all lists about images are in the document's order.

    Attributes:
        summary (`str`): The generated text.
        selected (`list[int]`): Indices of the selected images, most probable first.
        probabilities (`list[float | None]`): p̂ of each image; `None` for images beyond the model's limit.
        evidence (`list[SentenceEvidence]`): For each sentence the images that its tokens attended to; empty for a
            document without images, and for a model without gates or whose gates are closed.
        problems (`list[Problem]`): What was not read, and other remarks.
    """

    summary: str
    selected: list[int]
    probabilities: list[float | None]
    evidence: list[SentenceEvidence]
    problems: list[Problem]


class Summarizer:
    """
    Summarizes one document at a time.

    Args:
        loaded (`LoadedModel`):
            Model and processor; the model is moved to the GPU if there is one.
        max_new_tokens (`int`, *optional*, defaults to `128`):
            Most tokens of a summary.
        num_beams (`int`, *optional*, defaults to `1`):
            Beams of the search; 1 is greedy.
        threshold (`float`, *optional*):
            Least probability of a selected image.
    """

    def __init__(
        self, loaded: LoadedModel, max_new_tokens: int = 128, num_beams: int = 1, threshold: float | None = None
    ):
        self.model = loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.processor = loaded.processor
        self.trained = loaded.trained
        self.max_new_tokens = max_new_tokens
        self.num_beams = num_beams
        self.threshold = threshold

    @torch.no_grad()
    def summarize(self, document: Document) -> DocumentSummary:
        """
        Summarizes a document and ranks its images.

        Raises:
            DocumentError: The title leaves no room for the body within the model's length.
        """
        problems: list[Problem] = []
        limit = self.model.config.max_candidate_images
        images = [image.image for image in document.images[:limit]]
        beyond = len(document.images) - len(images)
        if beyond:
            problems.append(Problem("image_limit", f"{beyond} images after the first {limit} are not scored"))
        if images and not self.trained:
            problems.append(Problem("untrained_ranking", "the image ranking is untrained: its order means nothing"))

        inputs = self._inputs(document, images, problems)
        tokens = self._generate(inputs, problems)
        # The same call as for the prefixes below, so that their lengths are offsets into this text.
        text = self._decode(tokens)
        selection = self.model.select_images(**inputs, threshold=self.threshold)
        evidence = []
        if images and text.strip() and any(self.model.gate_openings().values()):
            evidence = self._evidence(inputs, tokens, text, len(document.images))
        return DocumentSummary(
            text.strip(),
            selection.indices[0],
            selection.probabilities[0].tolist() + [None] * beyond,
            evidence,
            problems,
        )

    def _inputs(self, document: Document, images: list[Image.Image], problems: list[Problem]) -> BatchFeature:
        seen = min(len(images), self.processor.max_images)
        positions = self.model.config.text_config.max_position_embeddings
        length = min(MAX_LENGTH, positions - self.max_new_tokens - seen * self.processor.num_image_tokens)
        article = {"text": [document.body], "title": [document.title]}
        try:
            inputs = self.processor(**article, images=[images], max_length=length)
        except ValueError as error:
            raise DocumentError(f"{document.source}: {error}") from None
        whole = self.processor(**article, max_length=2**31)["input_ids"].shape[1]
        cut = whole + seen * self.processor.num_image_tokens - inputs["input_ids"].shape[1]
        if cut:
            problems.append(Problem("body_cut", f"the last {cut} of its {whole} text tokens were not read"))
        return inputs.to(self.model.device)

    def _generate(self, inputs: BatchFeature, problems: list[Problem]) -> torch.Tensor:
        """The tokens (T,) of the summary, without its end token."""
        tokenizer = self.processor.tokenizer
        ends = self.model.generation_config.eos_token_id
        ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        sequences = self.model.generate(
            **inputs,
            max_new_tokens=self.max_new_tokens,
            num_beams=self.num_beams,
            do_sample=False,
            eos_token_id=sorted(ends),
            pad_token_id=tokenizer.pad_token_id,
        )
        tokens = sequences[0, inputs["input_ids"].shape[1] :]
        end = next((index for index, token in enumerate(tokens.tolist()) if token in ends), None)
        if end is None:
            problems.append(Problem("summary_cut", f"the summary was stopped at {self.max_new_tokens} tokens"))
        return tokens[:end]

    def _decode(self, tokens: torch.Tensor) -> str:
        return self.processor.tokenizer.decode(tokens, skip_special_tokens=True)

    def _evidence(
        self, inputs: BatchFeature, tokens: torch.Tensor, text: str, num_images: int
    ) -> list[SentenceEvidence]:
        """The gated cross-attention of each sentence's tokens by image.

        Averaged over tokens, heads and gates; a gate counts by its opening, since what a closed one attends to has no
        effect on the summary.
        """
        prompt = self.model(**inputs, use_cache=True, logits_to_keep=1)
        implementation = self.model.config._attn_implementation
        # Only eager attention gives its weights; with the prompt in the cache they cover the summary's tokens alone.
        self.model.set_attn_implementation("eager")
        outputs = self.model(
            input_ids=tokens[None],
            attention_mask=torch.cat([inputs["attention_mask"], torch.ones_like(tokens)[None]], dim=1),
            past_key_values=prompt.past_key_values,
            visual_key_values=prompt.visual_key_values,
            output_attentions=True,
            logits_to_keep=1,
        )
        self.model.set_attn_implementation(implementation)
        openings = torch.tensor(list(self.model.gate_openings().values()), device=tokens.device)
        heads_mean = torch.stack([gate[0].float().mean(dim=0) for gate in outputs.cross_attentions])
        weights = torch.einsum("g,gts->ts", openings / openings.sum(), heads_mean)
        seen = prompt.summarizer_images[0].tolist()
        by_image = weights.unflatten(1, (len(seen), -1)).sum(dim=2)

        ends = [len(self._decode(tokens[: index + 1])) for index in range(len(tokens))]
        # A token belongs to each sentence that it has a character of; one that only completes a character (a byte of
        # it) belongs where that character is.
        spans = [(min(start, end - 1), end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        evidence = []
        for first, last in sentence_spans(text):
            own = [token for token, (start, end) in enumerate(spans) if start < last and first < end]
            mean = by_image[own].mean(dim=0).tolist()
            image_weights: list[float | None] = [None] * num_images
            for index, weight in zip(seen, mean, strict=True):
                if index >= 0:
                    image_weights[index] = weight
            evidence.append(SentenceEvidence(text[first:last], image_weights))
        return evidence
