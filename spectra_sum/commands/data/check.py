"""`spectra-sum data check ANY`: what training and evaluation would read of data, before either is begun."""

import argparse

from ...own_data.columns import parse_columns
from ...own_data.formats import SPLIT_KEYWORDS, check_no_own_options, find_source
from ...tasks.task import TASKS
from ..arguments import UsageError, add_own_data_arguments, add_task_argument, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the step, and adds its arguments to its parser."""
    parser.description = (
        "Prints the splits, the columns that were found, how many articles, images, captions, gold images and summaries there "
        "are, their lengths, what is dropped and why, and some records. Nothing is trained. Exit code 0: the data can be "
        "trained and evaluated on; 1: they can be read, but articles lack summaries or images are broken."
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a .jsonl, .json, .csv or .parquet file, a folder (of such files, in the MSMO layout, of save_to_disk, or an "
        "imagefolder), a Hub dataset's id, or closed_world",
    )
    add_own_data_arguments(parser)
    add_task_argument(parser)
    parser.add_argument("--split", choices=tuple(SPLIT_KEYWORDS), help="only this one (default: all)")
    parser.add_argument(
        "--tokenizer",
        metavar="FOLDER_OR_ID",
        help="a model whose tokens are counted, or smollm2 (default: smollm2 where it is installed, else words alone)",
    )
    parser.add_argument(
        "--verify",
        choices=("header", "full"),
        default="header",
        help="full decodes every image; header opens the image files (default: header)",
    )
    parser.add_argument("--records", type=positive, default=3, help="how many articles are shown (default: 3)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the step.

    Returns:
        0, or 1 where something is wrong with the articles; data that cannot be read are raised.
    """
    source, task = find_source(arguments.data), TASKS[arguments.task]
    parse_columns(arguments.columns, task)
    check_no_own_options(source, arguments.columns, arguments.data_config)
    # These imports take seconds: a wrong argument is told at once.
    from ...own_data.loading import load_any
    from ...own_data.overview import Overview, load_tokenizer

    try:
        tokenizer = load_tokenizer(arguments.tokenizer)
        found = load_any(
            source,
            columns=arguments.columns,
            config=arguments.data_config,
            split=arguments.split,
            verify=arguments.verify,
            task=task,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    print("\n".join(found.lines()))
    wrong = False
    for split, records in found.splits.items():
        overview = Overview.of(split, records, tokenizer, verify=arguments.verify, task=task)
        wrong |= overview.is_wrong
        print("\n".join(["", *overview.lines(arguments.records)]))
    return int(wrong)
