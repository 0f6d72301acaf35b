"""The benchmark of guidance between images: what an answer is counted as, the comparison, and runs that are kept."""

import json

import pytest

from benchmarks import image_guidance
from benchmarks.image_guidance import GUIDANCE, LAYERS, SETS, judge, main, parse_options, run_result, variants
from modeling_spectra import SpectraSumConfig
from tests.tiny import IMAGE_SIZE
from tests.trainer.training_setup import save_setup

SETTINGS = {
    "dataset": None,
    "text_backbone": None,
    "max_images": 2,
    "max_candidate_images": 2,
    "align_weight": 0.0,
    "distill_weight": 0.0,
    "freeze_language_model": None,
    "predict_with_generate": False,
    "final_evaluation": "none",
    "fusion": "concat",
    "concat_tokens": "latents",
    "sampler_type": "qformer",
    "image_guidance": "bidirectional",
}
RECORD = {
    "description": "a red boat",
    "images": [
        {"objects": [{"group": "red_boat", "shared": True}, {"group": "blue_key", "shared": False}]},
        {"objects": [{"group": "orange_mug", "shared": False}, {"group": "red_boat", "shared": True}]},
    ],
}


@pytest.mark.parametrize(
    ("answer", "right", "shape", "distractor"),
    [
        ("Both pictures show a red boat.", 1, 1, 0),
        ("Both pictures show a blue key.", 0, 0, 1),
        ("Both pictures show an orange mug.", 0, 0, 1),
        # To name everything is no answer.
        ("Both pictures show a red boat and a blue key.", 0, 0, 1),
        ("Both pictures show a green boat.", 0, 1, 0),
        ("Both pictures show a red key.", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_an_answer_names_the_shared_object_its_shape_or_a_distractor(answer, right, shape, distractor):
    assert judge(answer, RECORD) == {"right": right, "shape": shape, "distractor": distractor}


def test_a_run_is_compared_with_none_pair_by_pair():
    right, shape, wrong = (
        dict(zip(("right", "shape", "distractor"), row, strict=True)) for row in ((1, 1, 0), (0, 1, 0), (0, 0, 1))
    )
    plain = dict.fromkeys(SETS, [right, wrong, shape, wrong])
    guided = {SETS[0]: [right, right, right, wrong], SETS[1]: [wrong, wrong, shape, shape]}
    runs = {run.name: run for run in variants([0, 1])}
    assert len(runs) == 2 * (1 + (len(GUIDANCE) - 1) * len(LAYERS)) and "none-1" in runs
    result = run_result(runs["adaptive-late-1"], 7, guided, plain)
    known, new = (result["sets"][name] for name in SETS)
    assert (result["guidance"], result["layers"], result["seed"], result["steps"]) == ("adaptive", "late", 1, 7)
    assert (known["right"], known["shape"], known["distractor"], known["pairs"]) == (0.75, 0.75, 0.25, 4)
    # Of the known objects two are won; of the new ones one is lost, a shape for a shape.
    assert [known["more than none"][kind]["mean"] for kind in ("right", "shape")] == [0.5, 0.25]
    assert [new["more than none"][kind]["mean"] for kind in ("right", "shape")] == [-0.25, 0]
    assert "more than none" not in run_result(runs["none-1"], 7, plain, None)["sets"][SETS[0]]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guidance")
    setup = save_setup(folder)
    save_setup(folder, {**SETTINGS, "vision_backbone": str(setup / "vision")})
    options = {"output": folder / "runs", "config": folder / "settings.yaml", "seeds": 0, "pairs": 60, "test-pairs": 3}
    options |= {"size": 64, "depth": 2, "max-steps": 1}
    return setup, [word for name, value in options.items() for word in (f"--{name}", str(value))]


def test_every_guidance_is_trained_as_it_is_called_and_finished_runs_are_kept(
    arguments, monkeypatch, capsys, tmp_path
):
    setup, argv = arguments
    monkeypatch.setattr(image_guidance, "text_backbone", lambda folder: setup / "text")
    file = tmp_path / "result.json"
    main([*argv, "--result", str(file)])
    result = json.loads(file.read_text())
    assert len(result["runs"]) == 7 and all(run["steps"] == 1 for run in result["runs"])
    output = parse_options(argv).output
    trained = {run.name: SpectraSumConfig.from_pretrained(output / run.name) for run in variants([0])}
    assert trained["none-0"].image_guidance == "none"
    for name, config in trained.items():
        guidance, _, layers = name.rpartition("-0")[0].partition("-")
        if guidance != "none":
            assert config.image_guidance == "bidirectional"
            assert config.guidance_span == {"early": (1, 1), "late": (2, 2)}[layers]
            assert (config.guidance_weights == "mean") == (guidance == "mean")
            assert (config.guidance_former == "linear") == (guidance == "linear")
    out = capsys.readouterr().out
    table = out[out.index("Known objects, 3 pairs") :]
    assert "| adaptive | late | 0 |" in table
    # Trainings and answers are there.
    monkeypatch.setattr(image_guidance, "train", None)
    monkeypatch.setattr(image_guidance, "load_model", None)
    main(argv)
    assert capsys.readouterr().out == table
    assert trained["none-0"].image_size == IMAGE_SIZE
