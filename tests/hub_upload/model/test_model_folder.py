"""What is found, refused and taken out of a model's folder before it is published."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hub_upload.errors import HubError
from hub_upload.model.bare_load import tensor_digest
from hub_upload.model.folder import check_nothing_private, file_digests, find_model_folder, remove_local_paths
from spectra_sum.models.sources import ModelError, find_adapter_base


def make_folder(folder, config=None, tensors=("a", "b")):
    folder.mkdir(parents=True)
    config = {"model_type": "spectra_sum", "text_config": {}, "vision_config": {}} if config is None else config
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    save_file({name: torch.ones(2) for name in tensors}, folder / "model.safetensors")
    return folder


def make_adapter(folder, base):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    save_file({"lora": torch.ones(2)}, folder / "adapter_model.safetensors")
    return folder


def test_the_model_of_a_folder_is_found(tmp_path):
    plain = make_folder(tmp_path / "plain")
    for name in ("optimizer.pt", "rng_state_1.pth", "training_args.bin", "trainer_state.json"):
        (plain / name).write_bytes(b"")
    found = find_model_folder(plain)
    assert found.path == plain and not found.is_adapter and found.weights == (plain / "model.safetensors",)
    assert found.resume_files == ("optimizer.pt", "rng_state_1.pth", "training_args.bin")
    # 8 bytes of length, the header, and 2 tensors of 2 numbers of 4 bytes.
    length = int.from_bytes((plain / "model.safetensors").read_bytes()[:8], "little")
    assert found.size == 8 + length + 16

    nested = make_folder(tmp_path / "experiment" / "model")
    assert find_model_folder(tmp_path / "experiment").path == nested
    adapter = make_adapter(tmp_path / "run", base=tmp_path / "gone")
    assert find_model_folder(adapter).is_adapter


def test_sharded_weights_must_be_complete(tmp_path):
    folder = make_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}))
    assert find_model_folder(folder).weights == (folder / "one.safetensors",)
    for places, said in (
        ({"a": "one.safetensors", "c": "one.safetensors"}, "lacks 1 tensors of the index"),
        ({"a": "two.safetensors"}, "two.safetensors: the weights are missing"),
        ({"a": "../model/one.safetensors"}, "the weights are missing"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(ModelError, match=said):
            find_model_folder(folder)
    index.write_text("[")
    with pytest.raises(ModelError, match="index.json: the file is damaged"):
        find_model_folder(folder)


def test_what_cannot_be_published_is_refused(tmp_path):
    pickled = make_folder(tmp_path / "pickled")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80")
    empty = make_folder(tmp_path / "empty")
    (empty / "model.safetensors").unlink()
    cut = make_folder(tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-3])
    other = make_folder(tmp_path / "other", config={"model_type": "qwen2"})
    # Transformers would build a language model of billions of parameters.
    null = make_folder(tmp_path / "null", {"model_type": "spectra_sum", "text_config": None, "vision_config": {}})
    deep = make_folder(tmp_path / "deep", "[" * 100_000)
    unsaved = tmp_path / "unsaved"
    make_folder(unsaved / "checkpoint-100")
    for folder, said in (
        (pickled, "pytorch_model.bin: this is a pickle file"),
        (empty, "model.safetensors: the weights are missing"),
        (cut, "model.safetensors: the file is damaged"),
        (other, "'qwen2' model"),
        (null, "its config.json lacks text_config"),
        (deep, "its config.json is damaged"),
        (unsaved, "name a checkpoint, such as .*checkpoint-100"),
        (tmp_path / "nothing", "there is no such folder"),
        (tmp_path, "config.json"),
    ):
        with pytest.raises(ModelError, match=said):
            find_model_folder(folder)


def test_the_base_of_an_adapter_is_found_where_it_lies_now(tmp_path):
    named = make_folder(tmp_path / "named")
    run = make_adapter(tmp_path / "run", base=named)
    assert find_adapter_base(run) == named
    moved = make_adapter(tmp_path / "moved", base=tmp_path / "old" / "base")
    assert find_adapter_base(moved) is None
    base = make_folder(moved / "base")
    assert find_adapter_base(moved) == base
    assert find_adapter_base(make_adapter(moved / "checkpoint-5", base=tmp_path / "old" / "base")) == base


def test_digests_are_those_of_the_bytes(tmp_path):
    values = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.bfloat16)
    # bfloat16 is the upper half of float32, little-endian: 1 = 3F80, −2 = C000, 0.5 = 3F00, 3 = 4040.
    expected = hashlib.sha256(bytes.fromhex("803f00c0003f4040")).hexdigest()
    assert tensor_digest(values) == f"torch.bfloat16 [2, 2] {expected}"
    assert tensor_digest(values.T) != tensor_digest(values)
    scalar = hashlib.sha256(bytes.fromhex("0000803f")).hexdigest()
    assert tensor_digest(torch.tensor(1.0)) == f"torch.float32 [] {scalar}"
    save_file({"x": values}, tmp_path / "x.safetensors")
    assert file_digests([tmp_path / "x.safetensors"]) == {"x": f"torch.bfloat16 [2, 2] {expected}"}


def test_local_paths_are_taken_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "text").mkdir(parents=True)
    content = {
        "_name_or_path": "/data/models/x",
        "text_config": {"_name_or_path": "runs/experiment/backbones/text", "hidden_size": 4},
        "vision_config": {"_name_or_path": "google/siglip-base"},
        "list": [{"name_or_path": "runs/text"}, "kept"],
        "local_files_only": True,
        "is_local": True,
    }
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "config.json").write_text(json.dumps(content))
    vocabulary = json.dumps({"model": {"vocab": {"is_local": 5, "_name_or_path": 6}}})
    (staged / "tokenizer.json").write_text(vocabulary)
    remove_local_paths(staged)
    assert json.loads((staged / "config.json").read_text()) == {
        "text_config": {"hidden_size": 4},
        "vision_config": {"_name_or_path": "google/siglip-base"},
        "list": [{}, "kept"],
    }
    assert (staged / "tokenizer.json").read_text() == vocabulary


def test_nothing_private_may_stay(tmp_path):
    home, work, root = (Path(name) for name in ("/home", "/srv/ada/project", "/"))

    def check(name, text, user="ada"):
        folder = tmp_path / "staged"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        try:
            check_nothing_private(folder, [home, work, root], user, "hf_abc")
        finally:
            (folder / name).unlink()

    for name, text in (
        ("tokenizer.json", '{"/home": 7, "ada": 8}'),
        ("README.md", "ada-news from ada/model, Canada, https://example.org/home/x, https://huggingface.co/ada/model"),
        ("model.py", "# ada"),
        ("config.json", '{"x": ["ada/text-lm", "canada"]}'),
    ):
        check(name, text)
    # A login may be a word of every card, prompt and template.
    for user in ("data", "news", "title"):
        check("README.md", "its data are news, see the title", user)
        check("processor_config.json", '{"prompt_template": "The news data: {title}"}', user)
        check("chat_template.jinja", "{{ data }} {{ news }} {{ title }}", user)
    for name, text, said in (
        ("config.json", '{"x": "/home/eve/x"}', "config.json: would hold the path /home"),
        ("README.md", "see /srv/ada/project/run.", "README.md: would hold the path /srv/ada/project"),
        ("README.md", "trained in /data/ada.", "README.md: would hold the user's name"),
        ("README.md", r"trained in C:\Users\ada\run", "README.md: would hold the user's name"),
        ("config.json", '{"x": ["made-by-ada"]}', "config.json: would hold the user's name"),
        ("config.json", '{"x": "runs/of/ada/model"}', "config.json: would hold the user's name"),
        ("tokenizer.json", '"hf_abc"', "tokenizer.json: would hold the access token"),
    ):
        with pytest.raises(HubError, match=said):
            check(name, text)
