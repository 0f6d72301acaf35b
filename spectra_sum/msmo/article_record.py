"""One article of a copy as a record: its texts are read, its images are checked, and damage is counted."""

import os

from spectra_sum.msmo.article_index import ArticleFiles
from spectra_sum.msmo.integrity import SplitIntegrity
from spectra_sum.msmo.layout import ANNOTATION_FILE, image_damage, parse_article, read_text

# What a text of an image is, and the folder that it lies in.
TEXT_FOLDERS = {"caption": "caption", "alt_text": "alt"}


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
    image_folder = os.path.join(folder, "img")
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

    images, index_of = [], {}
    texts: dict[str, list[str]] = {"caption": [], "alt_text": []}
    text_files: dict[str, set[str]] = {"caption": set(), "alt_text": set()}
    for image_ending, *endings in zip(files.images, files.captions, files.alt_texts, strict=True):
        name = f"{files.article}_{image_ending}"
        path = os.path.join(image_folder, name)
        damage = image_damage(path, verify)
        if damage:
            report.add("broken_image", f"{split_folder}/img/{name}", damage)
            continue
        index_of[image_ending] = len(images)
        images.append(path)
        for (kind, kind_folder), ending in zip(TEXT_FOLDERS.items(), endings, strict=True):
            content = ""
            if ending:
                name = f"{files.article}_{ending}"
                text_place = f"{split_folder}/{kind_folder}/{name}"
                read = read_text(os.path.join(folder, kind_folder, name), text_place, report)
                if read is not None:
                    content = read.strip()
                    text_files[kind].add(f"{split_folder}/{kind_folder}/{files.article}_*.{ending.partition('.')[2]}")
                    if not content:
                        report.add(f"empty_{kind}", text_place)
            texts[kind].append(content)
    for ending in files.gold:
        if ending not in index_of:
            report.add("gold_image_broken", f"{split_folder}/img/{files.article}_{ending}")
    gold = sorted(index_of[ending] for ending in files.gold if ending in index_of)

    report.totals.update(
        records=1,
        images=len(images),
        captions=sum(map(bool, texts["caption"])),
        alt_texts=sum(map(bool, texts["alt_text"])),
        articles_with_gold=int(bool(gold)),
    )
    return {
        "id": files.article,
        "title": article.title,
        "article": article.body,
        "summary": article.summary,
        "images": images,
        "captions": texts["caption"],
        "alt_texts": texts["alt_text"],
        "gold_images": gold,
        "provenance": {
            "summary": place,
            "captions": ", ".join(sorted(text_files["caption"])),
            "alt_texts": ", ".join(sorted(text_files["alt_text"])),
            "gold_images": f"{split_folder}/{ANNOTATION_FILE}" if files.annotated else "",
        },
    }
