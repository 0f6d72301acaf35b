"""The broken images that a training meets: each is named once when it is met, and all are counted in `run.json`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from accelerate.utils import gather_object
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.records.article_images import BrokenImage, count_broken
from trainer.checkpoints.run_record import RUN_RECORD

logger = logging.get_logger(__name__)


class BrokenImages:
    """
    Those that this process has met.

    Args:
        found (`Iterable[BrokenImage]`, *optional*): Those that are known from the start.
    """

    def __init__(self, found: Iterable[BrokenImage] = ()):
        self._found: dict[tuple[str, int], BrokenImage] = {}
        self.add(found)

    def add(self, images: Iterable[BrokenImage]) -> None:
        """Takes images, of which those that are new are named in a warning."""
        for image in images:
            if (image.article, image.index) not in self._found:
                self._found[image.article, image.index] = image
                logger.warning(str(image))

    def gather(self, processes: int) -> list[BrokenImage]:
        """Those that any process has met; every process calls it."""
        found = list(self._found.values())
        found = gather_object(found) if processes > 1 else found
        return list({(image.article, image.index): image for image in found}.values())


class RecordBrokenImages(TrainerCallback):
    """Records them with every checkpoint, so that a run that goes on from it counts them, too.

    Args:
        images (`BrokenImages`): The trainer's.
        splits (`Mapping[str, Dataset]`): All articles, by split.
    """

    def __init__(self, images: BrokenImages, splits: Mapping[str, Dataset]):
        self.images = images
        self.splits = splits

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self.record(args)

    def record(self, args: TrainingArguments) -> dict[str, int]:
        """
        Adds those met since to `run.json` in the output folder, as `broken_images` with their counts as `dropped`. Every
        process calls it.

        Returns:
            The counts of [`count_broken`], over all starts of the run; in other processes than the first nothing.
        """
        found = self.images.gather(args.world_size)
        path = Path(args.output_dir) / RUN_RECORD
        if not args.should_save or not path.is_file():
            return {}
        record = json.loads(path.read_text(encoding="utf-8"))
        earlier = [BrokenImage(**entry) for entry in record.get("broken_images", [])]
        # Where the data lies is nobody's business: the record goes with the model.
        named = [image._replace(file=Path(image.file).name, damage=_without_path(image)) for image in found]
        images = {(image.article, image.index): image for image in (*earlier, *named)}
        if not images:
            return {}
        counts = count_broken(
            images.values(), gold=_gold_images(self.splits, {image.article for image in images.values()})
        )
        record |= {"broken_images": [image._asdict() for image in images.values()], "dropped": counts}
        write_text_atomically(path, json.dumps(record, indent=2, sort_keys=True) + "\n")
        return counts


def _without_path(image: BrokenImage) -> str:
    return image.damage.replace(image.file, "the file") if image.file else image.damage


def _gold_images(splits: Mapping[str, Dataset], articles: set[str]) -> set[tuple[str, int]]:
    return {
        (identifier, index)
        for split in splits.values()
        if "gold_images" in split.column_names
        for identifier, gold in zip(split["id"], split["gold_images"], strict=True)
        if identifier in articles
        for index in gold
    }
