"""The log of a run as event files of TensorBoard, which is the extra "tensorboard" and has its home here.

A run that goes on from a checkpoint opens a file of its own, and its first line says from which step on the files
before it do not count: no step is shown twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cricavpr.extras import extra

FOLDER = "tensorboard"
_SHOWN = ("loss", "distillation", "mined", "rate")  # of a line of the log


class Board:
    """Event files in RUN/tensorboard. They are a service: where they cannot be written the run goes on."""

    def __init__(self, run: Path) -> None:
        """Nothing is written before the first line of the log.

        Raises:
            MissingExtraError: TensorBoard is not installed.
        """
        require_tensorboard()
        self.folder = run / FOLDER
        self._writer: Any = None

    def show(self, line: Mapping[str, Any]) -> None:
        """A line of log.jsonl: a step, or a measurement."""
        step = int(line["step"])
        with contextlib.suppress(OSError):
            if self._writer is None:
                self._writer = _writer(self.folder, step)
            for name in _SHOWN:
                if line.get(name) is not None:
                    self._writer.add_scalar(f"training/{name}", line[name], step)
            for name, share in line.get("measured", {}).items():
                self._writer.add_scalar(f"recall/{_tag(name)}", share, step)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._writer is not None:
                self._writer.close()


def require_tensorboard() -> None:
    """One line that names the extra where it is missing."""
    with extra("tensorboard", "--tensorboard"):
        import tensorboard  # noqa: F401


def _writer(folder: Path, first_step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_step, flush_secs=10)


def _tag(name: str) -> str:
    """TensorBoard takes letters, digits and _-./ alone, and says so once for each other name."""
    return name.replace(" ", "/").replace("@", "_at_").replace(":", "_")
