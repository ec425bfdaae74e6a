"""What benchmarks/milvus.py measures and benchmarks/scale.py computes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """Of one kind of collection at one size.

    Attributes:
        add_per_s: photos a second, through `add`, with the last of them settled.
        one_ms, slow_ms: median and 95th percentile of a search for one query.
        batch_ms: each query of a batch of all.
        near_ms: median with a filter that leaves a hundredth.
        recall: share of the exact ten best that were found.
        tagged: photos found of the ten best with a tag that a hundredth have, on average; there are more than ten.
        off: largest difference of a score from the exact one.
        rss_mb, disk_mb: of the server, when it has come to rest; `empty_mb` before anything was in it.
    """

    kind: str
    rows: int
    dim: int
    add_per_s: float
    one_ms: float
    slow_ms: float
    batch_ms: float
    near_ms: float
    recall: float
    tagged: float
    off: float
    rss_mb: float
    empty_mb: float
    disk_mb: float


def as_toml(found: list[Figures], source: str) -> str:
    lines = [f"# Written by benchmarks/milvus.py; see {source}."]
    for one in found:
        lines += ["", "[[milvus]]", f'kind = "{one.kind}"', f"rows = {one.rows}", f"dim = {one.dim}"]
        numbers = {key: value for key, value in vars(one).items() if isinstance(value, float)}
        lines += [f"{key} = {value:.6g}" for key, value in numbers.items()]
    return "\n".join(lines) + "\n"
