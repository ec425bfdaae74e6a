"""Checkpoints, from which a run is resumed, and the export of weights.

A checkpoint is a safetensors file with JSON in its header. Its name has the step and the SHA-256 of the file. It is
written under a temporary name, synced to disk, hashed and renamed. So a file whose name has the right SHA-256 is
complete, even after a power failure. The newest two checkpoints are kept. The state of random numbers is not saved,
because each step seeds its own.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cricavpr import __version__
from cricavpr.datasets.places import PlaceDataset
from cricavpr.errors import InputError
from cricavpr.files import sha256_of, sync
from cricavpr.models.weights import save_weights
from cricavpr.schema import build, parse_json, to_plain
from cricavpr.training.learning import Diverged, Learner
from cricavpr.training.log import writing
from cricavpr.training.network import Trainable
from cricavpr.training.recipe import Recipe

KEPT = 2  # number of checkpoints that are kept
_NAME = re.compile(r"(\d{9})-([0-9a-f]{64})\.safetensors")
_BESIDE = "being-written.partial"  # always the same name, so that the next save overwrites a file left by a crash


@dataclass(frozen=True)
class Standing:
    """Validation results of a run so far."""

    best: float | None = None  # highest recall@best_by under the first grouping; None before the first validation
    best_step: int = 0  # step of the best recall
    waiting: int = 0  # number of validations since the best one
    measured: dict[str, float] = field(default_factory=dict)  # all recalls of the last validation


@dataclass(frozen=True)
class Facts:
    """The part of a checkpoint that is stored as JSON: everything but the tensors."""

    step: int  # number of steps done
    position: Standing  # validation results so far
    log_bytes: int  # length of log.jsonl in bytes at this step
    recipe: dict[str, Any]  # the recipe of the run
    data_fingerprint: str  # fingerprint of the training data
    code: dict[str, str]  # versions, see `code_version`
    processes: int = 1  # number of processes that trained
    format: Literal["cricavpr.checkpoint.1"] = "cricavpr.checkpoint.1"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The complete state of a run after a step."""

    facts: Facts
    tensors: Mapping[str, Tensor]


# ---- files


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and sync it to disk. Then remove all other checkpoints except the previous one.

    Raises:
        InputError: the checkpoint cannot be written; earlier checkpoints are untouched.
    """
    step, beside = checkpoint.facts.step, folder / _BESIDE
    facts = json.dumps(to_plain(checkpoint.facts), sort_keys=True)
    with writing(f"a checkpoint of step {step:,} to {folder}"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(dict(checkpoint.tensors), beside, metadata={"cricavpr": facts})
            sync(beside)
            path = folder / f"{step:09d}-{sha256_of(beside)}.safetensors"
            beside.replace(path)
            sync(folder)
            others = [other for other in list_checkpoints(folder) if other != path]
            kept = [other for other in others if step_of(other) <= step][: KEPT - 1]
            for other in others:  # also checkpoints of later steps, which are damaged or outdated
                if other not in kept:
                    other.unlink()
        except SafetensorError as error:
            raise OSError(str(error)) from error
        finally:
            with contextlib.suppress(OSError):  # the next save overwrites a partial file
                beside.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """List the files that have names of checkpoints, the newest first. Some of the files may be damaged."""
    try:
        paths = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(paths, key=lambda path: (step_of(path), path.stat().st_mtime_ns), reverse=True)


def step_of(path: Path) -> int:
    """Return the step in the name of a checkpoint."""
    return int(path.name[:9])


def load_newest(folder: Path) -> tuple[Checkpoint, Path, list[str]]:
    """Return the newest undamaged checkpoint, its path, and an error message for each newer, damaged checkpoint.

    Raises:
        InputError: there is no undamaged checkpoint.
    """
    complaints: list[str] = []
    for path in list_checkpoints(folder):
        try:
            return load(path), path, complaints
        except InputError as error:
            complaints.append(str(error))
    raise InputError(
        " ".join([f"found no undamaged checkpoint in {folder}.", *complaints, "Start again with another --out."])
    )


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: the file cannot be read, or is damaged.
    """
    name = _NAME.fullmatch(path.name)
    try:
        if name is None or sha256_of(path) != name[2]:
            raise InputError(f"the checkpoint {path} is damaged: its checksum does not match its name.")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("cricavpr", "")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the checkpoint {path}: {error}.") from None
    where = f"the checkpoint {path}"
    return Checkpoint(build(Facts, parse_json(text, where), where), tensors)


# ---- the state of a learner


def tensors_of(learner: Learner) -> dict[str, Tensor]:
    """Return a copy of a learner's weights, running statistics and optimizer moments by name, on the CPU.

    Raises:
        Diverged: a value is not finite.
    """
    tensors = dict(_state(learner))
    tensors |= {
        f"optimizer.{key}.{name}": value
        for name, parameter in learner.named_parameters()
        for key, value in learner.optimizer.state.get(parameter, {}).items()
    }
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise Diverged(f"{name} has values that are not finite")
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}


def _state(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    for part, module in (("model", learner.model), ("criterion", learner.criterion)):
        for name, value in module.state_dict().items():
            yield f"{part}.{name}", value


def restore(learner: Learner, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Set a learner to the state saved in a checkpoint.

    Args:
        learner: the learner, whose state is replaced.
        tensors: state from `tensors_of`.
        source: path of the checkpoint, for messages.

    Raises:
        InputError: the state does not fit the network.
    """
    own = dict(_state(learner))
    given = {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}
    misfits = own.keys() ^ given.keys() | {n for n in own.keys() & given.keys() if own[n].shape != given[n].shape}
    if misfits:
        names = ", ".join(sorted(misfits)[:5])
        raise InputError(f"the checkpoint {source} does not match the network of the recipe: {names} differ.")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(given[name])
    for name, parameter in learner.named_parameters():
        moments = {
            key: tensors[entry].clone() if key == "step" else tensors[entry].to(parameter.device, copy=True)
            for key in ("step", "exp_avg", "exp_avg_sq")
            if (entry := f"optimizer.{key}.{name}") in tensors
        }
        if moments and parameter.requires_grad:
            learner.optimizer.state[parameter] = moments


def code_version() -> dict[str, str]:
    """Return the versions of cricavpr, torch and Python. Other versions may round results differently."""
    return {"cricavpr": __version__, "torch": torch.__version__, "python": ".".join(map(str, sys.version_info[:3]))}


# ---- weights


def export(
    path: Path,
    network: Trainable,
    recipe: Recipe,
    places: PlaceDataset,
    step: int,
    measured: Mapping[str, float],
    processes: int = 1,
) -> None:
    """Write a weights file for `load_method`, with the provenance of the weights in its header.

    Args:
        path: path of the new file.
        network: the trained network.
        recipe: recipe of the run.
        places: training data.
        step: number of steps done.
        measured: recalls of the last validation, by name.
        processes: number of processes that trained.
    """
    provenance = {
        "trained_by": "cricavpr train",
        "step": step,
        "measured": dict(measured),
        "recipe": _without_folders(to_plain(recipe)),
        "processes": processes,
        "data": {"name": places.name, "places": len(places), "images": places.image_count()},
        "data_fingerprint": places.fingerprint(),
        "code": code_version(),
    }
    save_weights(path, network.model.state_dict(), {**network.header, "provenance": provenance})


PATHS = ("path", "dataset", "weights", "backbone_weights", "trunk_weights")  # settings that may hold a path


def _without_folders(values: Any) -> Any:
    """Cut paths in settings to their last part, because weights files are shared and folder names are private."""
    if isinstance(values, dict):
        return {key: Path(value).name if key in PATHS else _without_folders(value) for key, value in values.items()}
    return values
