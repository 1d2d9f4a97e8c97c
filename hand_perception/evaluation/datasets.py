"""``hand-perception evaluate --dataset``: a public data set, papers' rows and ours under them."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hand_perception.errors import DataError
from hand_perception.evaluation import benchmark, report
from hand_perception.evaluation.benchmark import Judged, MeshReader
from hand_perception.evaluation.box_ap import box_ap
from hand_perception.evaluation.published import PUBLISHED
from hand_perception.evaluation.submission import WRITERS
from hand_perception.reconstructor import HandReconstructor
from hand_perception.template import load_template

if TYPE_CHECKING:
    from hand_perception.data.mano import ManoTemplate

PROTOCOLS = ("handos", "gt-box")
# Columns of our row where no paper of ours has a table.
_COLUMNS = ("PJ", "PV", "F@5", "F@15", "AUC")


def run(
    args: argparse.Namespace,
    load: Callable[[str], HandReconstructor],
    choose: Callable[[Iterable[int], int | None], list[int]],
) -> int:
    """Prints the paper's table and all numbers, and writes them with the submission to --output.

    Raises DataError when data are missing.
    """
    from hand_perception.data.datasets import open_dataset
    from hand_perception.data.mano import load_mano

    # Some sets have MANO's parameters where others have meshes.
    mano = load_mano(args.mano) if args.mano else None
    dataset = open_dataset(args.dataset, args.data, args.split, mano)
    reconstructor = load(args.model)
    read = mesh_reader(mano)
    indices = choose(range(len(dataset)), args.limit)
    judged = list(
        benchmark.evaluate(dataset, indices, predictor(reconstructor), args.protocol, read)
    )
    outcomes = [outcome for picture in judged for outcome in picture.outcomes]
    if args.protocol == "gt-box" and not outcomes:
        raise DataError(f"{args.data} has no labels here: protocol gt-box needs true boxes")
    numbers = benchmark.summary(outcomes) | detection(judged)
    ours = f"ours ({args.model}, {args.protocol})"
    table = beside_published(args.dataset, ours, numbers)
    print(f"{report.table(table)}\n\n{report.table({ours: numbers})}")
    if args.output:
        name = f"{args.dataset}_{args.protocol}"
        write(args.output, name, table, ours, numbers)
        if len(indices) == len(dataset) and args.dataset in WRITERS:
            submit(args, judged, read)
    return 0


def predictor(reconstructor: HandReconstructor) -> benchmark.Predict:
    def predict(image, camera, boxes):
        if boxes is not None:
            return reconstructor.in_boxes(image, boxes, camera)
        return reconstructor(image, camera, score_threshold=benchmark.SCORE).hands

    return predict


def mesh_reader(mano: ManoTemplate | None) -> MeshReader:
    """With the user's MANO, our meshes are measured vertex by vertex in its topology."""
    if mano is None:
        return MeshReader()
    from hand_perception.data.correspondence import Correspondence

    return MeshReader(Correspondence.between(load_template(), mano), mano.regressor)


def detection(judged: Sequence[Judged]) -> dict[str, float]:
    return box_ap(
        [(picture.boxes, picture.scores) for picture in judged],
        [(picture.true_boxes, picture.ignored_boxes) for picture in judged],
    )


def beside_published(dataset: str, ours: str, numbers: dict[str, float]) -> report.Rows:
    """The paper's rows, and ours with the same columns."""
    published = PUBLISHED.get(dataset, {})
    columns = list(next(iter(published.values()))) if published else list(_COLUMNS)
    if not any(column.startswith("PCK") for column in columns):
        return {**published, ours: {column: numbers[column] for column in columns}}
    rows = {
        f"{ours}-{what}, {which}": {c: numbers[f"{what}, {which} {c}"] for c in columns}
        for which in ("all", "visible", "occluded")
        for what in ("2D", "proj")
    }
    return {**published, **rows}


def write(
    folder: Path, name: str, table: report.Rows, ours: str, numbers: dict[str, float]
) -> None:
    """``NAME.md``: protocol, both tables. ``NAME.json``: all our numbers, NaN as null."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = f"{report.table(table)}\n\n{report.table({ours: numbers})}"
    (folder / f"{name}.md").write_text(f"{benchmark.__doc__.strip()}\n\n{tables}\n")
    finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
    (folder / f"{name}.json").write_text(json.dumps(finite, indent=1) + "\n")


def submit(args: argparse.Namespace, judged: Sequence[Judged], read: MeshReader) -> None:
    """The set's own file of predictions, whose meshes are MANO's."""
    answers = []
    for picture in judged:
        if picture.answer is None:
            answers.append(None)
            continue
        joints, vertices, is_mano = read(picture.answer, "mano")
        if not is_mano and args.dataset != "dexycb":  # whose file holds joints alone
            print("no submission is written: its meshes are MANO's, give --mano MANO_RIGHT.pkl")
            return
        answers.append((joints, vertices))
    print(f"wrote {WRITERS[args.dataset](args.output, answers)}")
