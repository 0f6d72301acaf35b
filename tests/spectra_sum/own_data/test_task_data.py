"""Instructions about images, from every layout that tasks read, and one clear line for what cannot be read."""

import json
import re

import datasets
import pytest

from spectra_sum.cli import main
from spectra_sum.msmo.closed_world import closed_world_dataset
from spectra_sum.own_data.columns import find_columns, parse_columns
from spectra_sum.own_data.formats import OwnDataError, find_source
from spectra_sum.own_data.image_folders import ImageFolders
from spectra_sum.own_data.loading import load_any, load_split, load_splits
from spectra_sum.own_data.stories import story_content
from spectra_sum.tasks.task import CHANGE_CAPTIONING, GROUP_CAPTIONING, STORYTELLING, SUMMARIZATION
from tests.tasks import QUESTION, annotation, sam_records, write_image, write_sam, write_vist
from tests.tiny import tiny_tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def colours(records):
    return [[image.convert("RGB").getpixel((0, 0)) for image in images] for images in records["images"]]


@pytest.mark.parametrize("images", ["photos", "some/photos", ""])
def test_annotations_as_sam_has_them(tmp_path, images):
    """Images lie beside the file or in a folder there, and keep their order; a record without an instruction gets the task's."""
    file = write_sam(tmp_path / "data", sam_records(), images)
    told = []
    records = load_split(str(file), "test", task=GROUP_CAPTIONING, report=told.append)
    assert list(records["id"]) == [str(100 + number) for number in range(6)]
    asked = [GROUP_CAPTIONING.instruction, QUESTION, QUESTION] * 2
    assert list(records["article"]) == asked
    assert list(records["summary"]) == [[f"Both pictures show a red boat, number {number}."] for number in range(6)]
    assert colours(records) == [[(number, 0, 9), (number, 1, 9)] for number in range(6)]
    assert set(records["title"]) == {""} and list(records["gold_images"]) == [[]] * 6
    assert told == [
        f"{file} (JSON): id = id, instruction = instruction, answer = output, images = img_list; none is captions, alt_texts",
        f"{file}: 2 of 6 records have the task's instruction, {GROUP_CAPTIONING.instruction!r}",
    ]


def test_a_path_of_its_own_comes_before_a_folder_beside(tmp_path):
    records = sam_records(2)
    file = write_sam(tmp_path, records)
    write_image(tmp_path / "0_b.png", (77, 7, 7))
    assert colours(load_split(str(file), "test", task=GROUP_CAPTIONING))[0] == [(77, 7, 7), (0, 1, 9)]
    records[1]["img_list"] = ["photos/1_a.png"]
    file.write_text(json.dumps(records))
    assert colours(load_split(str(file), "test", task=GROUP_CAPTIONING))[1] == [(1, 1, 9)]


def test_an_image_in_two_folders_is_told(tmp_path):
    file = write_sam(tmp_path, sam_records(2))
    write_image(tmp_path / "old" / "1_a.png", (0, 0, 0))
    message = r"article 101 \(column 'img_list'\): the image '1_a.png' lies in several folders \(old/1_a.png, photos/1_a.png\); "
    with pytest.raises(OwnDataError, match=message + "give its path from"):
        load_split(str(file), "test", task=GROUP_CAPTIONING)


def test_a_moved_image_is_found_again(tmp_path):
    """What `datasets` keeps of an earlier reading depends on where the images lay."""
    file = write_sam(tmp_path, sam_records(2))
    load_split(str(file), "test", task=GROUP_CAPTIONING)
    (tmp_path / "photos").rename(tmp_path / "pictures")
    assert colours(load_split(str(file), "test", task=GROUP_CAPTIONING))[1] == [(1, 0, 9), (1, 1, 9)]


def test_missing_images_are_reported(tmp_path):
    file = write_sam(tmp_path, sam_records(3))
    (tmp_path / "photos" / "1_a.png").unlink()
    told = []
    load_split(str(file), "test", task=GROUP_CAPTIONING, report=told.append)
    assert f"{file}: 1 of 6 images are broken or missing, and are left out where they are read:" in told


def test_images_in_linked_folders_stay_inside(tmp_path):
    file = write_sam(tmp_path / "data", sam_records(2), "../photos")
    (tmp_path / "data" / "photos").symlink_to(tmp_path / "photos")
    with pytest.raises(OwnDataError, match="is a link that leads out of"):
        load_split(str(file), "test", task=GROUP_CAPTIONING)


def test_summaries_are_read_as_ever(tmp_path):
    """Without a task an instruction is no article, and no folder is searched."""
    file = write_sam(tmp_path, sam_records(2))
    with pytest.raises(OwnDataError, match="no column is the article"):
        load_split(str(file), "test")
    with pytest.raises(OwnDataError, match="none of its 4 images can be read"):
        load_split(str(file), "test", columns=["text=output"], need_summaries=False)
    with pytest.raises(OwnDataError, match="an article has no 'instruction'"):
        parse_columns(["instruction=question"])


def test_columns_by_the_task_s_own_words(tmp_path):
    rows = [{"nr": 1, "q": QUESTION, "a": "A boat.", "pictures": ["1.png", "2.png"], "title": "Boats"}]
    for name in rows[0]["pictures"]:
        write_image(tmp_path / name, (1, 2, 3))
    (tmp_path / "x.jsonl").write_text(json.dumps(rows[0]) + "\n")
    told = []
    columns = ["id=nr", "instruction=q", "answer=a"]
    (record,) = load_split(
        str(tmp_path / "x.jsonl"), "test", columns=columns, task=CHANGE_CAPTIONING, report=told.append
    )
    assert (record["id"], record["article"], record["summary"], record["title"]) == ("1", QUESTION, ["A boat."], "")
    assert told[0].endswith(
        "id = nr, instruction = q, answer = a, images = pictures; none is captions, alt_texts; not read: title"
    )


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (
            ["title=name"],
            "a record of group-captioning has no 'title'; it has id, instruction, answer, images, captions",
        ),
        (["gold_images=x"], "a record of group-captioning has no 'gold_images'"),
        (["instruction=a", "article=b"], "instruction is given twice, as 'a' and 'b'"),
    ],
)
def test_wrong_assignments(assignments, message):
    with pytest.raises(OwnDataError, match=message):
        parse_columns(assignments, GROUP_CAPTIONING)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (
            ["instruction", "answer"],
            "data: no column is the images; it has 'instruction', 'answer'; name it with --columns images=",
        ),
        (["question", "prompt", "images"], "could be the instruction; choose with --columns instruction=prompt."),
    ],
)
def test_columns_that_cannot_be_told(known, message):
    with pytest.raises(OwnDataError, match=message):
        find_columns("data", known, {}, GROUP_CAPTIONING)


def test_records_that_ask_the_same_keep_ids_of_their_own(tmp_path):
    records = [{**record, "output": "A boat."} for record in sam_records(3)]
    for record in records:
        del record["id"], record["instruction"]
    names = list(load_split(str(write_sam(tmp_path, records)), "test", task=STORYTELLING)["id"])
    assert len(set(names)) == 3 and all(len(name) == 16 for name in names)
    # It stays where rows are sorted otherwise.
    assert list(load_split(str(write_sam(tmp_path, records[::-1])), "test", task=STORYTELLING)["id"]) == names[::-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img_list": []}, "1 of 2 records have no images, '101' among them, and group-captioning is about images"),
        ({"output": ""}, "1 of 2 articles have no answer, '101' among them; .*--columns answer=NAME"),
        ({"instruction": {"text": "a"}}, r"article 10. \(column 'instruction'\): the article is a dict"),
    ],
)
def test_malformed_records(tmp_path, change, message):
    records = [sam_records()[0], {**sam_records()[1], **change}]
    if isinstance(change.get("instruction"), dict):
        records[0] |= change
    with pytest.raises(OwnDataError, match=message):
        load_split(str(write_sam(tmp_path, records)), "test", task=GROUP_CAPTIONING)


def test_the_closed_world_has_no_instructions():
    with pytest.raises(
        OwnDataError, match="closed_world holds articles, and storytelling reads instructions with images"
    ):
        load_split("closed_world", "test", task=STORYTELLING)


def test_titles_of_ready_articles_are_not_read(tmp_path):
    articles = closed_world_dataset({"test": 3}, seed=1)["test"]
    datasets.DatasetDict({"test": articles}).save_to_disk(tmp_path / "saved")
    told = []
    records = load_split(str(tmp_path / "saved"), "test", task=GROUP_CAPTIONING, report=told.append)
    assert told == [f"{tmp_path / 'saved'}: the titles of 3 test records are not read (group-captioning)"]
    assert set(records["title"]) == {""} and list(records["article"]) == list(articles["article"])
    assert records.column_names == articles.column_names and records.features == articles.features


def test_streams_get_the_instruction(tmp_path):
    records = sam_records(3)
    for record in records:
        del record["instruction"]
    file = write_sam(tmp_path, records)
    told = []
    (stream,) = load_splits(find_source(str(file)), streaming=True, task=GROUP_CAPTIONING, report=told.append).values()
    assert [row["article"] for row in stream] == [GROUP_CAPTIONING.instruction] * 3
    assert told[-1] == f"{file}: all records get the task's instruction, {GROUP_CAPTIONING.instruction!r}"


# Stories


def story_photos(story, *places, folder="images/", ending=".jpg"):
    return {f"{folder}{story}{place}{ending}": (200, story * 9, place * 9) for place in places}


def close_to(found, expected):
    """JPEG does not keep colours exactly."""
    return all(
        abs(a - b) <= 4 for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_stories_as_vist_has_them(tmp_path):
    """Sentences and photos in the order of the story, wherever and in whatever format the photos lie."""
    annotations = [annotation(story, place) for place in (2, 0, 1) for story in (7, 5)]
    annotations[0][0]["original_text"] = None
    photos = story_photos(7, 0, 1, 2) | story_photos(5, 0, 1, 2, folder="images/train/", ending=".png")
    file = write_vist(tmp_path / "train.story-in-sequence.json", annotations, photos)
    told = []
    records = load_split(str(file), "train", task=STORYTELLING, report=told.append)
    assert list(records["id"]) == ["7", "5"]
    assert set(records["article"]) == {STORYTELLING.instruction} and set(records["title"]) == {""}
    sentences = [[f"In picture {place} of story {story} we walk on." for place in range(3)] for story in (7, 5)]
    sentences[0][2] = "in picture we walk on ."
    assert list(records["summary"]) == sentences
    for found, story in zip(colours(records), (7, 5), strict=True):
        assert close_to(found, [(200, story * 9, place * 9) for place in range(3)])
    assert told[0] == (
        f"{file} (JSON): id = story_id, answer = original_text, images = photo_flickr_id; none is instruction, captions, "
        "alt_texts"
    )
    assert told[1] == f"{file}: 2 of 2 records have the task's instruction, {STORYTELLING.instruction!r}"


def test_stories_that_lack_a_photo_are_counted(tmp_path):
    annotations = [annotation(story, place) for story in (3, 4, 5, 6) for place in range(2)]
    # Two photos at one place: nobody knows their order.
    annotations[-1][0]["worker_arranged_photo_order"] = 0
    photos = story_photos(3, 0) | story_photos(4, 0, 1) | story_photos(6, 0, 1)
    file = write_vist(tmp_path / "val.json", annotations, photos)
    told = []
    assert list(load_split(str(file), "validation", task=STORYTELLING, report=told.append)["id"]) == ["4"]
    assert (
        f"{file}: 2 of 4 stories lack a photo and are left out: there is no 31.jpg (or .png, …) of story 3 in its folder or in "
        "the folders there"
    ) in told
    assert f"{file}: 1 of 4 stories have two photos at one place and are left out, 6 among them" in told
    assert any(
        "2 of 4 stories lack a photo" in line for line in load_any(find_source(str(file)), task=STORYTELLING).lines()
    )


def test_splits_of_a_folder_of_stories(tmp_path):
    for split, story in (("train", 1), ("val", 2), ("test", 3)):
        file = tmp_path / "sis" / f"{split}.story-in-sequence.json"
        write_vist(file, [annotation(story, place) for place in range(2)], story_photos(story, 0, 1))
    splits = load_splits(find_source(str(tmp_path / "sis")), task=STORYTELLING)
    assert {name: list(records["id"]) for name, records in splits.items()} == {
        "train": ["1"],
        "validation": ["2"],
        "test": ["3"],
    }


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([], "it holds no stories; its annotations are empty"),
        ([annotation(1, 0), ["text"]], "annotation 2 is a str; it must be an object, or a list of one"),
        ([annotation(None, 0)], "annotation 1 has no 'story_id'"),
        ([annotation(1, 0, photo_flickr_id=" ")], "annotation 1 has no 'photo_flickr_id'"),
        (
            [annotation(1, "first")],
            "annotation 1: 'worker_arranged_photo_order' is 'first'; it must be the photo's place",
        ),
        ([annotation(1, 0, original_text="", text=" ")], "annotation 1 has no 'original_text' and no 'text'"),
        ([annotation(1, 0)], "1 of 1 stories lack a photo .* no story is left; put the photos there"),
    ],
)
def test_malformed_stories(tmp_path, annotations, message):
    file = write_vist(tmp_path / "stories.json", annotations, {})
    with pytest.raises(OwnDataError, match=f"stories.json: {message}|stories.json: .*{message}") as caught:
        load_split(str(file), "test", task=STORYTELLING)
    assert "\n" not in str(caught.value)


def test_what_stories_do_not_go_with(tmp_path):
    file = write_vist(tmp_path / "stories.json", [annotation(1, 0)], story_photos(1, 0))
    with pytest.raises(OwnDataError, match="columns: those of stories in VIST's layout are known"):
        load_split(str(file), "test", columns=["answer=text"], task=STORYTELLING)
    with pytest.raises(OwnDataError, match="stories in VIST's layout are read whole; leave streaming out"):
        load_splits(find_source(str(file)), streaming=True, task=STORYTELLING)
    assert story_content(file) is not None
    (tmp_path / "lines.json").write_text('{"images": [], "annotations": []}\n{"images": [], "annotations": []}\n')
    assert story_content(tmp_path / "lines.json") is None
    assert story_content(write_sam(tmp_path, sam_records(1))) is None


def test_files_of_one_name_by_their_stem(tmp_path):
    for place in ("b/1.png", "a/1.jpg", "1.webp", "a/b/c/2.png", ".hidden/3.png", "a/4.txt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    folders = ImageFolders.of(tmp_path)
    assert folders.by_stem() == {"1": "1.webp"}
    assert [folders.find(name) for name in ("1.jpg", "1.webp", "2.png", "x/1.jpg")] == [
        "a/1.jpg",
        "1.webp",
        "2.png",
        "x/1.jpg",
    ]


# Linked pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linked") / "pairs"
    assert (
        main(["data", "linked-pairs", "--closed-world", "--pairs", "9", "--size", "64", "--output", str(folder)]) == 0
    )
    return folder


def test_linked_pairs_are_the_same_in_both_layouts(pairs):
    saved = datasets.load_from_disk(pairs / "dataset")
    for split, rows in saved.items():
        layouts = [load_split(str(place), split, task=GROUP_CAPTIONING) for place in (pairs, pairs / "dataset")]
        for records in layouts:
            assert list(records["id"]) == list(rows["id"])
            assert list(records["article"]) == list(rows["instruction"])
            assert list(records["summary"]) == [[answer] for answer in rows["answer"]]
            assert set(records["title"]) == {""}
            pixels = [[image.convert("RGB").tobytes() for image in images] for images in records["images"]]
            assert pixels == [[image.convert("RGB").tobytes() for image in images] for images in rows["images"]]


def test_the_data_command_tells_what_a_task_reads(pairs, tmp_path, capsys):
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")

    def check(data, task, *options):
        options = "--task", task, "--tokenizer", tmp_path / "tokenizer", *options
        return main(["data", "check", str(data), *map(str, options)])

    assert check(pairs / "dataset", "group-captioning", "--records", "1") == 0
    out = capsys.readouterr().out
    assert (
        "id = id, instruction = instruction, answer = answer, images = images; none is captions, alt_texts; not read: "
        in out
    )
    assert re.search(r"\n  answers +\d\n", out) and "gold images" not in out and "    instruction " in out
    assert check(pairs, "group-captioning") == 0
    file = write_vist(tmp_path / "stories.json", [annotation(1, 0), annotation(2, 0)], story_photos(1, 0))
    assert check(file, "storytelling") == 0
    out = capsys.readouterr().out
    assert "1 of 2 stories lack a photo and are left out" in out and "articles\n" in out
    assert check(file, "change-captioning") == 2
    assert "spectra-sum: error:" in capsys.readouterr().err


def test_a_task_says_what_its_records_are():
    assert not SUMMARIZATION.has_instructions and SUMMARIZATION.word("article") == "article"
    assert GROUP_CAPTIONING.word("article") == "instruction" and GROUP_CAPTIONING.word("images") == "images"
