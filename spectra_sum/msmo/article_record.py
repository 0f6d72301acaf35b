"""One article of a copy as a record: its texts are read, its images are checked, and damage is counted."""

import os

from spectra_sum.msmo.article_index import ArticleFiles
from spectra_sum.msmo.integrity import SplitIntegrity
from spectra_sum.msmo.layout import ANNOTATION_FILE, image_damage, parse_article, read_text


def read_record(folder: str, files: ArticleFiles, verify: str, report: SplitIntegrity) -> dict | None:
    """
    The record of one article, as [`MSMO`] describes it, or `None` if it is dropped.

    Args:
        folder (`str`): The split's folder.
        files (`ArticleFiles`): What the index found for the article.
        verify (`str`): `"header"` or `"full"`, see [`image_damage`].
        report (`SplitIntegrity`): Takes the damage, and the totals of the records.
    """
    split_folder = os.path.basename(folder)
    image_folder, caption_folder = os.path.join(folder, "img"), os.path.join(folder, "caption")
    place = f"{split_folder}/article/{files.article}.txt"
    text = read_text(os.path.join(folder, "article", f"{files.article}.txt"), place, report)
    if text is None:
        return None
    article = parse_article(text)
    for section in ("title", "body", "summary"):
        if not getattr(article, section):
            report.add(f"article_without_{section}", place)
    for section in article.repeated:
        report.add("section_repeated", place, f"@{section}")
    if article.outside:
        report.add("text_outside_sections", place)
    if not article.body or not article.summary:
        return None

    images, captions, caption_files, index_of = [], [], set(), {}
    for image_ending, caption_ending in zip(files.images, files.captions, strict=True):
        name = f"{files.article}_{image_ending}"
        path = os.path.join(image_folder, name)
        damage = image_damage(path, verify)
        if damage:
            report.add("broken_image", f"{split_folder}/img/{name}", damage)
            continue
        index_of[image_ending] = len(images)
        images.append(path)
        caption = ""
        if caption_ending:
            name = f"{files.article}_{caption_ending}"
            caption_place = f"{split_folder}/caption/{name}"
            content = read_text(os.path.join(caption_folder, name), caption_place, report)
            if content is not None:
                caption = content.strip()
                caption_files.add(f"{split_folder}/caption/{files.article}_*.{caption_ending.partition('.')[2]}")
                if not caption:
                    report.add("empty_caption", caption_place)
        captions.append(caption)
    for ending in files.gold:
        if ending not in index_of:
            report.add("gold_image_broken", f"{split_folder}/img/{files.article}_{ending}")
    gold = sorted(index_of[ending] for ending in files.gold if ending in index_of)

    report.totals.update(
        records=1, images=len(images), captions=sum(map(bool, captions)), articles_with_gold=int(bool(gold))
    )
    return {
        "id": files.article,
        "title": article.title,
        "article": article.body,
        "summary": article.summary,
        "images": images,
        "captions": captions,
        "gold_images": gold,
        "provenance": {
            "summary": place,
            "captions": ", ".join(sorted(caption_files)),
            "gold_images": f"{split_folder}/{ANNOTATION_FILE}" if files.annotated else "",
        },
    }
