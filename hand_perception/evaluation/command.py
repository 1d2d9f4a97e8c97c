"""``hand-perception evaluate``: one suite or one public data set, its table."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2

from hand_perception.data.photograph_labels import read_photographs
from hand_perception.errors import DataError
from hand_perception.evaluation import (
    alignment,
    datasets,
    photographs,
    report,
    synthetic,
    tracking,
    video,
)
from hand_perception.evaluation.predictions import read_predictions, reconstruct
from hand_perception.evaluation.published import PUBLISHED
from hand_perception.evaluation.worst_cases import worst_cases_page
from hand_perception.hands import Reconstruction
from hand_perception.runtime.select import model_called

Load = Callable[[str], Callable[..., Reconstruction]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--suite",
        choices=SUITES,
        help="real: labelled photographs; synthetic: rendered hands with full 3D truth; "
        "alignment: how well meshes lie on the image, on rendered hands; "
        "video: steadiness over time; tracking: ids and steadiness on played scenes, needs no data",
    )
    what.add_argument(
        "--dataset",
        metavar="NAME",
        help=f"a public data set, beside papers' rows: {', '.join(PUBLISHED)}, or another",
    )
    parser.add_argument("--data", "--root", type=Path, help="folder of the suite or the data set")
    parser.add_argument(
        "--protocol",
        choices=datasets.PROTOCOLS,
        default="handos",
        help="of a data set: the network finds hands itself, or is given true boxes (%(default)s)",
    )
    parser.add_argument("--split", default="test", help="of a data set (%(default)s)")
    parser.add_argument(
        "--mano", type=Path, help="your MANO_RIGHT.pkl: measures a data set vertex by vertex"
    )
    parser.add_argument("--model", default="auto", help="name or path of a model (%(default)s)")
    parser.add_argument(
        "--beside",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="more models in the same table (suite alignment)",
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="JSONL",
        help="evaluate the output of predict instead of a model (suite real)",
    )
    parser.add_argument(
        "--network-mesh",
        action="store_true",
        help="judge the mesh as the network has it, not the template posed to it",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write table, JSON and the worst cases here"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only N images, spread evenly, or the first N frames"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the table. Raises DataError on data that are missing or do not fit."""
    from hand_perception.reconstructor import HandReconstructor

    def load(name: str) -> HandReconstructor:
        reconstructor = HandReconstructor.from_pretrained(name)
        reconstructor.fit_pose &= not args.network_mesh
        return reconstructor

    return evaluate(args, load)


def evaluate(args: argparse.Namespace, load: Load) -> int:
    """``run`` with what loads a model by name."""
    # A table names the network it is of.
    args.model = str(model_called(args.model))
    if args.predictions and args.suite != "real":
        raise DataError("--predictions go with --suite real; the other suites need --model")
    if args.beside and args.suite != "alignment":
        raise DataError("--beside goes with --suite alignment; evaluate one model after another")
    if args.data is None and args.suite != "tracking":
        raise DataError(f"{args.dataset or args.suite} needs data: give its folder with --data")
    if args.dataset:
        return datasets.run(args, load, _evenly)
    protocol, rows = SUITES[args.suite](args, load)
    print(report.table(rows))
    if args.output:
        report.write(args.output, args.suite, protocol, rows)
    return 0


def _real(args: argparse.Namespace, load: Load) -> tuple[str, report.Rows]:
    chosen = _evenly(read_photographs(args.data), args.limit)
    files = [photograph.file for photograph in chosen]
    if args.predictions:
        predictions = read_predictions(args.predictions, files)
        sweep = [score for score in photographs.SWEEP if score > photographs.MIN_SCORE]
    else:
        predictions = reconstruct(load(args.model), args.data, files, min(photographs.SWEEP))
        sweep = photographs.SWEEP
    outcomes = photographs.Outcomes.of(chosen, predictions)
    rows = outcomes.rows()
    for score in sweep:
        at_score = photographs.Outcomes.of(chosen, predictions, score)
        rows[f"from score {score}"] = at_score.summary()
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        page = worst_cases_page(outcomes, predictions, args.data)
        cv2.imwrite(str(args.output / "real_worst.jpg"), cv2.cvtColor(page, cv2.COLOR_RGB2BGR))
    return photographs.__doc__, rows


def _synthetic(args: argparse.Namespace, load: Load) -> tuple[str, report.Rows]:
    samples = synthetic.read_samples(args.data)
    indices = _evenly(range(len(samples)), args.limit)
    return synthetic.__doc__, synthetic.evaluate(samples, indices, load(args.model))


def _alignment(args: argparse.Namespace, load: Load) -> tuple[str, report.Rows]:
    samples = synthetic.read_samples(args.data)
    indices = _evenly(range(len(samples)), args.limit)
    models = {name: load(name) for name in (args.model, *args.beside)}
    return alignment.__doc__, alignment.evaluate(samples, indices, models)


def _video(args: argparse.Namespace, load: Load) -> tuple[str, report.Rows]:
    return video.__doc__, video.evaluate(args.data, load(args.model), args.limit)


def _tracking(args: argparse.Namespace, load: Load) -> tuple[str, report.Rows]:
    return tracking.__doc__, tracking.evaluate()


def _evenly(items, limit: int | None) -> list:
    items = list(items)
    step = max(1, len(items) // limit) if limit else 1
    return items[::step][:limit]


SUITES = {
    "real": _real,
    "synthetic": _synthetic,
    "alignment": _alignment,
    "video": _video,
    "tracking": _tracking,
}
