"""The shards of the feature cache: what they hold, who writes them, and that what is wrong with them is found and mended."""

import json
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset, DatasetDict
from filelock import FileLock
from torch.utils.data import DataLoader

from spectra_sum.msmo import load_msmo
from tests.double_precision import EXACT
from tests.tiny import picture, save_vision_folder, tiny_model, tiny_processor, tiny_tokenizer
from tests.trainer.features.feature_setup import Setup, save_backbones, write_msmo
from trainer.building import build_teacher
from trainer.features import filling
from trainer.features import key as feature_key_module
from trainer.features.cache import CachedFeatures
from trainer.features.filling import fill
from trainer.features.key import describe_dataset, describe_teacher, describe_towers, feature_key
from trainer.objectives.dpp_teacher import TeacherLabels
from trainer.train import parse_arguments


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_backbones(tmp_path_factory.mktemp("backbones"))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, DatasetDict]]:
    folder = tmp_path_factory.mktemp("data")
    write_msmo(folder / "msmo")
    return {"msmo": (str(folder / "msmo"), load_msmo(folder / "msmo", cache_dir=folder / "cache"))}


@pytest.fixture
def setup(tmp_path, datasets, backbones) -> Setup:
    return Setup(tmp_path / "features", datasets["msmo"][1]["train"], backbones["siglip"])


def assert_same_shards(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, tensors in expected.items():
        assert found[name].keys() == tensors.keys()
        for part, values in tensors.items():
            assert torch.equal(found[name][part], values), (name, part)


@pytest.fixture
def logged(caplog):
    """What the cache logs; accelerate and transformers keep their loggers from pytest."""
    logger = logging.getLogger("trainer.features.filling")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, logger=logger.name)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.usefixtures("float64")
def test_the_cache_holds_what_towers_and_teacher_give(setup):
    setup.fill()
    features, records, model = setup.features(), setup.split.records, setup.model
    teacher = build_teacher(setup.vision, model.config, torch.device("cpu"))
    read = [features.read(identifier) for identifier in records["id"]]
    for record, article in zip(records, read, strict=True):
        count = min(len(record["images"]), 6)
        assert len(article["image_embeds"]) == len(article["marginals"]) == len(article["patches"]) == count
        sentences, _ = teacher.embed_summaries([record["summary"]])
        torch.testing.assert_close(article["sentence_embeds"], sentences[0], **EXACT)
        if not count:
            continue
        inputs = setup.processor(text="", images=record["images"][:6])
        with torch.no_grad():
            patches, embeds = model.embed_images(inputs["pixel_values"], inputs["image_mask"])
        labels = teacher.label(embeds, inputs["image_mask"], [record["summary"]])
        assert article["marginals"].dtype == torch.float64
        torch.testing.assert_close(article["patches"], patches[0], **EXACT)
        torch.testing.assert_close(article["image_embeds"], embeds[0], **EXACT)
        torch.testing.assert_close(article["marginals"], labels.marginals[0], **EXACT)
    batch = features.batch([read[1], read[3]])
    assert set(batch) == {"image_embeds", "image_mask", "patches", *TeacherLabels._fields}
    assert batch["image_mask"].tolist() == [[False], [True]] and not batch["patches"][0].any()
    assert torch.equal(batch["sentence_embeds"][1], read[3]["sentence_embeds"])


def test_other_processes_read_it(setup):
    setup.fill()
    features, identifiers = setup.features(), setup.split.records["id"]
    expected = [features.read(identifier)["marginals"].tolist() for identifier in identifiers]
    copied = pickle.loads(pickle.dumps(features))
    assert [copied.read(identifier)["marginals"].tolist() for identifier in identifiers] == expected
    loader = DataLoader(
        list(identifiers), num_workers=2, collate_fn=lambda ids: features.read(ids[0])["marginals"].tolist()
    )
    assert list(loader) == expected


def test_filling_again_writes_nothing(setup, logged):
    setup.fill()
    assert "wrote train 0, train 1, train 2" in logged.text
    logged.clear()
    before = setup.times()
    setup.fill()
    assert setup.times() == before and len(before) == 3 and logged.text == ""


def test_a_changed_article_makes_its_shard_stale(setup, logged):
    setup.fill()
    expected, before = setup.shards(), setup.times()
    rows = setup.split.raw_rows(range(2, 5))["images"].to_pylist()
    # Copied, with another time of change, and no more.
    os.utime(rows[2][0]["path"], ns=(0, 0))
    image = Path(rows[0][0]["path"])
    original = image.read_bytes()
    status = image.stat()
    try:
        picture(99, size=(30, 30)).save(image)
        changed = Setup(setup.split.folder, setup.split.records, setup.vision)
        changed.fill()
        assert "1 stale and 0 torn shards of 3" in logged.text
        after = changed.shards()
        moved = {name for name in before if changed.times()[name] != before[name]}
        assert moved == {"shard-00001.safetensors"}
        differs = (
            after["shard-00001.safetensors"]["image_embeds"] != expected["shard-00001.safetensors"]["image_embeds"]
        )
        assert differs.any(1).tolist() == [True] + [False] * 6
    finally:
        image.write_bytes(original)
        os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    # The image as it was; a summary that was edited; articles in another order; fewer articles, which are there.
    edited = setup.split.records.map(
        lambda row, index: {"summary": ["Calm."] if index == 5 else row["summary"]}, with_indices=True
    )
    swapped = [1, 0, 2, 3, 4, 5]
    for records, stale in (
        (setup.split.records, [1]),
        (edited, [2]),
        (edited.select(swapped), [0]),
        (edited.select(swapped[:3]), []),
        (edited.select([*swapped[:3], 5, 3]), [1, 2]),
        (edited.select([*swapped[:3], 5, 3, 4]), [2]),
    ):
        before = setup.times()
        other = Setup(setup.split.folder, records, setup.vision)
        other.fill()
        moved = {name for name in before if other.times()[name] != before[name]}
        assert moved == {f"shard-{shard:05d}.safetensors" for shard in stale}


@pytest.mark.parametrize("damage", ["cut in the header", "cut in the data", "header", "data", "metadata", "empty"])
def test_a_torn_shard_is_found_and_computed_anew(setup, logged, damage):
    setup.fill()
    expected = setup.shards()
    path = setup.split.path(1)
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    if damage == "empty":
        content = b""
    elif damage == "cut in the header":
        content = content[: header // 2]
    elif damage == "cut in the data":
        content = content[:-10]
    else:
        place = {
            "header": content.index(b"F32"),
            "data": header + 41,
            "metadata": content.index(b'"checksum":"') + 12,
        }[damage]
        content[place] ^= 1
    path.write_bytes(content)
    if damage in ("data", "metadata"):
        # Nothing that a look at the header tells.
        setup.fill()
        assert path.read_bytes() == content
    setup.fill(checksum=True)
    assert "0 stale and 1 torn shards of 3" in logged.text
    assert "wrote train 1" in logged.text.splitlines()[-1]
    assert_same_shards(setup.shards(), expected)


def test_a_complete_cache_of_another_user_is_read_and_an_incomplete_one_refused(setup, monkeypatch):
    setup.fill()

    def refuse(self, *arguments, **keywords):
        raise PermissionError(13, "Permission denied", self.lock_file)

    monkeypatch.setattr(FileLock, "acquire", refuse)
    before = setup.times()
    setup.fill(checksum=True)
    assert setup.times() == before
    setup.split.path(2).unlink()
    with pytest.raises(
        ValueError, match="shard 2 of train is missing or cannot be used, and .*lock cannot be written"
    ):
        setup.fill()


def test_what_any_process_finds_bad_every_process_looks_at(setup, monkeypatch):
    # A launch of two, of which the other one sees another folder: its part of the shards is stale here, too.
    setup.fill()
    records = setup.split.records.map(lambda row: {"summary": [*row["summary"], "Calm."]})
    other = Setup(setup.split.folder, records, setup.vision)
    alone = SimpleNamespace(
        process_index=0, num_processes=2, is_main_process=True, is_local_main_process=True, wait_for_everyone=int
    )
    monkeypatch.setattr(filling, "PartialState", lambda: alone)
    monkeypatch.setattr(filling, "gather_object", lambda checked: [*checked, (1, "stale", None)])
    other.fill()
    assert [other.split.problem(shard, checksum=True) for shard in other.split.shards()] == [None] * 3
    # Another launch of it finds nothing bad, and what the other process has checked can be read in this one.
    content = other.split.contents[1]
    monkeypatch.setattr(filling, "gather_object", lambda checked: [*checked, (1, None, content)])
    again = Setup(setup.split.folder, records, setup.vision)
    again.fill()
    assert len(again.features().read(records["id"][2])["sentence_embeds"]) == 3


def in_a_process(work: Callable[[], None]) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def test_two_processes_fill_one_cache_and_each_shard_is_computed_once(tmp_path, datasets, backbones):
    records = datasets["msmo"][1]["train"]
    alone = Setup(tmp_path / "alone", records, backbones["siglip"])
    alone.fill()
    both_at_work = multiprocessing.get_context("fork").Barrier(2)

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            logger = logging.getLogger("trainer.features.filling")
            logger.setLevel(logging.INFO)
            logger.addHandler(logging.FileHandler(tmp_path / f"log-{number}"))
            setup = Setup(tmp_path / "together", records, backbones["siglip"])
            extractor = setup.extractor()
            extract, waited = extractor.extract, []

            def extract_when_both_are_here(articles: Dataset):
                if not waited:
                    waited.append(both_at_work.wait(timeout=60))
                return extract(articles)

            extractor.extract = extract_when_both_are_here
            fill([setup.split], extractor, progress=False)
            # Whoever is done first has waited for the other: everything is there.
            assert len(setup.shards()) == 3

        return run

    processes = [in_a_process(work(number)) for number in range(2)]
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0]
    written = [
        (tmp_path / f"log-{number}").read_text().partition("wrote ")[2].splitlines()[0].split(", ")
        for number in range(2)
    ]
    assert sorted(sum(written, [])) == [f"train {shard}" for shard in range(3)] and all(written)
    together = Setup(tmp_path / "together", records, backbones["siglip"])
    assert_same_shards(together.shards(), alone.shards())


def test_a_process_that_is_killed_loses_the_shard_it_writes_and_no_other(setup, tmp_path, monkeypatch):
    whole = Setup(tmp_path / "whole", setup.split.records, setup.vision)
    whole.fill()

    def work() -> None:
        replace = os.replace

        def kill_at_the_second(source, target):
            if Path(target) == setup.split.path(1):
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        monkeypatch.setattr(os, "replace", kill_at_the_second)
        setup.fill()

    process = in_a_process(work)
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL
    left = {path.name for path in setup.split.folder.iterdir() if path.suffix != ".lock"}
    assert left == {"shard-00000.safetensors", ".shard-00001.safetensors.partial"}
    before = setup.times()
    setup.fill()
    assert setup.times()["shard-00000.safetensors"] == before["shard-00000.safetensors"]
    assert {path.name for path in setup.split.folder.iterdir() if path.suffix != ".lock"} == set(setup.times())
    assert_same_shards(setup.shards(), whole.shards())


def test_sigterm_ends_the_filling_so_that_it_goes_on(setup, capfd):
    def work() -> None:
        extractor = setup.extractor()
        extractor.num_workers = 1
        build = setup.split.build

        def build_and_stop(shard, extractor, advance):
            def stop_at_the_second(count):
                if shard == 1:
                    # As a scheduler does: from outside, the workers and the process.
                    processes = [*multiprocessing.active_children(), multiprocessing.current_process()]
                    assert len(processes) == 2
                    subprocess.run(["kill", "-TERM", *[str(process.pid) for process in processes]], check=True)
                    signal.pause()

            build(shard, extractor, stop_at_the_second)

        setup.split.build = build_and_stop
        fill([setup.split], extractor, progress=False)

    process = in_a_process(work)
    process.join(timeout=120)
    assert process.exitcode == 143
    assert "run the same command again" in capfd.readouterr().err
    assert {path.name for path in setup.split.folder.iterdir() if path.suffix != ".lock"} == {
        "shard-00000.safetensors"
    }
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_broken_image_is_named_and_left_out(setup, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    image = Path(setup.split.raw_rows(range(4, 5))["images"].to_pylist()[0][0]["path"])
    original, status = image.read_bytes(), image.stat()
    try:
        image.write_bytes(original[:200])
        broken = Setup(tmp_path / "broken", setup.split.records, setup.vision)
        broken.fill()
        [met] = broken.features().broken_images
        identifier = setup.split.records["id"][4]
        assert met[:4] == (identifier, 0, 3, str(image))
        assert [name for name in caplog.messages if identifier in name and str(image) in name]
        article = broken.features().read(identifier)
        assert (len(article["image_embeds"]), article["broken_indices"].tolist()) == (2, [0])
    finally:
        image.write_bytes(original)
        os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    # The features of the other images are those that they have beside a sound one; marginals are of the set.
    setup.fill()
    whole = setup.features().read(identifier)
    torch.testing.assert_close(article["image_embeds"], whole["image_embeds"][1:])
    torch.testing.assert_close(article["patches"], whole["patches"][1:])
    # Where nothing is broken a shard is written as before, and one that is mended is computed anew.
    assert "broken_starts" not in setup.shards()["shard-00002.safetensors"]
    mended = Setup(tmp_path / "broken", setup.split.records, setup.vision)
    mended.fill()
    assert mended.features().broken_images == []
    assert "broken_indices" not in mended.features().read(identifier)


@pytest.mark.usefixtures("float64")
def test_what_another_run_replaces_is_not_taken_for_ours(setup):
    records = setup.split.records
    few = Setup(setup.split.folder, records.select(range(3)), setup.vision)
    few.fill()
    features, identifier = few.features(), records["id"][2]
    marginals = features.read(identifier)["marginals"]
    # Another limit: the last shard is replaced by one with more articles, and ours are where they were, computed in
    # another batch.
    setup.fill()
    assert len(setup.times()) == 3
    for reader in (features, pickle.loads(pickle.dumps(features))):
        torch.testing.assert_close(reader.read(identifier)["marginals"], marginals, **EXACT)
    features = setup.features()
    other = Setup(setup.split.folder, setup.split.records.select([1, 0, 2]), setup.vision)
    other.fill()
    with pytest.raises(ValueError, match="another run with other data uses the same cache_dir"):
        features.read(setup.split.records["id"][0])
    setup.fill()
    features = setup.features()
    assert len(features.read(records["id"][0])["sentence_embeds"]) == 2
    # The same ids with other summaries: what is mapped stays ours, and what is opened now is not taken for it.
    edited = Setup(setup.split.folder, records.map(lambda row: {"summary": ["Calm."]}), setup.vision)
    edited.fill()
    assert len(edited.features().read(records["id"][0])["sentence_embeds"]) == 1
    assert len(features.read(records["id"][0])["sentence_embeds"]) == 2
    for reader, shard in ((features, 1), (pickle.loads(pickle.dumps(features)), 0)):
        with pytest.raises(
            ValueError, match=f"{setup.split.path(shard)} holds other articles.*a cache_dir of its own"
        ):
            reader.read(records["id"][2 * shard])
    with pytest.raises(KeyError, match="has no article 'unknown'"):
        features.read("unknown")


def test_an_id_of_two_different_articles_is_refused(setup, tmp_path):
    records = setup.split.records
    same = Setup(tmp_path / "same", records.select([0, 0]), setup.vision)
    assert CachedFeatures([setup.split, same.split], embedding_size=24, with_teacher=True)
    renamed = records.select([1]).map(lambda row: {"id": records["id"][0]})
    clash = Setup(tmp_path / "clash", renamed, setup.vision)
    with pytest.raises(ValueError, match=f"{records['id'][0]}.*two different articles"):
        CachedFeatures([setup.split, clash.split], embedding_size=24, with_teacher=True)


# ------------------------------------------------------------------------------------------------- key and size


def test_every_ingredient_changes_the_key(tmp_path, datasets, backbones, monkeypatch):
    model, processor, records = tiny_model(), tiny_processor(), datasets["msmo"][1]["train"]
    arguments = parse_arguments(
        [
            "--dataset",
            "closed_world",
            "--closed_world_backbones",
            "b",
            "--use_cpu",
            "true",
            "--output_dir",
            str(tmp_path),
        ]
    )[0]
    shutil.copytree(backbones["siglip"], tmp_path / "copy")

    def key(kind="patches", split="train", autocast=None, vision=backbones["siglip"], **other):
        towers = describe_towers(other.get("model", model), other.get("processor", processor), autocast)
        teacher = describe_teacher(vision, other.get("config", model.config))
        dataset = describe_dataset(arguments, other.get("records", records))
        return feature_key(kind, dataset, split, towers, teacher)[0]

    def with_tower(**changes):
        return key(model=tiny_model(**changes))

    def changed_processor(**changes):
        other = tiny_processor()
        for name, value in changes.items():
            setattr(other.image_processor, name, value)
        return other

    first = key()
    # Neither where the weights lie nor the rest of the model counts.
    assert key(vision=str(tmp_path / "copy")) == first
    assert key(model=tiny_model(num_latents=5, align_weight=0.5)) == first

    keys = {"as it is": first}
    keys["kind"], keys["split"] = key(kind="embeddings"), key(split="validation")
    keys["autocast"] = key(autocast=torch.bfloat16)
    keys["tower weights"] = with_tower(seed=1)
    keys["tower dtype"] = key(model=tiny_model().to(torch.bfloat16))
    keys["feature layer"] = with_tower(vision_feature_layer=-2)
    keys["candidates"] = with_tower(max_candidate_images=5)
    keys["mean"] = key(processor=changed_processor(image_mean=[0.4, 0.5, 0.5]))
    keys["size"] = key(processor=changed_processor(size={"height": 8, "width": 16}))
    for name, value in (
        ("kappa", 2.5),
        ("sigma", 0.7),
        ("beta", 5.0),
        ("epsilon", 1e-5),
        ("long_summary", "truncate"),
    ):
        keys[name] = key(config=tiny_model(**{f"teacher_{name}": value}).config)
    tiny_tokenizer().save_pretrained(save_vision_folder(tmp_path / "other", seed=7))
    keys["teacher weights"] = key(vision=str(tmp_path / "other"))
    tokenizer = json.loads((tmp_path / "copy" / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {name: index for name, index in tokenizer["model"]["vocab"].items() if index < 270}
    tokenizer["model"]["merges"] = []
    (tmp_path / "copy" / "tokenizer.json").write_text(json.dumps(tokenizer))
    keys["tokenizer"] = key(vision=str(tmp_path / "copy"))
    arguments.closed_world_seed = 3
    keys["dataset seed"] = key()
    arguments.dataset = str(tmp_path)
    keys["dataset in a folder"] = key()
    arguments.dataset = str(tmp_path / "copy")
    assert key() == key(records=records.select([0])) == keys["dataset in a folder"]
    keys["other articles"] = key(records=records.select([1]))
    monkeypatch.setattr(feature_key_module, "FORMAT_VERSION", feature_key_module.FORMAT_VERSION + 1)
    keys["format"] = key()
    assert len(set(keys.values())) == len(keys) == 21


def test_patches_say_their_size_before_and_it_is_that_on_disk(tmp_path, datasets, backbones, capsys):
    setup = Setup(tmp_path / "features", datasets["msmo"][1]["train"], backbones["siglip"], per_shard=3)
    fill([setup.split], setup.extractor(), show_size=True, progress=False)
    printed = capsys.readouterr().out
    said = int(printed.partition("feature cache: ")[2].partition(" bytes")[0].replace(",", ""))
    to_write = int(printed.partition("of which ")[2].partition(" ")[0].replace(",", ""))
    on_disk = sum(path.stat().st_size for path in setup.split.folder.glob("*.safetensors"))
    # But for the headers of two shards.
    assert said == to_write and 0 < on_disk - said < 2 * 1500 < said / 2
    assert f"free in {tmp_path}" in printed
    setup.split.path(1).unlink()
    fill([setup.split], setup.extractor(), show_size=True, progress=False)
    again = int(capsys.readouterr().out.partition("of which ")[2].partition(" ")[0].replace(",", ""))
    assert 0 < setup.split.path(1).stat().st_size - again < 1500 and again < to_write
