"""What the tests of the feature cache share: a dataset in the MSMO layout, backbones, and a cache that is filled by hand."""

from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import load_file

from tests.double_precision import double_precision
from tests.tiny import picture, save_text_folder, save_vision_folder, tiny_model, tiny_processor, tiny_tokenizer
from trainer.building import build_teacher
from trainer.features.cache import CachedFeatures, SplitFeatures
from trainer.features.extraction import FeatureExtractor
from trainer.features.filling import fill

# Of six training articles: none without images in a row of two, more than max_images (3), more than candidates (6).
IMAGES_OF_ARTICLES = {"train_data": [4, 0, 8, 1, 3, 5], "valid_data": [2, 0, 7], "test_data": [1, 4]}


def write_msmo(folder: Path) -> Path:
    """A dataset in the MSMO layout, with images of different sizes; of three one has a caption and one an alternative text."""
    seed = 0
    for split, counts in IMAGES_OF_ARTICLES.items():
        for part in ("article", "img", "caption", "alt"):
            (folder / split / part).mkdir(parents=True)
        for number, count in enumerate(counts):
            name = f"{split[:2]}{number:038x}"
            text = f"@title\nStorm {number}\n@body\nThe harbour was closed for {number} days.\n@summary\n"
            text += f"It reopened on day {number}.\nTwo ships sank.\n"
            (folder / split / "article" / f"{name}.txt").write_text(text)
            for index in range(count):
                seed += 1
                picture(seed, size=(18 + seed % 5, 16)).save(folder / split / "img" / f"{name}_{index + 1}.jpg")
                if seed % 3:
                    kind = ("caption", "alt")[seed % 3 - 1]
                    text = f"Engineers counted {seed} ships {'after the storm ' * (seed % 4)}on day {index}."
                    (folder / split / kind / f"{name}_{index + 1}.{kind}").write_text(text)
    (folder / "test_data" / "image_annotation.txt").write_text("None\nNone\n")
    return folder


def save_backbones(folder: Path) -> dict[str, str]:
    """Folders of two dual encoders and a language model, in float64."""
    with double_precision():
        for kind in ("siglip", "clip"):
            tiny_tokenizer().save_pretrained(save_vision_folder(folder / kind, kind))
        save_text_folder(folder / "text")
    return {name: str(folder / name) for name in ("siglip", "clip", "text")}


class Setup:
    """A tiny model, its teacher, and a cache of a split in shards of two articles."""

    def __init__(self, folder: Path, records: Dataset, vision: str, *, patches: bool = True, per_shard: int = 2):
        self.model = tiny_model(max_candidate_images=6)
        self.processor = tiny_processor(max_candidate_images=6)
        self.vision = vision
        folder.mkdir(parents=True, exist_ok=True)
        width = self.model.config.image_embedding_size * self.model.dtype.itemsize
        patch_bytes = self.model.config.num_patches * self.model.config.patch_embedding_size
        patch_bytes *= self.model.dtype.itemsize
        self.split = SplitFeatures(
            folder,
            "train",
            records,
            max_images=6,
            bytes_per_image=width + 8 + patch_bytes * patches,
            bytes_per_sentence=width,
            whole_summaries=False,
        )
        self.split.articles_per_shard = per_shard
        self.patches = patches

    def extractor(self) -> FeatureExtractor:
        return FeatureExtractor(
            self.model,
            self.processor,
            lambda: build_teacher(self.vision, self.model.config, torch.device("cpu")),
            patches=self.patches,
            device=torch.device("cpu"),
            batch_size=2,
        )

    def fill(self, checksum: bool = False) -> None:
        fill([self.split], self.extractor(), progress=False, checksum=checksum)

    def shards(self) -> dict[str, dict[str, torch.Tensor]]:
        # Copies: what is read is mapped, and would change with the file.
        return {
            path.name: {name: values.clone() for name, values in load_file(path).items()}
            for path in sorted(self.split.folder.glob("*.safetensors"))
        }

    def times(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.split.folder.glob("*.safetensors")}

    def features(self) -> CachedFeatures:
        config = self.model.config
        shape = (config.num_patches, config.patch_embedding_size)
        return CachedFeatures(
            [self.split],
            embedding_size=config.image_embedding_size,
            with_teacher=True,
            patch_shape=shape if self.patches else None,
            patch_dtype=self.model.dtype,
        )
