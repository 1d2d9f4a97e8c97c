"""Runs the stages of a recipe: resumable, seeded, logged a JSON line a report."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from hand_perception.data.order import ENDLESS
from hand_perception.errors import DataError, TrainingError
from hand_perception.training import checkpoint
from hand_perception.training.batches import Source
from hand_perception.training.config import StageConfig, TrainingConfig
from hand_perception.training.distributed import Team
from hand_perception.training.objective import Objective
from hand_perception.training.optimisers import make_optimiser

REPORT_EVERY = 50
SAVE_EVERY_SECONDS = 120.0
# One bad batch is nothing; as many in a row are a broken run.
MOST_SKIPPED = 20


class Trainer:
    """sources: images by the names that StageConfig.sources weighs.

    ``run`` continues from ``output/last.safetensors`` when it is there, else from what the
    objective's learner holds.
    """

    def __init__(
        self,
        config: TrainingConfig,
        objective: Objective,
        sources: dict[str, Source],
        output: Path,
        device: torch.device,
        workers: int = 1,
    ) -> None:
        self.team = Team(device)
        for stage in config.stages:
            if stage.name not in objective.stages:
                raise DataError(f"unknown stage {stage.name!r}, use one of {objective.stages}")
            if stage.batch_size % self.team.size:
                raise DataError(
                    f"{self.team.size} processes cannot share a batch of {stage.batch_size} "
                    f"equally: change batch_size of stage {stage.name!r}"
                )
        self.config, self.objective, self.sources = config, objective, sources
        self.output, self.device, self.workers = output, self.team.device, workers
        objective.to(self.device)
        self.learner = objective.learner
        self.average = {k: v.detach().clone() for k, v in self.learner.state_dict().items()}
        self._board: SummaryWriter | None = None

    def run(self) -> None:
        last = self.output / "last.safetensors"
        first_stage, first_step, stored = 0, 0, {}
        if last.is_file():
            stored, meta = checkpoint.load(last)
            first_stage, first_step = meta["stage"], meta["step"]
            self.learner.load_state_dict(stored["model"])
            self.average = {k: v.to(self.device) for k, v in stored["average"].items()}
        for index in range(first_stage, len(self.config.stages)):
            resumed = stored.get("optimiser", {}) if index == first_stage else {}
            self._run_stage(index, first_step if index == first_stage else 0, resumed)

    def _run_stage(self, index: int, start: int, optimiser_state: dict[str, Tensor]) -> None:
        stage = self.config.stages[index]
        learning = nn.ModuleList(self.objective.prepare(stage))
        parameters = list(learning.parameters())
        optimiser = make_optimiser(stage, parameters)
        checkpoint.restore_optimiser(optimiser, self.learner, optimiser_state)
        epoch = self._steps_of_an_epoch(stage)
        steps, decay_from = (stage.steps or stage.epochs * epoch), stage.cosine_from * epoch
        decay_at = tuple(at * epoch for at in stage.decay_at)
        saved, started = time.monotonic(), time.monotonic()
        sums: dict[str, float] = {}
        summed = 0
        skipped = 0
        progress = tqdm(
            range(start, steps),
            stage.name,
            initial=start,
            total=steps,
            disable=not self.team.leads,
        )
        for step, batch in zip(progress, self._batches(index, start, steps), strict=False):
            # Reseeded each step: a resumed run draws the same queries and jitter.
            torch.manual_seed(hash((self.config.seed, index, step, self.team.rank)) % 2**31)
            for group in optimiser.param_groups:
                group["lr"] = stage.lr * schedule(step, stage.warmup, steps, decay_from, decay_at)
            losses = self.objective.losses(stage, batch.to(self.device))
            total = sum(losses.values())
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            self.team.average_gradients(parameters)
            norm = nn.utils.clip_grad_norm_(parameters, stage.clip)
            if not torch.isfinite(norm):
                skipped += 1
                tqdm.write(f"step {step}: gradient is not finite, step skipped")
                if skipped == MOST_SKIPPED:
                    raise TrainingError(
                        f"{skipped} steps in a row had no finite gradient: lower the learning rate "
                        f"of stage {stage.name!r} or look for broken labels; "
                        "the last checkpoint is good"
                    )
                continue
            skipped = 0
            optimiser.step()
            self.team.average_buffers(learning)  # what is frozen stays as it is, to the bit
            self._update_average(stage.ema, step)
            for name, value in {**losses, "total": total}.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            summed += 1
            if (step + 1) % REPORT_EVERY == 0:
                rate = (step + 1 - start) * stage.batch_size / (time.monotonic() - started)
                rates = {"images_per_second": rate, "lr": optimiser.param_groups[0]["lr"]}
                # Fewer than REPORT_EVERY where a run went on or steps were skipped.
                means = {name: value / summed for name, value in sums.items()}
                self._report(index, step + 1, means, rates)
                progress.set_postfix(loss=f"{means['total']:.2f}")
                sums, summed = {}, 0
            if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                self._save(index, step + 1, optimiser)
                saved = time.monotonic()
        # The next stage starts from the averaged weights.
        self.learner.load_state_dict(self.average)
        self._save(index + 1, 0, None)
        if self.team.leads:
            checkpoint.save(
                self.output / f"{stage.name}.safetensors",
                {"model": self.network_weights()},
                {"config": self.objective.describe(), "recipe": self.config.to_dict()},
            )

    def network_weights(self) -> dict[str, Tensor]:
        """The averaged network, without what only training needs."""
        prefix = "network."
        return {k[len(prefix) :]: v for k, v in self.average.items() if k.startswith(prefix)}

    def _steps_of_an_epoch(self, stage: StageConfig) -> int:
        """1 where a stage is counted in steps."""
        if not stage.epochs:
            return 1
        named = [
            self.sources[n] for n, share in stage.sources.items() if n in self.sources and share
        ]
        samples = sum(len(source) for source in named)
        if samples >= ENDLESS:
            raise DataError(f"rendered hands have no end: count stage {stage.name!r} in steps")
        return math.ceil(samples / stage.batch_size)

    def _batches(self, index: int, start: int, steps: int) -> Iterator[Any]:
        stage = self.config.stages[index]
        weights = {name: share for name, share in stage.sources.items() if share > 0}
        if missing := weights.keys() - self.sources.keys():
            raise DataError(f"stage {stage.name!r} needs {sorted(missing)}: give their folders")
        return iter(
            DataLoader(
                self.objective.batches(
                    stage,
                    [self.sources[name] for name in weights],
                    tuple(weights.values()),
                    stage.batch_size // self.team.size,
                    self.config.seed * 1000 + index,
                ),
                batch_size=None,
                sampler=range(
                    start * self.team.size + self.team.rank,
                    steps * self.team.size,
                    self.team.size,
                ),
                num_workers=self.workers,
                prefetch_factor=4 if self.workers else None,
            )
        )

    def _update_average(self, decay: float, step: int) -> None:
        decay = min(decay, (1 + step) / (10 + step))
        for name, value in self.learner.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def _report(
        self, index: int, step: int, means: dict[str, float], rates: dict[str, float]
    ) -> None:
        """One JSON line, and the same as TensorBoard's scalars ``stage/name``."""
        if not self.team.leads:
            return
        stage = self.config.stages[index].name
        row = {
            "stage": stage,
            "step": step,
            "images_per_second": round(rates["images_per_second"], 1),
        }
        row |= {name: round(value, 4) for name, value in means.items()}
        self.output.mkdir(parents=True, exist_ok=True)
        with open(self.output / "log.jsonl", "a") as log:
            log.write(json.dumps(row) + "\n")
        if self._board is None:
            self._board = SummaryWriter(str(self.output / "tensorboard"))
        for name, value in {**means, **rates}.items():
            self._board.add_scalar(f"{index}_{stage}/{name}", value, step)
        self._board.flush()

    def _save(self, stage: int, step: int, optimiser: torch.optim.Optimizer | None) -> None:
        if not self.team.leads:
            return
        groups = {"model": self.learner.state_dict(), "average": self.average}
        if optimiser is not None:
            groups["optimiser"] = checkpoint.optimiser_tensors(optimiser, self.learner)
        checkpoint.save(self.output / "last.safetensors", groups, {"stage": stage, "step": step})


def schedule(
    step: int, warmup: int, total: int, decay_from: int = 0, decay_at: tuple[int, ...] = ()
) -> float:
    """Linear warm-up, then 1 until ``decay_from``, then cosine to 2 %; with ``decay_at`` a tenth
    from each of its steps on instead."""
    if step < warmup:
        return (step + 1) / warmup
    if decay_at:
        return 0.1 ** sum(step >= at for at in decay_at)
    begin = max(warmup, decay_from)
    progress = max(0, step - begin) / max(1, total - begin)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
