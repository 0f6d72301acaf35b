"""The tasks, as data: what is asked where a record asks nothing, how the prompt looks, and what is measured.

Group captioning, storytelling and change captioning are those of SAM (Wu et al., "Semantic Alignment for Multimodal Large
Language Models", MM '24, §5). A record's instruction stands where a summary's article stands, its answer where the summary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

ROUGE, CIDER, BLEU, FACTS = "summary_rouge", "cider", "bleu", "visual_facts"
IMAGE_PRECISION = "image_precision"
# Nothing around the instruction; a record of these tasks has no title.
INSTRUCTION_PROMPT = "{title}{body}"


@dataclass(frozen=True)
class Task:
    """
    A task.

    Args:
        name (`str`): As `--task` takes it.
        instruction (`str`, *optional*): What is asked where a record has no instruction; None where a record is an article.
        prompt_template (`str`, *optional*): Of the processor of a new model; None for its own.
        metrics (`tuple[str, ...]`): The `evaluate` modules that an evaluation computes unasked.
        words (`Mapping[str, str]`): What the task calls a record's columns, where that is another name.
    """

    name: str
    instruction: str | None = None
    prompt_template: str | None = None
    metrics: tuple[str, ...] = (ROUGE, IMAGE_PRECISION, FACTS)
    words: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def has_instructions(self) -> bool:
        """Whether a record is an instruction with images, and no article that has some."""
        return self.instruction is not None

    def word(self, column: str) -> str:
        """What the task calls a column of a record."""
        return self.words.get(column, column)


def _with_instruction(name: str, instruction: str) -> Task:
    words = {"article": "instruction", "summary": "answer"}
    return Task(name, instruction, INSTRUCTION_PROMPT, (ROUGE, CIDER, BLEU), words)


SUMMARIZATION = Task("summarization")
GROUP_CAPTIONING = _with_instruction(
    "group-captioning", "What do these images have in common? Answer in one sentence."
)
STORYTELLING = _with_instruction("storytelling", "Tell the story that these images show, in their order.")
CHANGE_CAPTIONING = _with_instruction("change-captioning", "What has changed from the first image to the last one?")

TASKS = {task.name: task for task in (SUMMARIZATION, GROUP_CAPTIONING, STORYTELLING, CHANGE_CAPTIONING)}
"""The tasks by their names."""
INSTRUCTED = tuple(name for name, task in TASKS.items() if task.has_instructions)
"""Names of those whose records are instructions."""
