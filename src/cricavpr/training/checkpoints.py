"""Checkpoints: everything that a resumed run needs, and the weights that a run exports.

A checkpoint is a safetensors file with JSON in its header, named after its step and the SHA-256 of its bytes. It is
written beside, synced, hashed and renamed: a name that ends in the file's own hash is a whole checkpoint, whenever the
power fails. The newest two are kept. No state of random numbers is saved: each step seeds its own.
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

KEPT = 2
_NAME = re.compile(r"(\d{9})-([0-9a-f]{64})\.safetensors")
_BESIDE = "being-written.partial"  # one name, so that the next save overwrites what a crash leaves


@dataclass(frozen=True)
class Standing:
    """Validation results of a run so far."""

    best: float | None = None  # of those that decide
    best_step: int = 0
    waiting: int = 0  # validations since then
    measured: dict[str, float] = field(default_factory=dict)  # in the last validation


@dataclass(frozen=True)
class Facts:
    """The plain values of a checkpoint."""

    step: int  # steps done
    position: Standing
    log_bytes: int  # length of log.jsonl
    recipe: dict[str, Any]
    data_fingerprint: str
    code: dict[str, str]
    processes: int = 1
    format: Literal["cricavpr.checkpoint.1"] = "cricavpr.checkpoint.1"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after a step."""

    facts: Facts
    tensors: Mapping[str, Tensor]


# ---- files


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint durably, then remove all but the newest two up to its step.

    Raises:
        InputError: it cannot be written; earlier checkpoints are untouched.
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
            for other in others:  # those of later steps are broken, or the run went back behind them
                if other not in kept:
                    other.unlink()
        except SafetensorError as error:
            raise OSError(str(error)) from error
        finally:
            with contextlib.suppress(OSError):  # the next save overwrites a partial file
                beside.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """List the files that are named like checkpoints, newest first; they may be damaged."""
    try:
        paths = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(paths, key=lambda path: (step_of(path), path.stat().st_mtime_ns), reverse=True)


def step_of(path: Path) -> int:
    """Return the step in a checkpoint's name."""
    return int(path.name[:9])


def load_newest(folder: Path) -> tuple[Checkpoint, Path, list[str]]:
    """Return the newest checkpoint that is whole, its path, and what is wrong with each newer one."""
    complaints: list[str] = []
    for path in list_checkpoints(folder):
        try:
            return load(path), path, complaints
        except InputError as error:
            complaints.append(str(error))
    raise InputError(" ".join([f"no whole checkpoint in {folder}.", *complaints, "Start again with another --out."]))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint."""
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
    """Return weights, running statistics and the optimizer's moments by name, on the CPU."""
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
    """Set a learner to a saved state."""
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
    """Return the versions of the code, which decide how results are rounded."""
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
    """Write weights that `load_method` reads, with their provenance."""
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
    """Cut paths to their last part: weights travel, and the rest is private."""
    if isinstance(values, dict):
        return {key: Path(value).name if key in PATHS else _without_folders(value) for key, value in values.items()}
    return values
