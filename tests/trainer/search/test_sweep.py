"""Sweeps: the trials are trainings, an interrupted study goes on, and the best one is a configuration to train."""

import gc
import itertools
import json
import os
import signal
import weakref
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock

from modeling_spectra import SpectraSumConfig
from tests.forked_process import run
from tests.trainer.training_setup import save_setup

optuna = pytest.importorskip("optuna", reason="sweeps need the extra sweep")

from trainer import sweep  # noqa: E402
from trainer.arguments import SpectraTrainingArguments  # noqa: E402
from trainer.building import build_trainer  # noqa: E402
from trainer.data import load_records  # noqa: E402
from trainer.search.results import write_results  # noqa: E402
from trainer.search.space import SearchSpace, load_search_space  # noqa: E402
from trainer.search.trial import TrialTrainer, check_searchable  # noqa: E402
from trainer.train import parse_arguments  # noqa: E402

ROOT = Path(__file__).parents[3]
STAGES = ROOT / "trainer" / "configs" / "search"
SETTINGS = {
    "closed_world_articles": 8,
    "closed_world_eval_articles": 2,
    "num_latents": 2,
    # What is drawn during a training tells whether trials begin with the same random state.
    "vrp_dropout": 0.3,
    "vrp_context": None,
    "freeze_language_model": None,
    "generation_max_new_tokens": 4,
    "save_strategy": "steps",
    "save_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "learning_rate": 0.05,
}
# The first value of the joint parameter cannot be built: a gate beyond the deepest visual block.
SEARCH = """\
objective: eval_loss_lm
direction: minimize
parameters:
  num_latents: {values: [2, 3]}
  deep_visual_processor:
    values:
      - {dvp_num_layers: 2, gate_layers: [1, 3]}
      - {dvp_num_layers: 3, gate_layers: [1, 3]}
"""
ONE = "objective: eval_loss_lm\ndirection: minimize\nparameters: {num_latents: {values: [2]}}\n"


@pytest.fixture(scope="module", autouse=True)
def smaller_heap():
    """Every trial collects garbage four times, and would search through all that the libraries have made."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    backbones = {"vision_backbone": str(folder / "vision"), "text_backbone": str(folder / "text")}
    save_setup(folder, SETTINGS | backbones)
    (folder / "search.yaml").write_text(SEARCH)
    (folder / "one.yaml").write_text(ONE)
    return folder


def arguments(folder: Path, output: Path, search: str = "search.yaml", trials: int = 2, *more: str) -> list[str]:
    argv = ["--config", str(folder / "settings.yaml"), "--search", str(folder / search), "--study", "test"]
    return [*argv, "--trials", str(trials), "--output_dir", str(output), *more]


def validation_losses(config: Path, output: Path, *more: str) -> list[float]:
    """L_lm on the validation articles after each step of a training outside of any sweep."""
    parsed = parse_arguments(["--config", str(config), "--output_dir", str(output), "--save_strategy", "no", *more])
    trainer = build_trainer(*parsed, load_records(parsed[0]))
    trainer.train()
    return [entry["eval_loss_lm"] for entry in trainer.state.log_history if "eval_loss_lm" in entry]


@pytest.fixture(scope="module")
def killed(folder):
    """A sweep of two completed trials that is killed within the second training step of its second trained trial."""
    output = folder / "killed"
    script = folder / "killed.py"
    text = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from trainer import sweep
from trainer.search.trial import TrialTrainer

steps, training_step = [], TrialTrainer.training_step

def dying_step(self, *args, **kwargs):
    steps.append(self.state.global_step)
    if len(steps) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return training_step(self, *args, **kwargs)

TrialTrainer.training_step = dying_step
sweep.main({arguments(folder, output)!r})
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    script.write_text(text)
    done = run([str(script)], folder, environment)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    return output


def trials_of(output: Path) -> list:
    return optuna.load_study(study_name="test", storage=f"sqlite:///{output / 'study.db'}").trials


@pytest.fixture(scope="module")
def resumed(folder, killed):
    """The states of the killed study, and the results after the same command has been given again."""
    before = [(trial.state.name, trial.params) for trial in trials_of(killed)]
    return before, sweep.main(arguments(folder, killed)), killed


def test_a_killed_study_goes_on_to_the_wanted_number_of_completed_trials(resumed):
    before, results, output = resumed
    states = [state for state, _ in before]
    assert states.count("COMPLETE") == 1 and states[-1] == "RUNNING"
    after = trials_of(output)
    # What was there is there still, but for the trial that nobody works on any more; then its combination is tried again.
    assert [(trial.state.name, trial.params) for trial in after[: len(before)]] == [
        *before[:-1],
        ("FAIL", before[-1][1]),
    ]
    assert after[len(before)].params == before[-1][1] and after[len(before)].state.name == "COMPLETE"
    assert results["counts"]["completed"] == 2 and results["counts"]["interrupted"] == 1
    assert json.loads((output / "trials.json").read_text())["counts"] == results["counts"]
    # A third call finds nothing to do.
    assert len(trials_of(output)) == len(results["trials"])


def test_a_combination_that_is_interrupted_twice_has_failed(folder, tmp_path):
    space = load_search_space(folder / "search.yaml")

    def interrupted_trial():
        study, _ = sweep.open_study(tmp_path, "test", space, {})
        assert sweep.enqueue_next(study, space, "grid", 0)
        space.suggest(study.ask())
        # Whatever ends the process here leaves a trial that is running.
        return sweep.open_study(tmp_path, "test", space, {})[0]

    first, second, *_ = space.combinations(0)
    interrupted_trial()
    study = interrupted_trial()
    assert [trial.params for trial in study.trials] == [first, first]
    results = write_results(study, space, tmp_path, {})
    assert results["counts"] == {"failed": 1, "interrupted": 1}
    assert [row["reason"] for row in results["trials"]] == [None, "interrupted at its second attempt, too"]
    assert sweep.next_combination(study, space, "grid", 0) == second
    assert sweep.next_combination(study, space, "tpe", 0) is None


def test_a_trial_is_the_training_that_its_configuration_makes(resumed, folder, tmp_path):
    _, results, output = resumed
    completed = [row for row in results["trials"] if row["state"] == "completed"]
    assert {row["arguments"]["num_latents"] for row in completed} == {2, 3}
    for row in completed:
        latents = str(row["arguments"]["num_latents"])
        more = ["--num_latents", latents, "--load_best_model_at_end", "false", "--predict_with_generate", "false"]
        losses = validation_losses(folder / "settings.yaml", tmp_path / latents, *more)
        # The best of the trial's evaluations, bit for bit: nothing is left over from the trial before.
        assert len(losses) == 2 and row["value"] == min(losses)


def test_the_best_configuration_is_complete_and_can_be_trained(resumed, folder):
    _, results, output = resumed
    path = output / "best.yaml"
    lines = path.read_text().splitlines()
    assert lines[0] == f"# accelerate launch trainer/train.py --config {path}"
    best = min((row for row in results["trials"] if row["value"] is not None), key=lambda row: row["value"])
    content = yaml.safe_load(path.read_text())
    expected = yaml.safe_load((folder / "settings.yaml").read_text())
    expected |= {"num_latents": best["arguments"]["num_latents"], "output_dir": str(output / "best")}
    assert content == expected
    data_args, architecture, args, _ = parse_arguments(lines[0].split()[4:])
    assert (architecture.num_latents, architecture.gate_layers) == (content["num_latents"], [1, 3])
    # What the trials leave out is in it: checkpoints, and the best of them at the end.
    assert args.load_best_model_at_end and args.save_strategy == "steps" and args.predict_with_generate


def test_what_cannot_be_built_is_pruned_and_counted(resumed, folder, tmp_path):
    output = tmp_path / "all"
    # Four combinations, of which two can be built: five completed trials cannot be reached.
    results = sweep.main(arguments(folder, output, "search.yaml", 5, "--max_steps", "1"))
    assert results["counts"] == {"completed": 2, "pruned": 2}
    pruned = [row for row in results["trials"] if row["state"] == "pruned"]
    assert all(row["arguments"]["dvp_num_layers"] == 2 and row["value"] is None for row in pruned)
    (reason,) = {row["reason"] for row in pruned}
    assert "gate_layers is [1, 3]" in reason and "1..2" in reason
    assert results["reasons"] == {reason: 2}
    table = (output / "trials.md").read_text()
    assert "Trials: 2 completed, 2 pruned." in table and table.count(reason) == 2
    trained = [row["arguments"] for row in results["trials"]]
    assert len({json.dumps(row, sort_keys=True) for row in trained}) == 4
    assert {path.name for path in output.iterdir()} == {
        "study.db",
        "study.lock",
        "trials.json",
        "trials.md",
        "best.yaml",
    }
    assert yaml.safe_load((output / "best.yaml").read_text())["max_steps"] == 1


def test_a_trial_out_of_memory_or_without_a_finite_loss_fails_and_the_next_one_runs(folder, tmp_path, monkeypatch):
    step, calls = TrialTrainer.training_step, itertools.count()

    def failing_step(self, *args, **kwargs):
        call = next(calls)
        if call == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if call == 1:
            with torch.no_grad():
                self.base_model.visual_path.alignment_head.requires_grad_(False)
                next(self.base_model.language_model.parameters()).fill_(float("nan"))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(TrialTrainer, "training_step", failing_step)
    build, built = sweep.make_trainable, []

    def counted_build(*args, **kwargs):
        # A second model beside this one might not fit.
        assert [model for model in built if model() is not None] == []
        model = build(*args, **kwargs)
        built.append(weakref.ref(model))
        return model

    monkeypatch.setattr(sweep, "make_trainable", counted_build)
    # With tpe, a space may be too large for that.
    monkeypatch.setattr(SearchSpace, "combinations", lambda *args: pytest.fail("all combinations were listed"))
    (tmp_path / "search.yaml").write_text(ONE.replace("[2]", "[2, 3, 4]"))
    output = tmp_path / "study"
    # Without evaluations in between, the validation loss is that of the trained model.
    more = ["--max_steps", "1", "--sampler", "tpe", "--eval_strategy", "no", "--load_best_model_at_end", "false"]
    results = sweep.main(arguments(folder, output, str(tmp_path / "search.yaml"), 1, *more))
    assert results["counts"] == {"completed": 1, "failed": 2}
    reasons = [row["reason"] for row in results["trials"]]
    assert reasons[0] == "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert reasons[1].startswith("not finite: loss_lm is nan")
    assert results["best"] == 2 and reasons[2] is None and len(built) == 3
    config = ["--config", str(output / "best.yaml")]
    assert parse_arguments(config)[2].eval_strategy == "no"
    monkeypatch.undo()
    (value,) = [row["value"] for row in results["trials"] if row["state"] == "completed"]
    more = ["--eval_strategy", "steps", "--predict_with_generate", "false"]
    assert validation_losses(Path(config[1]), tmp_path / "run", *more) == [value]


def test_the_second_stage_starts_from_the_best_configuration_of_the_first(resumed, folder, tmp_path):
    _, _, output = resumed
    search = "objective: eval_loss_lm\ndirection: minimize\nparameters: {lora_r: {values: [2, 4]}}\n"
    (tmp_path / "stage2.yaml").write_text(search)
    argv = ["--config", str(output / "best.yaml"), "--search", str(tmp_path / "stage2.yaml"), "--study", "lora"]
    argv += ["--trials", "2", "--output_dir", str(tmp_path / "lora"), "--max_steps", "1"]
    with pytest.raises(ValueError, match="lora_r needs use_peft"):
        sweep.main(argv)
    results = sweep.main([*argv, "--use_peft", "true"])
    widths, layers = {"q": 32 + 32, "kv": 2 * (32 + 16), "o": 32 + 32, "mlp": 3 * (32 + 48)}, 4
    for row in results["trials"]:
        # LoRA of rank r adds r · (inputs + outputs) to each of a layer's seven projections.
        expected = layers * row["arguments"]["lora_r"] * sum(widths.values())
        assert row["parameters"]["LoRA adapters"]["trained"] == expected
    assert not (tmp_path / "lora" / "base").exists()
    content = yaml.safe_load((tmp_path / "lora" / "best.yaml").read_text())
    first = yaml.safe_load((output / "best.yaml").read_text())
    assert content["use_peft"] is True and content["lora_r"] in (2, 4)
    assert {**first, "output_dir": content["output_dir"], "max_steps": 1} == {
        name: value for name, value in content.items() if name not in ("use_peft", "lora_r")
    }


def test_a_study_refuses_other_settings_and_a_second_process(resumed, folder):
    _, _, output = resumed
    with pytest.raises(ValueError, match="other values of learning_rate"):
        sweep.main(arguments(folder, output, "search.yaml", 2, "--learning_rate", "0.1"))
    with pytest.raises(ValueError, match="other values of search"):
        sweep.main(arguments(folder, output, "one.yaml"))
    with pytest.raises(ValueError, match="holds the study test"):
        sweep.main([*arguments(folder, output), "--study", "other"])
    with FileLock(output / "study.lock"), pytest.raises(ValueError, match="another process works on the study"):
        sweep.main(arguments(folder, output))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("{fusion: {values: [dvp, sampler]}}", "fusion is shared by all trials"),
        ("{teacher_beta: {values: [5.0, 20.0]}}", "teacher_beta is shared by all trials"),
        ("{num_latent: {values: [2, 4]}}", "num_latent cannot be searched"),
        ("{output_dir: {values: [a, b]}}", "output_dir cannot be searched"),
        ("{gradient_accumulation_steps: {values: [1.5]}}", "gradient_accumulation_steps cannot be 1.5"),
        ("{learning_rate: {values: [[0.1, 0.2]]}}", "learning_rate cannot be .0.1, 0.2."),
        ("{num_latents: {values: [2, 2]}}", "lists a value twice"),
        ("{num_latents: {values: []}}", "at least one value"),
        ("{num_latents: [2, 4]}", "at least one value"),
        ("{a: {values: [{num_latents: 2}, {sampler_depth: 2}]}}", "must set the same arguments"),
        ("{num_latents: {values: [2]}, a: {values: [{num_latents: 3}]}}", "more than one parameter sets num_latents"),
        ("{}", "at least one parameter"),
    ],
)
def test_searches_that_make_no_sense_are_refused(folder, tmp_path, parameters, message):
    path = tmp_path / "search.yaml"
    path.write_text(f"objective: eval_loss_lm\ndirection: minimize\nparameters: {parameters}\n")
    with pytest.raises(ValueError, match=message):
        sweep.main(arguments(folder, tmp_path / "study", str(path)))
    assert not (tmp_path / "study").exists()


def test_several_gpus_in_one_process_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(SpectraTrainingArguments, "n_gpu", 2)
    with pytest.raises(ValueError, match="2 GPUs are visible to one process.*CUDA_VISIBLE_DEVICES=0"):
        sweep.main(arguments(folder, tmp_path / "study"))
    assert not (tmp_path / "study").exists()


def test_loss_weights_need_an_objective_that_compares_them(folder, tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text("objective: eval_loss\ndirection: minimize\nparameters: {align_weight: {values: [0.1, 1.0]}}\n")
    with pytest.raises(ValueError, match="eval_loss_lm"):
        sweep.main(arguments(folder, tmp_path / "study", str(path)))
    path.write_text(path.read_text().replace("eval_loss\n", "eval_loss_lm\n"))
    with pytest.raises(ValueError, match="turns both losses on"):
        sweep.main(arguments(folder, tmp_path / "study", str(path), 2, "--align_weight", "0"))
    path.write_text(path.read_text().replace("minimize", "least"))
    with pytest.raises(ValueError, match="direction is 'least'"):
        sweep.main(arguments(folder, tmp_path / "study", str(path)))


def test_the_stages_are_the_published_search_space():
    stage1, stage2 = (load_search_space(STAGES / f"stage{number}.yaml") for number in (1, 2))
    for number, space in ((1, stage1), (2, stage2)):
        path = f"trainer/configs/search/stage{number}.yaml"
        prompt, python, script, *argv = (ROOT / path).read_text().splitlines()[0].split()
        assert (prompt, python, script) == ("#", "python", "trainer/sweep.py")
        options, _ = sweep.parse_sweep_arguments(argv)
        assert options.search == path and options.trials == len(space.combinations(0))
        config = str(STAGES.parent / "llava_onevision_7b_qlora.yaml")
        parsed = parse_arguments(["--config", config, "--dataset", str(STAGES), "--use_cpu", "true"])
        check_searchable(space, *parsed[1:])
    every_fourth = [4, 8, 12, 16, 20, 24]
    # K = 20 with the gates 8 and 16 is left out: no gate reads a block after the 16th.
    blocks = [(16, [8, 16]), (24, [8, 16, 24]), (24, every_fourth)]
    published = [
        {
            "num_latents": latents,
            "sampler_depth": depth,
            "sampler_feed_forward_multiplier": multiplier,
            "dvp_num_layers": layers,
            "gate_layers": gates,
        }
        for latents, depth, multiplier, (layers, gates) in itertools.product((32, 64), (2, 4), (2, 4), blocks)
    ]
    found = [stage1.fields(chosen) for chosen in stage1.combinations(0)]
    assert sorted(map(repr, map(sorted, map(dict.items, found)))) == sorted(
        map(repr, map(sorted, map(dict.items, published)))
    )
    for fields in found:
        # The language model of the paper has 28 layers.
        text = {"model_type": "qwen2", "num_hidden_layers": 28, "hidden_size": 64, "num_attention_heads": 4}
        assert SpectraSumConfig(text_config=text, **fields).gate_layers == fields["gate_layers"]
    lora = [stage2.fields(chosen) for chosen in stage2.combinations(0)]
    assert sorted((fields["lora_r"], fields["lora_alpha"]) for fields in lora) == [
        (rank, alpha) for rank in (16, 32, 64) for alpha in (64, 128)
    ]
    assert (stage1.size, stage2.size) == (24, 6)
    assert stage1.combinations(0) == stage1.combinations(0) != stage1.combinations(1)
