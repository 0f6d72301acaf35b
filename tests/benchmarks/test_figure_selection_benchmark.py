"""The benchmark of figure selection: its scores against enumeration and scipy, its draws, and a run that goes on."""

import argparse
import itertools
import json
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks import figure_selection
from benchmarks.figure_selection import Section, draw_foreign, measure, read_summaries
from benchmarks.figure_selection_results import aggregate, area_under_curve, own_share, precision
from tests.tiny import picture

SCORES = st.lists(st.sampled_from([None, -1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=4)
WORDS = ["river", "king", "cell", "star", "vote", "stone", "dance", "metal"]


@given(SCORES, SCORES)
def test_the_area_under_the_curve_is_that_of_mann_and_whitney(own, foreign):
    numbers = [[-9.0 if score is None else score for score in scores] for scores in (own, foreign)]
    expected = stats.mannwhitneyu(*numbers).statistic / (len(own) * len(foreign))
    assert area_under_curve(own, foreign) == pytest.approx(expected)


@given(SCORES, SCORES, st.integers(1, 3))
def test_the_share_of_own_figures_is_the_mean_over_the_orders_of_equal_ones(own, foreign, count):
    """By enumeration of all orders that the scores allow."""
    items = [(-9.0 if score is None else score, True) for score in own]
    items += [(-9.0 if score is None else score, False) for score in foreign]
    items = items[:6]
    own, foreign = ([score for score, is_own in items if is_own is kind] for kind in (True, False))
    shares = []
    for order in itertools.permutations(items):
        if all(one[0] >= other[0] for one, other in itertools.pairwise(order)):
            best = order[:count]
            shares.append(sum(is_own for _, is_own in best) / len(best))
    assert own_share(own, foreign, count) == pytest.approx(np.mean(shares))


def test_scores_by_hand():
    assert area_under_curve([3.0, 1.0], [2.0, 0.0]) == 0.75
    assert area_under_curve([None], [None, 1.0]) == 0.25
    assert own_share([3.0, 1.0], [2.0, 0.0], 3) == pytest.approx(2 / 3)
    assert own_share([1.0], [1.0, 1.0, 1.0], 3) == pytest.approx(1 / 4)
    assert precision([4, 0, 2], [0, 2, 3]) == pytest.approx(2 / 3)
    assert precision([], [1]) == 0.0


def section(name: str, book: str, words: list[str], gold: list[int] | None = None) -> Section:
    captions = [f"A picture of a {word}." for word in words]
    alts = [f"Drawing: {word}." for word in words]
    summary = [f"The {words[0]} matters most."]
    return Section(name, book, f"All about the {words[0]}. It is old.", summary, captions, alts, gold or [])


def test_foreign_figures_are_those_of_other_sections_of_the_book():
    sections = [section("a", "one", ["river", "king"]), section("b", "one", ["cell", "star"])]
    sections += [section("c", "two", ["vote", "stone"]), section("d", "one", ["vote"])]
    drawn = draw_foreign(sections[0], sections, 0)
    assert len(drawn) == len(set(drawn)) == 2
    assert set(drawn) <= {*sections[1].figures(), *sections[3].figures()}
    assert drawn == draw_foreign(sections[0], sections, 0)
    assert len({tuple(draw_foreign(sections[0], sections, seed)) for seed in range(20)}) > 2
    assert draw_foreign(sections[2], sections, 0) == []


class WordCounts:
    """An encoder of texts by the words of `WORDS` in them, and a little of what else they are."""

    name, revision = "words", None

    def embed(self, texts):
        rows = []
        for text in texts:
            other = np.random.default_rng(zlib.crc32(text.encode())).normal(scale=0.1, size=4)
            rows.append([*(3.0 * (word in text.lower()) for word in WORDS), *other])
        return torch.nn.functional.normalize(torch.tensor(np.array(rows), dtype=torch.float32), dim=-1)


def test_both_tests_on_one_section():
    sections = [section("a", "one", ["river", "king"], [0]), section("b", "one", ["cell", "star", "vote"], [2])]
    encoder = figure_selection.RememberingEncoder(WordCounts())
    options = argparse.Namespace(seed=0, draws=2)

    def of(place, summary):
        return measure(sections[place], sections, summary, encoder, options)

    right, wrong = of(0, ["The river and the king."]), of(0, ["Cell, star and vote."])
    for source in ("alt", "caption", "both"):
        assert right["separation"][source] == {"own_share": pytest.approx(2 / 3), "auc": 1.0}
        assert wrong["separation"][source]["auc"] == 0.0
    assert set(right["gold"]) == {
        "alt, relevance",
        "caption, relevance",
        "both, relevance",
        "both, mmr",
        "both, dpp-map",
    }
    assert of(0, ["The river."])["gold"]["caption, relevance"] == {"precision_at_1": 1.0, "precision_at_3": 0.5}
    assert of(0, ["The king."])["gold"]["caption, relevance"] == {"precision_at_1": 0.0, "precision_at_3": 0.5}
    without = of(0, None)
    assert set(without["separation"]) == {"random"}
    assert without["gold"]["first"] == {"precision_at_1": 1.0, "precision_at_3": 0.5}
    # Three figures have only two others to stand among.
    assert of(1, ["Cell."])["separation"] == {} and of(1, ["Cell."])["gold"]


def test_means_and_differences_over_sections():
    def row(both, caption):
        systems = {"both": {"auc": both}, "caption": {"auc": caption}}
        return {"id": str(both), "summary": "reference", "separation": systems, "gold": {}}

    gold = {"first": {"precision_at_3": 1.0}}
    rows = [row(1.0, 0.5), row(0.5, 0.5), {"id": "c", "summary": "none", "separation": {}, "gold": gold}]
    result = aggregate(rows)
    assert result["separation"]["sections"] == 2 and result["gold"]["sections"] == 1
    assert result["separation"]["scores"]["reference"]["both"]["auc"]["value"] == 0.75
    assert result["separation"]["both_minus_caption"]["reference"]["mean"] == 0.25
    assert result["gold"]["scores"]["none"]["first"]["precision_at_3"] == {"value": 1.0, "low": 1.0, "high": 1.0}


@pytest.fixture
def copy(tmp_path):
    """A copy in the MSMO layout of four sections a split, two figures each, all of one book."""
    root = tmp_path / "data"
    for split in ("valid_data", "test_data"):
        for folder in ("article", "img", "caption", "alt"):
            (root / split / folder).mkdir(parents=True)
        sources, gold = ["image\tbook\tcommit\tmodule\tfile\tcredit"], []
        for number in range(4):
            name = f"{split[0]}{number}" * 20
            words = WORDS[2 * number : 2 * number + 2]
            (root / split / "article" / f"{name}.txt").write_text(
                f"@title\nOf things\n\n@body\nAbout {words[0]} and {words[1]}.\n\n@summary\n{words[0]}, {words[1]}.\n"
            )
            for figure, word in enumerate(words):
                picture(number).save(root / split / "img" / f"{name}_{figure}.jpg")
                (root / split / "caption" / f"{name}_{figure}.caption").write_text(f"The {word}.")
                (root / split / "alt" / f"{name}_{figure}.alt").write_text(f'A "{word}"')
                sources.append(f'{name}_{figure}.jpg\tbook\tabc\tm1\t{word}.jpg\t(credit: "me)')
            gold.append(f"{name}_0.jpg")
        (root / split / "sources.tsv").write_text("\n".join(sources) + "\n")
        (root / split / "image_annotation.txt").write_text("\n".join(gold) + "\n")
    return root


def test_a_run_goes_on_and_gives_the_same_result(copy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figure_selection, "load_text_encoder", lambda name: WordCounts())
    sections, _ = figure_selection.read_sections(copy, "test")
    assert [len(one.captions) for one in sections] == [2] * 4 and {one.book for one in sections} == {"book"}
    assert sections[0].alts[0].startswith('A "') and sections[0].gold == [0]
    predictions = tmp_path / "mine.jsonl"
    lines = [json.dumps({"id": one.id, "summary": " ".join(one.captions)}) for one in sections]
    predictions.write_text("\n".join(lines) + "\n")
    arguments = ["--data", str(copy), "--predictions", str(predictions), "--draws", "2"]
    rows, output = tmp_path / "rows.jsonl", tmp_path / "result.json"
    figure_selection.main([*arguments, "--rows", str(rows), "--output", str(output)])
    result = json.loads(output.read_text())
    scores = result["splits"]["test"]["separation"]["scores"]
    assert scores["mine"]["caption"]["auc"]["value"] == 1.0
    assert "mine" not in result["splits"]["validation"]["separation"]["scores"]
    assert result["goals"] == [{"summary": "mine", "auc": 1.0, "met": True}]
    assert "by captions and mine, test: 1.000, met" in capsys.readouterr().out

    whole = rows.read_text().splitlines(keepends=True)
    # No summary and three own ones a section, and the given one on the test split.
    assert len(whole) == 1 + 8 * 4 + 4
    rows.write_text("".join(whole[:7]) + whole[7][:20])
    figure_selection.main([*arguments, "--rows", str(rows), "--output", str(output)])
    assert rows.read_text().splitlines(keepends=True) == whole
    assert json.loads(output.read_text())["splits"] == result["splits"]
    predictions.write_text("\n".join([lines[0].replace("The", "A"), *lines[1:]]) + "\n")
    figure_selection.main([*arguments, "--rows", str(rows)])
    assert len(rows.read_text().splitlines()) == len(whole) + 1
    with pytest.raises(SystemExit, match="other settings or data"):
        figure_selection.main([*arguments, "--seed", "1", "--rows", str(rows)])


def test_a_split_has_summaries_of_all_of_its_sections_or_of_none(tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_text('{"id": "a", "summary": "A."}\n{"id": "b", "summary": "B."}\n')
    assert read_summaries(path, {"test": ["a", "b"], "validation": ["c"]}) == {"a": "A.", "b": "B."}
    with pytest.raises(SystemExit, match="1 test sections have no summary, c among them"):
        read_summaries(path, {"test": ["a", "c"]})
    path.write_text('{"id": "a"}\n')
    with pytest.raises(SystemExit, match="no JSON lines with id and summary: KeyError"):
        read_summaries(path, {"test": ["a"]})
