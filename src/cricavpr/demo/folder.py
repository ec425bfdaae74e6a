"""Output folder of a demo. A demo replaces an earlier demo, but refuses a folder with other files.

The demo writes into a hidden subfolder, and moves its files to their places at the end. So a run that fails or is
killed leaves an earlier demo unchanged.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.files import write_text
from cricavpr.locks import exclusive

FORMAT = "cricavpr.demo.1"
MARK = ".cricavpr_demo.json"  # name of the file that lists all files of the demo
LOCK = ".cricavpr_demo.lock"
STAGE = ".cricavpr_demo.unfinished"


@contextlib.contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """Yield a temporary folder inside `out`, and move its content to `out` if the `with` block succeeds.

    The content replaces the files of an earlier demo in `out`.

    Raises:
        InputError: `out` is a file, has files that no demo wrote, is used by another demo, or cannot be written.
    """
    refuse_foreign(out)
    stage = out / STAGE
    with _one_line_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with exclusive(out / LOCK, str(out)):
        try:
            with _one_line_errors(out):
                shutil.rmtree(stage, ignore_errors=True)
                stage.mkdir()
            yield stage
            with _one_line_errors(out):
                _move(stage, out)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def refuse_foreign(out: Path) -> None:
    """Raise if `out` is a file, or a folder with files that no demo wrote.

    Raises:
        InputError: the message names the first such file.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"the demo needs a folder to write into, got the file {out}. Choose a folder with --out.")
    paths = (path for path in out.rglob("*") if path.is_symlink() or not path.is_dir())
    names = (path.relative_to(out) for path in paths)
    visible = {name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)}
    if strange := sorted(visible - _written(out)):
        raise InputError(
            f"the demo needs a new folder, an empty one or that of an earlier demo, but {out} has the file "
            f"{strange[0]!r}, which no demo wrote. Choose another folder with --out, or move the file away."
        )


def _move(stage: Path, out: Path) -> None:
    old = _written(out)
    new = {path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()}
    _mark(out, old | new)  # list both, in case this process is killed while it moves files
    for name in old - new:
        (out / name).unlink(missing_ok=True)
    for name in new:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(out / name)
    _mark(out, new)
    for folder in sorted({(out / name).parent for name in old - new} - {out}, reverse=True):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


def _mark(out: Path, names: Iterable[str]) -> None:
    write_text(out / MARK, json.dumps({"format": FORMAT, "files": sorted(names)}, indent=0))


def _written(out: Path) -> set[str]:
    """Return the names of the files in `out` that demos wrote, as listed in the file MARK.

    The set is empty if that file is missing or invalid. Listed names outside the folder are ignored.
    """
    try:
        mark = json.loads((out / MARK).read_text(encoding="utf-8"))
        names = [Path(name) for name in mark["files"] if mark["format"] == FORMAT]
        return {name.as_posix() for name in names if not name.is_absolute() and ".." not in name.parts}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


@contextlib.contextmanager
def _one_line_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write the demo to {out}: {error.strerror or error}. Choose another folder with --out."
        ) from error
