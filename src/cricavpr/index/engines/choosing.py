"""Which engine suits an index of this size in this much memory, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from cricavpr.errors import InputError
from cricavpr.index.engines.quantiser import Coding
from cricavpr.schema import nearest

EngineName = Literal["exact", "compressed"]
EXACT_VALUES = 50_000_000  # 12,000 x 4096: 7 ms of CPU for a query from float32, 80 ms from float16
RAM_BUDGET_MB = 512
PROGRAM_MB = 220  # Python, numpy, faiss, and what laying out codes and searching need besides them
MB = 1_000_000


@dataclass(frozen=True)
class Choice:
    """An engine and the reason, for printing."""

    engine: EngineName
    reason: str

    def __str__(self) -> str:
        return f"{self.engine} search: {self.reason}"


def choose(
    size: int, dim: int, ram_budget_mb: float = RAM_BUDGET_MB, engine: str = "auto", coding: Coding | None = None
) -> Choice:
    """Choose for `size` descriptors of `dim` values; any other `engine` than "auto" is taken as it is.

    Raises:
        InputError: an engine that there is not, or a budget that is none.
    """
    if engine != "auto":
        return Choice(_known(engine), "as asked for")
    if not ram_budget_mb > 0:
        raise InputError(f"{ram_budget_mb} MB of memory is no budget. Give more than 0.")
    what = f"{size:,} descriptors of {dim} values"
    if size * dim <= EXACT_VALUES:
        return Choice("exact", f"{what} are few enough to be read whole")
    needed_mb = PROGRAM_MB + size * (coding or Coding()).fitting(dim, size)[1] / 2 / MB
    if needed_mb > ram_budget_mb:
        return Choice(
            "exact",
            f"codes of {what} take {needed_mb:,.0f} MB of memory and {ram_budget_mb:,.0f} MB are allowed; "
            "the engine 'compressed' takes them when it is asked for",
        )
    return Choice("compressed", f"{what}; codes take {needed_mb:,.0f} MB of the {ram_budget_mb:,.0f} MB allowed")


def _known(engine: str) -> EngineName:
    names = get_args(EngineName)
    if engine not in names:
        raise InputError(f"there is no engine {engine!r}. {nearest(engine, ('auto', *names))}")
    return cast(EngineName, engine)
