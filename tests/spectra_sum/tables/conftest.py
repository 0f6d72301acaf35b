"""Folders as `spectra-sum evaluate` writes them."""

import json

import pytest


@pytest.fixture
def make_evaluation(tmp_path):
    """Writes a folder; `per_article` are the score dictionaries of articles a0, a1, …"""

    def make(
        system,
        per_article,
        *,
        folder=None,
        objective=None,
        selection="vrp",
        data=("closed-world", "test"),
        articles=None,
        digest="articles",
        similarity_model="siglip",
        relevance_threshold=0.2,
        bertscore=None,
        selections=None,
        scores=None,
        not_computed=None,
        dropped=None,
        notes=None,
        task=None,
        bleu=None,
    ):
        path = tmp_path / (folder or system)
        path.mkdir()
        if scores is None:
            scores = {}
            for name in per_article[0]:
                values = [row[name] for row in per_article if row[name] is not None]
                mean = sum(values) / len(values)
                scores[name] = {"value": mean, "low": mean - 0.01, "high": mean + 0.02, "articles": len(values)}
        metrics = {
            "system": system,
            "source": {"kind": "model", "name": "runs/x", "text_only": False},
            "variant": {"fusion": "dvp", "objective": objective} if objective else None,
            "selection": selection,
            "data": {
                "name": data[0],
                "split": data[1],
                "articles": len(per_article) if articles is None else articles,
                "articles_sha256": digest,
            },
            "scores": scores,
            "selections": selections or {},
            "not_computed": not_computed or {},
            "dropped": dropped or {},
            **({} if notes is None else {"notes": notes}),
            **({} if task is None else {"task": task}),
            "settings": {
                "similarity_model": similarity_model,
                "relevance_threshold": relevance_threshold,
                "bertscore": bertscore,
                **({} if bleu is None else {"bleu": bleu}),
            },
            "versions": {},
        }
        (path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        lines = [json.dumps({"id": f"a{index}", **row}) for index, row in enumerate(per_article)]
        (path / "scores.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
        return path

    return make
