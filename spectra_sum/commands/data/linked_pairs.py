"""`spectra-sum data linked-pairs --output FOLDER`: pairs of images that share one object."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...documents.parts import printable
from ..arguments import UsageError, natural, positive, share

if TYPE_CHECKING:
    from ...linked_pairs.counts import Counts
    from ...linked_pairs.objects import Group
    from ...linked_pairs.scenes import Scene

_MAX_EXAMPLES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the step, and adds its arguments to its parser."""
    parser.description = (
        "Makes pairs of images that share one object in two poses, each with a different second object, on different "
        "backgrounds; an instruction asks for the shared object and the answer describes it (the recipe of MmLINK). Written in "
        "the MSMO layout and as a folder of datasets. Exit code 0; 1 where files are damaged or pairs were given up."
    )
    objects = parser.add_mutually_exclusive_group(required=True)
    objects.add_argument(
        "--groups",
        type=Path,
        metavar="FOLDER",
        help="a folder for each object, with two cut-outs of it or more: RGBA files, NAME.png with a mask NAME_mask.png, or "
        "with --segment photographs",
    )
    objects.add_argument(
        "--closed-world",
        action="store_true",
        help="objects of the closed world, and without --backgrounds and --inpaint its scenes",
    )
    backgrounds = parser.add_mutually_exclusive_group()
    backgrounds.add_argument("--backgrounds", type=Path, metavar="FOLDER", help="images, also in inner folders")
    backgrounds.add_argument(
        "--inpaint",
        metavar="MODEL",
        help="folder or Hub id of an inpainting pipeline of diffusers, which paints backgrounds around the objects (needs "
        "spectra-sum[inpaint])",
    )
    parser.add_argument(
        "--photographs",
        action="store_true",
        help="leave out backgrounds of which much has one colour, such as drawings",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run has written to FOLDER")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="a PNG with twelve of the pairs, to be looked at")
    parser.add_argument("--pairs", type=positive, default=1000, help="how many, of all splits (default: %(default)s)")
    parser.add_argument(
        "--seed", type=natural, default=0, help="the same inputs and seed give the same bytes (default: 0)"
    )
    parser.add_argument(
        "--size", type=positive, default=512, help="side of the images in pixels (default: %(default)s)"
    )
    group = parser.add_argument_group("models")
    group.add_argument(
        "--segment",
        metavar="MODEL",
        help="folder or Hub id of a SAM, which cuts objects out of photographs in --groups",
    )
    group.add_argument(
        "--background-descriptions",
        type=Path,
        metavar="FILE",
        help="what --inpaint paints, one a line (default: twenty plain scenes)",
    )
    group.add_argument(
        "--inpaint-steps", type=positive, metavar="STEPS", help="of a painting (default: the pipeline's own)"
    )
    group = parser.add_argument_group("quality control")
    group.add_argument(
        "--object-size",
        type=share,
        nargs=2,
        default=(0.3, 0.6),
        metavar=("LEAST", "MOST"),
        help="longer side of an object, as shares of the image's (default: 0.3 0.6)",
    )
    group.add_argument(
        "--least-visible", type=share, default=0.85, help="of each object's pixels (default: %(default)s)"
    )
    group.add_argument(
        "--most-overlap", type=share, default=0.15, help="of the smaller object's pixels (default: %(default)s)"
    )
    group.add_argument(
        "--least-size", type=share, default=0.02, help="of the image, for each object (default: %(default)s)"
    )
    group.add_argument(
        "--tries", type=positive, default=50, help="of an image, before its pair is given up (default: %(default)s)"
    )
    group.add_argument(
        "--least-mask-iou",
        type=share,
        metavar="IOU",
        help="overlap with its object that --segment's model expects of a mask (default: 0.88)",
    )
    group = parser.add_argument_group("texts")
    group.add_argument(
        "--instructions",
        nargs="+",
        metavar="TEXT",
        help="one of them is drawn for each pair (default: three questions)",
    )
    group.add_argument(
        "--answer", metavar="TEXT", help="with {object} for the description (default: Both pictures show {object}.)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the step.

    Returns:
        0, or 1 where files are damaged or pairs were given up.

    Raises:
        SpectraSumError: Cut-outs, backgrounds, settings or the output cannot be used.
    """
    _check_combination(arguments)
    # numpy and datasets take seconds, which --help need not cost.
    from ...atomic_write import check_output
    from ...linked_pairs.composition import Limits
    from ...linked_pairs.contact_sheet import check_sheet, draw_sheet, spread, write_sheet
    from ...linked_pairs.counts import Counts
    from ...linked_pairs.image_files import named_folder
    from ...linked_pairs.making import make_pairs
    from ...linked_pairs.models.naming import check_segmentation_model
    from ...linked_pairs.pairs import ANSWER, INSTRUCTIONS, Settings
    from ...linked_pairs.writing import OUTPUT_NAMES, read_pairs

    settings = Settings(
        size=arguments.size,
        seed=arguments.seed,
        sides=tuple(arguments.object_size),
        limits=Limits(arguments.least_visible, arguments.most_overlap, arguments.least_size),
        tries=arguments.tries,
        instructions=tuple(" ".join(text.split()) for text in arguments.instructions or INSTRUCTIONS),
        answer=" ".join((arguments.answer or ANSWER).split()),
    )
    check_output(arguments.output, OUTPUT_NAMES, overwrite=arguments.overwrite)
    if arguments.sheet is not None:
        check_sheet(arguments.sheet, overwrite=arguments.overwrite)
    if arguments.groups is not None:
        named_folder(arguments.groups, "--groups")
    if arguments.segment is not None:
        check_segmentation_model(arguments.segment)
    counts, models = Counts(), {}
    scenes = _scenes(arguments, counts, models)
    groups = _groups(arguments, counts, models)
    make_pairs(groups, scenes, arguments.output, arguments.pairs, settings, counts, models)
    if arguments.sheet is not None:
        records = list(read_pairs(arguments.output))
        chosen = [records[place] for place in spread(len(records))]
        write_sheet(arguments.sheet, draw_sheet(arguments.output, chosen))
    print("\n".join(counts.lines()))
    for line in counts.damage[:_MAX_EXAMPLES]:
        print(printable(f"spectra-sum: left out: {line}"), file=sys.stderr)
    if len(counts.damage) > _MAX_EXAMPLES:
        print(f"spectra-sum: left out: {len(counts.damage) - _MAX_EXAMPLES:,} more", file=sys.stderr)
    splits = ", ".join(f"{counts.pairs[split]:,} {split}" for split in ("train", "validation", "test"))
    print(f"Written: {printable(arguments.output)} ({splits})")
    return int(bool(counts.damage or counts.given_up))


def _check_combination(arguments: argparse.Namespace) -> None:
    if arguments.backgrounds is None and arguments.inpaint is None and not arguments.closed_world:
        raise UsageError("--groups needs --backgrounds, a folder of images, or --inpaint.")
    if arguments.photographs and arguments.backgrounds is None:
        raise UsageError("--photographs is for files; name them by --backgrounds.")
    if arguments.segment is not None and arguments.groups is None:
        raise UsageError("--segment is for photographs; name them by --groups.")
    if arguments.least_mask_iou is not None and arguments.segment is None:
        raise UsageError("--least-mask-iou is for --segment.")
    if arguments.inpaint is None:
        for option in ("background_descriptions", "inpaint_steps"):
            if getattr(arguments, option) is not None:
                raise UsageError(f"--{option.replace('_', '-')} is for --inpaint.")
        return
    from ...linked_pairs.scenes import SIDE_STEP

    if arguments.size % SIDE_STEP:
        raise UsageError(f"--size {arguments.size}: --inpaint paints sides that are multiples of {SIDE_STEP}.")


def _scenes(arguments: argparse.Namespace, counts: "Counts", models: dict[str, Any]) -> "list[Scene]":
    from ...linked_pairs.backgrounds import read_backgrounds
    from ...linked_pairs.drawn_objects import drawn_backgrounds
    from ...linked_pairs.scenes import PictureScene

    if arguments.inpaint is not None:
        return _painted_scenes(arguments, counts, models)
    if arguments.backgrounds is None:
        pictures = drawn_backgrounds()
        counts.kept["backgrounds"] = len(pictures)
    else:
        pictures = read_backgrounds(arguments.backgrounds, arguments.size, counts, photographs=arguments.photographs)
    return [PictureScene(picture) for picture in pictures]


def _painted_scenes(arguments: argparse.Namespace, counts: "Counts", models: dict[str, Any]) -> "list[Scene]":
    from ...linked_pairs.models.naming import check_inpainting_model
    from ...linked_pairs.scenes import PLAIN_SCENES, PaintedScene, read_descriptions

    # Before diffusers is imported, which may be missing.
    check_inpainting_model(arguments.inpaint)
    file = arguments.background_descriptions
    descriptions = PLAIN_SCENES if file is None else read_descriptions(file, counts)
    counts.kept["descriptions"] = len(descriptions)
    from ...linked_pairs.models.inpainting import load_inpainting_model

    painter = load_inpainting_model(arguments.inpaint, arguments.inpaint_steps)
    models["inpaint"] = painter.record
    return [PaintedScene(description, painter) for description in descriptions]


def _groups(arguments: argparse.Namespace, counts: "Counts", models: dict[str, Any]) -> "list[Group]":
    from ...linked_pairs.drawn_objects import drawn_groups
    from ...linked_pairs.groups import read_groups

    if arguments.groups is None:
        groups = drawn_groups()
        counts.kept.update({"groups": len(groups), "cut-outs": sum(len(group.poses) for group in groups)})
        return groups
    if arguments.segment is None:
        return read_groups(arguments.groups, counts)
    from ...linked_pairs.models.segmentation import LEAST_IOU, load_segmentation_model

    least = LEAST_IOU if arguments.least_mask_iou is None else arguments.least_mask_iou
    segmenter = load_segmentation_model(arguments.segment, least)
    models["segment"] = segmenter.record
    return read_groups(arguments.groups, counts, segmenter)
