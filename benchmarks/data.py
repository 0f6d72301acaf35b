"""Articles per second and memory of the MSMO builder, on synthetic copies of the dataset of several sizes.

    python benchmarks/data.py --articles 1000 10000 100000 --output benchmarks/results/data.json

A copy has the layout in which MSMO is distributed: one annotated split, about 650 words and 9 images an article, a caption
for each image. Its images and captions are hard links to a few hundred small files, so that a hundred thousand articles
fit on a common disk. Making it is not timed. Each measurement is a process of its own, on files that the system's cache
holds if they fit there. Beside the builder stands what one would write without `datasets`: plain Python that lists the
folders, reads the same texts and captions, opens the same images with Pillow and writes JSON Lines.
"""

import argparse
import collections
import hashlib
import itertools
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.process_memory import resident_memory  # noqa: E402

SPLIT, SPLIT_FOLDER = "test", "test_data"
WORDS, IMAGES = 650, 9
SECTIONS = re.compile(r"^@(title|body|summary)$", re.MULTILINE)
LEAST_DISTINCT_FILES = 256
# ext4 allows 65,000 links to a file.
LINKS_PER_FILE = 30_000
# Text, names in the folders, the builder's cache and its index: measured at 10,000 articles, and rounded up.
BYTES_PER_ARTICLE = 24_000
# From FLAT_FROM articles on, the builder's peak memory may grow by a tenth from one size to the next.
FLAT_FROM = 10_000
LARGEST_MEMORY_RATIO = 1.10


class DoesNotFit(Exception):
    """The disk has no room, or no inodes, for a copy; or cannot hold it at all."""


def check_room(folder: Path, articles: int) -> None:
    """Raises [`DoesNotFit`] if the disk of `folder` cannot hold a copy of so many articles and what is made from it."""
    disk = os.statvfs(folder)
    needed, free = articles * BYTES_PER_ARTICLE, disk.f_bavail * disk.f_frsize
    if needed > free:
        raise DoesNotFit(
            f"{articles:,} articles take {needed / 1e9:.1f} GB; the disk of {folder} has {free / 1e9:.1f} GB left: "
            "pass --folder on a larger disk, or fewer --articles"
        )
    # Each text is a file; images and captions are links. Some systems (btrfs) have no fixed number of inodes and say 0.
    inodes = articles + 2 * distinct_files(articles) + 1000
    if disk.f_files and inodes > disk.f_favail:
        raise DoesNotFit(
            f"{articles:,} articles take {inodes:,} inodes; the disk of {folder} has {disk.f_favail:,} left: "
            "pass --folder on another disk, or fewer --articles"
        )


def distinct_files(articles: int) -> int:
    """How many distinct images, and captions, the links of a copy lead to."""
    return max(LEAST_DISTINCT_FILES, 2 * IMAGES * articles // LINKS_PER_FILE + 1)


def make_copy(root: Path, articles: int, seed: int) -> dict[str, int]:
    """
    Makes a copy of MSMO in `root`. Equal arguments give equal files; what an interrupted call left is completed.

    Returns:
        `dict[str, int]`: The numbers of `articles`, `images`, and `gold` (articles with gold images).
    """
    folder, originals = root / SPLIT_FOLDER, root / "originals"
    for place in (folder / "article", folder / "img", folder / "caption", originals):
        place.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("aeioubdfgklmnprst", k=rng.randint(2, 9))) for _ in range(5000)]
    distinct = distinct_files(articles)
    for number in range(distinct):
        _draw(originals / f"{number}.jpg", rng)
        (originals / f"{number}.caption").write_text(" ".join(rng.choices(vocabulary, k=20)) + "\n")
    gold_of, totals = {}, {"articles": articles, "images": 0, "gold": 0}
    for number in tqdm(range(articles), desc=f"Making {articles:,} articles", unit=" articles"):
        name = hashlib.sha1(f"{seed}/{number}".encode()).hexdigest()
        rng = random.Random(f"{seed}/{number}")
        (folder / "article" / f"{name}.txt").write_text(_article(rng, vocabulary))
        images = rng.randint(0, 2 * IMAGES)
        for image in range(images):
            original = rng.randrange(distinct)
            _link(originals / f"{original}.jpg", folder / "img" / f"{name}_{image}.jpg")
            _link(originals / f"{original}.caption", folder / "caption" / f"{name}_{image}.caption")
        gold = sorted(rng.sample(range(images), k=min(images, 3)))
        gold_of[name] = " ".join(f"{name}_{image}.jpg" for image in gold) or "None"
        totals["images"] += images
        totals["gold"] += bool(gold)
    (folder / "image_annotation.txt").write_text("".join(f"{gold_of[name]}\n" for name in sorted(gold_of)))
    return totals


def _article(rng: random.Random, vocabulary: list[str]) -> str:
    words = rng.choices(vocabulary, k=rng.randint(WORDS // 2, WORDS * 3 // 2))
    body = "\n\n".join(" ".join(words[start : start + 60]) + "." for start in range(0, len(words), 60))
    summary = "\n".join(" ".join(rng.choices(vocabulary, k=20)) + "." for _ in range(rng.randint(2, 4)))
    return f"@title\n{' '.join(rng.choices(vocabulary, k=10))}\n\n@body\n{body}\n\n@summary\n{summary}\n"


def _draw(path: Path, rng: random.Random) -> None:
    from PIL import Image

    Image.frombytes("RGB", (8, 6), rng.randbytes(8 * 6 * 3)).resize((160, 120)).save(path)


def _link(original: Path, path: Path) -> None:
    try:
        os.link(original, path)
    except FileExistsError:
        return
    except OSError as error:
        raise DoesNotFit(
            f"{path.parent} takes no further hard links ({error.strerror}); pass --folder on a disk that does"
        ) from error


def measure_builder(root: Path, work: Path, num_proc: int) -> dict:
    """What [`~spectra_sum.msmo.load_msmo`] does, with the time and the peak memory after each of its steps."""
    from spectra_sum.msmo import MSMO

    class TimedMSMO(MSMO):
        def _split_generators(self, dl_manager):
            generators = super()._split_generators(dl_manager)
            steps.append(("index", time.perf_counter(), resident_memory()[1]))
            return generators

    after_imports, cpu_start = resident_memory()[0], time.process_time()
    steps = [("", time.perf_counter(), resident_memory()[1])]
    builder = TimedMSMO(root, cache_dir=work)
    steps.append(("fingerprint", time.perf_counter(), resident_memory()[1]))
    builder.download_and_prepare(num_proc=num_proc)
    steps.append(("prepare", time.perf_counter(), resident_memory()[1]))
    data = builder.as_dataset()
    steps.append(("open", time.perf_counter(), resident_memory()[1]))
    assert len(data[SPLIT]) == builder.integrity_report().splits[SPLIT].totals["records"]
    totals = builder.integrity_report().splits[SPLIT].totals
    return {
        "found": {"articles": totals["records"], "images": totals["images"], "gold": totals["articles_with_gold"]},
        "damage": builder.integrity_report().counts,
        "seconds": {name: end - start for (_, start, _), (name, end, _) in itertools.pairwise(steps)},
        "cpu_seconds": time.process_time() - cpu_start,
        "memory_after_imports": after_imports,
        "peak_memory_after": {name: peak for name, _, peak in steps[1:]},
        "peak_memory": steps[-1][2],
        "peak_memory_of_a_worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


def measure_plain(root: Path, work: Path, num_proc: int) -> dict:
    """Plain Python that reads the same files, without `datasets`, checks or a report."""
    from PIL import Image

    after_imports, start, cpu_start = resident_memory()[0], time.perf_counter(), time.process_time()
    folder = root / SPLIT_FOLDER
    images = collections.defaultdict(list)
    for name in os.listdir(folder / "img"):
        images[name.rpartition("_")[0]].append(name)
    captions = set(os.listdir(folder / "caption"))
    gold_of = (folder / "image_annotation.txt").read_text().splitlines()
    found = {"articles": 0, "images": 0, "gold": 0}
    with open(work / "records.jsonl", "w") as output:
        for file, gold in zip(sorted(os.listdir(folder / "article")), gold_of, strict=True):
            name = file.removesuffix(".txt")
            pieces = SECTIONS.split((folder / "article" / file).read_text())
            record = {"id": name, **dict(zip(pieces[1::2], pieces[2::2], strict=True))}
            record["images"] = sorted(images[name], key=lambda image: int(image.rpartition("_")[2].partition(".")[0]))
            record["captions"] = []
            for image in record["images"]:
                with Image.open(folder / "img" / image) as opened:
                    assert opened.width
                caption = image.replace(".jpg", ".caption")
                record["captions"].append((folder / "caption" / caption).read_text() if caption in captions else "")
            names = set(gold.split())
            record["gold_images"] = [index for index, image in enumerate(record["images"]) if image in names]
            output.write(json.dumps(record) + "\n")
            found["articles"] += 1
            found["images"] += len(record["images"])
            found["gold"] += bool(record["gold_images"])
    return {
        "found": found,
        "seconds": {"all": time.perf_counter() - start},
        "cpu_seconds": time.process_time() - cpu_start,
        "memory_after_imports": after_imports,
        "peak_memory": resident_memory()[1],
    }


MEASUREMENTS = {"plain": measure_plain, "builder": measure_builder}


def read_all(root: Path) -> None:
    """An untimed pass, so that no measurement pays for a disk that the next one finds in the system's cache."""
    for place in (root / SPLIT_FOLDER / "article", root / SPLIT_FOLDER / "img", root / SPLIT_FOLDER / "caption"):
        with os.scandir(place) as entries:
            for entry in tqdm(entries, desc=f"Reading {place.name}", unit=" files", delay=5):
                if place.name == "article":
                    Path(entry.path).read_bytes()
                else:
                    entry.stat()


def run_measurement(name: str, root: Path, folder: Path, num_proc: int) -> dict:
    """Runs one of `MEASUREMENTS` in a new process; its cache is deleted."""
    with tempfile.TemporaryDirectory(prefix="cache-", dir=folder) as work:
        result = Path(work) / "result.json"
        command = [sys.executable, __file__, "--measure", name, str(root), "--num-proc", str(num_proc)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        subprocess.run([*command, "--output", str(result)], env=environment, check=True)
        return json.loads(result.read_text())


def copy_folder(folder: Path, articles: int, seed: int) -> Path:
    return folder / f"msmo-{articles}-articles-seed-{seed}"


def totals_file(folder: Path, articles: int, seed: int) -> Path:
    """What [`make_copy`] returned for a copy: it stands beside one that is complete."""
    return copy_folder(folder, articles, seed).with_suffix(".json")


def measure_size(folder: Path, articles: int, seed: int, num_proc: int) -> dict:
    """Makes a copy in `folder`, or finds it there, and measures."""
    root = copy_folder(folder, articles, seed)
    made_file = totals_file(folder, articles, seed)
    if not made_file.is_file():
        made_file.write_text(json.dumps(make_copy(root, articles, seed)))
    made = json.loads(made_file.read_text())
    read_all(root)
    row = {"articles": articles, "images": made["images"]}
    for name in MEASUREMENTS:
        measured = row[name] = run_measurement(name, root, folder, num_proc)
        if measured["found"] != made or measured.get("damage"):
            raise RuntimeError(f"{name} found {measured['found']}, damaged {measured.get('damage')}; made was {made}")
        measured["articles_per_second"] = articles / sum(measured["seconds"].values())
        measured["memory_growth"] = measured["peak_memory"] - measured["memory_after_imports"]
    row["speed_ratio"] = row["builder"]["articles_per_second"] / row["plain"]["articles_per_second"]
    return row


def compare_memory(rows: list[dict], num_proc: int) -> list[dict]:
    """For each size after the first, the memory against the size before it; flat where that of every process is."""
    peaks = ("peak_memory", "peak_memory_of_a_worker") if num_proc > 1 else ("peak_memory",)
    return [
        {
            "articles": [smaller["articles"], larger["articles"]],
            "flat": all(larger["builder"][key] <= LARGEST_MEMORY_RATIO * smaller["builder"][key] for key in peaks),
            "largest_worker": larger["builder"][peaks[1]] / smaller["builder"][peaks[1]] if num_proc > 1 else None,
            **{
                name: {key: larger[name][key] / smaller[name][key] for key in ("peak_memory", "memory_growth")}
                for name in MEASUREMENTS
            },
        }
        for smaller, larger in itertools.pairwise(rows)
    ]


def render(result: dict) -> str:
    """The result as Markdown."""
    steps = ("fingerprint", "index", "prepare", "open")
    common = "articles/s | CPU s | peak MB | growth MB"
    lines = [
        f"Builder in {result['settings']['num_proc']} process(es) beside plain Python; growth is the peak memory over that "
        "after the imports",
        "",
        f"| articles | images | builder: {common} | " + " | ".join(f"{step} s" for step in steps) + " | "
        f"plain Python: {common} | speed, builder/plain |",
        "|" + "---:|" * 15,
    ]
    for row in result["sizes"]:
        cells = [f"{row['articles']:,}", f"{row['images']:,}"]
        for name in ("builder", "plain"):
            measured = row[name]
            cells += [f"{measured['articles_per_second']:,.0f}", f"{measured['cpu_seconds']:,.1f}"]
            cells += [f"{measured[key] / 1e6:,.1f}" for key in ("peak_memory", "memory_growth")]
            cells += [f"{measured['seconds'][step]:.2f}" for step in steps if name == "builder"]
        lines.append("| " + " | ".join([*cells, f"{row['speed_ratio']:.2f}"]) + " |")
    lines.append("")
    for ratio in result["memory_ratios"]:
        small, large = ratio["articles"]
        builder, plain = (
            f"{ratio[name]['peak_memory']:.3f} (growth {ratio[name]['memory_growth']:.2f})"
            for name in ("builder", "plain")
        )
        if ratio["largest_worker"] is not None:
            builder += f", its largest worker {ratio['largest_worker']:.3f}"
        verdict = (
            f"; at most {LARGEST_MEMORY_RATIO:.2f}: {'met' if ratio['flat'] else 'NOT met'}"
            if small >= FLAT_FROM
            else ""
        )
        lines.append(f"Peak memory, {large:,} articles / {small:,}: builder {builder}, plain Python {plain}{verdict}")
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n".join([*lines, "", f"{result['hardware']['processor']}; {versions}", ""])


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    sizes = parser.add_argument("--articles", type=int, nargs="+", default=[1000, 10_000, 100_000], metavar="N")
    sizes.help = "sizes of the copies, rising (default: 1000 10000 100000)"
    parser.add_argument("--num-proc", type=int, default=1, help="processes of the builder (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the copies here, and use those that are here")
    parser.add_argument("--output", type=Path, help="write the result to this JSON file")
    parser.add_argument("--markdown", type=Path, help="write the table to this Markdown file")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if min(options.articles) < 1 or sorted(set(options.articles)) != options.articles or options.num_proc < 1:
        parser.error("--articles must be rising numbers from 1, --num-proc at least 1")
    for path in (options.output, options.markdown):
        if path is not None and not path.parent.is_dir():
            parser.error(f"{path}: there is no folder {path.parent}; make it first")
    if not Path("/proc/self/status").is_file():
        parser.error("the peak memory is read from /proc, which this system does not have")
    return options


def main() -> None:
    options = parse_options()
    if options.measure is not None:
        name, root = options.measure
        measured = MEASUREMENTS[name](Path(root), options.output.parent, options.num_proc)
        options.output.write_text(json.dumps(measured))
        return

    folder = options.folder or Path(tempfile.mkdtemp(prefix="msmo-benchmark-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        missing = [n for n in options.articles if not totals_file(folder, n, options.seed).is_file()]
        # Copies in a temporary folder are there one at a time.
        check_room(folder, max(sum(missing), options.articles[-1]) if options.folder else options.articles[-1])
        rows = []
        for articles in options.articles:
            rows.append(measure_size(folder, articles, options.seed, options.num_proc))
            if options.folder is None:
                shutil.rmtree(copy_folder(folder, articles, options.seed))
    except DoesNotFit as error:
        sys.exit(f"data.py: {error}")
    finally:
        if options.folder is None:
            shutil.rmtree(folder)

    from spectra_sum.environment import describe_commit, describe_hardware, describe_versions

    result = {
        "sizes": rows,
        "memory_ratios": compare_memory(rows, options.num_proc),
        "settings": {
            "num_proc": options.num_proc,
            "seed": options.seed,
            "verify": "header",
            "words_per_article": WORDS,
            "images_per_article": IMAGES,
            "split": SPLIT,
        },
        "hardware": describe_hardware(),
        "commit": describe_commit(),
        "versions": describe_versions(("datasets", "pyarrow", "pillow")),
    }
    table = render(result)
    print(table)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    if options.markdown is not None:
        options.markdown.write_text(table)


if __name__ == "__main__":
    main()
