"""What is said of a file of an index that is not as it was written."""

from __future__ import annotations

from pathlib import Path

from cricavpr.errors import InputError


class DamagedError(InputError):
    """A file of an index is not as it was written. `offset` is the first byte of the block that differs."""

    def __init__(self, file: Path, why: str, offset: int | None = None) -> None:
        where = "" if offset is None else f" at byte {offset}"
        super().__init__(
            f"{file} {why}{where}: the index is damaged. Bring the file back from a copy, or build the index again."
        )
        self.file, self.why, self.offset = Path(file), why, offset

    def __reduce__(self) -> tuple[type[DamagedError], tuple[Path, str, int | None]]:
        return type(self), (self.file, self.why, self.offset)


class MeasuredError(InputError):
    """What was measured on an index is not as it was written, and is not used; the index itself may be sound."""

    offset: None = None

    def __init__(self, file: Path, why: str, verb: str) -> None:
        super().__init__(f"{file} {why}, and is not used. Measure again: cricavpr index {verb} {file.parent}")
        self.file, self.why, self.verb = file, why, verb

    def __reduce__(self) -> tuple[type[MeasuredError], tuple[Path, str, str]]:
        return type(self), (self.file, self.why, self.verb)
