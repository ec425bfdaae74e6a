"""Choice of the engine, exact or compressed, that searches a version of an index, and of the reason for it.

By default (engine "auto"), compressed search is used only if three conditions are met: the index is large, the codes
fit into memory, and `cricavpr index tune` has measured that the recall is nearly that of exact search.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np

from cricavpr.descriptors import DescriptorSet, refuse_flaws
from cricavpr.errors import InputError, MissingExtraError
from cricavpr.files import size_and_time
from cricavpr.index.codes.coding import (
    InMemory,
    Opened,
    coded,
    open_compressed,
    prepare,
    quantiser_of,
    required_quantiser,
)
from cricavpr.index.codes.compressed import SHORTLIST, CompressedEngine, code_size
from cricavpr.index.codes.tuning import Tuned
from cricavpr.index.exact import ExactEngine
from cricavpr.index.manifest import TUNED
from cricavpr.index.photo_index import Found, KnownPhotos
from cricavpr.index.snapshot import Snapshot
from cricavpr.index.storage import FileError
from cricavpr.index.vectors import Mask
from cricavpr.schema import nearest

# Indexes with at most this many values are searched exactly: 12,000 descriptors of 4096 values. One query of such an
# index takes 7 ms of CPU time if descriptors are stored as float32, and 80 ms if they are stored as float16.
EXACT_VALUES = 50_000_000
RAM_BUDGET_MB = 512
PROGRAM_MB = 220  # memory of Python, numpy, faiss and the search, without the codes
MB = 1_000_000


@dataclass(frozen=True)
class Choice:
    """A search engine, "exact" or "compressed", and the reason for it, as text for printing."""

    engine: str
    reason: str

    def __str__(self) -> str:
        return f"{self.engine} search: {self.reason}"


def choose(size: int, dim: int, ram_budget_mb: float = RAM_BUDGET_MB) -> Choice:
    """Choose the engine for an index with `size` descriptors of `dim` values.

    Args:
        ram_budget_mb: memory that a search with codes may use, in MB.

    Raises:
        InputError: `ram_budget_mb` is not positive.

    Example:
        >>> print(choose(1000, 4096))
        exact search: 1,000 descriptors of 4096 values are few enough to read all of them
    """
    if not ram_budget_mb > 0:
        raise InputError(f"ram_budget_mb must be more than 0, got {ram_budget_mb:g}.")
    what = f"{size:,} descriptors of {dim} values"
    if size * dim <= EXACT_VALUES:
        return Choice("exact", f"{what} are few enough to read all of them")
    needed_mb = PROGRAM_MB + size * code_size(dim, size)[1] / 2 / MB
    if needed_mb > ram_budget_mb:
        return Choice(
            "exact",
            f"codes of {what} need {needed_mb:,.0f} MB of memory, and {ram_budget_mb:,.0f} MB are allowed. Choose the "
            "engine 'compressed' to use the codes anyway",
        )
    return Choice("compressed", f"{what}; codes need {needed_mb:,.0f} MB of the {ram_budget_mb:,.0f} MB allowed")


@dataclass(frozen=True, eq=False)
class FolderSearcher:
    """A searcher of one version of an index in a folder, see `photo_index.Searcher`.

    Attributes:
        choice: the engine and the reason for it.
        notes: messages for the user, such as a line for each missing or damaged file that was made again.
        allowed: (N,) mask of the photos that may be found, or None for all photos.
    """

    snapshot: Snapshot
    photos: KnownPhotos
    choice: Choice
    engine: ExactEngine | CompressedEngine
    notes: tuple[str, ...] = ()
    allowed: Mask | None = None
    most_matches: int = sys.maxsize

    def __repr__(self) -> str:
        return f"Searcher({self.choice})"

    def search(self, queries: DescriptorSet, top: int = 5) -> Found:  # (Q, D) -> (Q, min(top, photos allowed))
        """Return the `top` photos with the highest scores for each query, best first.

        Photos with equal scores are returned in the order in which they were added.

        Raises:
            MadeByError: the queries were made with another method, weights or settings than the index.
            InputError: a query is invalid, `top` is below 1, or a file is damaged.
        """
        made_by, path = self.snapshot.manifest.made_by, self.snapshot.path
        made_by.require_same(queries.made_by, f"the descriptors of the index {path} and of the queries")
        refuse_flaws(queries)
        found = self.engine.search(queries.vectors, top, self._allowed_rows())
        numbers = self.snapshot.numbers
        return Found(found.indices if numbers is None else numbers[found.indices], found.scores, self.photos)

    def _allowed_rows(self) -> Mask | None:
        """Convert the mask of photos that may be found to a mask of the rows of the files; None means all rows."""
        live = self.snapshot.rows.live
        if self.allowed is None or live is None:
            return self.allowed
        rows = live.copy()
        rows[live] = self.allowed
        return rows


class Searching:
    """A factory of searchers for one version of an index. All its searchers share the codes in memory.

    Args:
        photos: names and positions of the photos of this version.
        known: codes that were loaded into memory for an earlier version. They are used again.
    """

    def __init__(self, snapshot: Snapshot, photos: KnownPhotos, known: InMemory | None = None) -> None:
        self.snapshot, self.photos, self.codes = snapshot, photos, known
        self._opened: Opened | None = None
        self._auto: tuple[tuple[float, int, int], FolderSearcher] | None = None
        self._opening = Lock()  # so that several threads load the codes only once

    def searcher(self, engine: str, allowed: Mask | None, ram_budget_mb: float) -> FolderSearcher:
        """Return a searcher as `PlaceIndex.searcher` does.

        Args:
            allowed: (N,) mask of the photos that may be found, or None for all photos.
        """
        if engine not in ENGINES:
            raise InputError(f"unknown engine {engine!r}. {nearest(engine, ENGINES)}")
        return ENGINES[engine](self, allowed, ram_budget_mb)

    def exact(
        self, allowed: Mask | None, ram_budget_mb: float = RAM_BUDGET_MB, reason: str = "as requested"
    ) -> FolderSearcher:
        """Return a searcher with the exact engine."""
        engine = ExactEngine(self.snapshot.rows)
        return FolderSearcher(self.snapshot, self.photos, Choice("exact", reason), engine, (), allowed)

    def compressed(self, allowed: Mask | None, ram_budget_mb: float = RAM_BUDGET_MB) -> FolderSearcher:
        """Return a searcher that uses codes, even if `tune` has not measured their recall. Missing codes are made."""
        try:
            made = prepare(self.snapshot.path) if self._opened is None and not self._has_quantiser() else None
            notes, shortlist = [made] if made else [], SHORTLIST
            try:
                shortlist = self.tuned_shortlist()
            except InputError as error:
                notes.append(f"the default shortlist of {SHORTLIST} is used, because {error}")
            searcher = self._by_codes(Choice("compressed", "as requested"), shortlist, allowed)
        except InputError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            return self.exact(allowed, reason=str(error))  # the codes could not be written
        return replace(searcher, notes=(*notes, *searcher.notes))

    def auto(self, allowed: Mask | None, ram_budget_mb: float) -> FolderSearcher:
        """Return a compressed searcher if it is faster and `tune` measured its recall; otherwise an exact searcher."""
        if allowed is not None:
            return self._choose(allowed, ram_budget_mb)
        asked = ram_budget_mb, *size_and_time(self.snapshot.path / TUNED)
        kept = self._auto  # read once, because another thread may replace it
        if kept is None or kept[0] != asked:
            searcher = self._choose(None, ram_budget_mb)
            if searcher.choice.engine == "exact":  # not kept: codes may be ready the next time
                return searcher
            self._auto = kept = asked, searcher
        return kept[1]

    def _choose(self, allowed: Mask | None, ram_budget_mb: float) -> FolderSearcher:
        choice = self._choice(allowed, ram_budget_mb)
        if choice.engine == "exact":
            return self.exact(allowed, reason=choice.reason)
        try:
            return self._by_codes(choice, self.tuned_shortlist(), allowed)
        except (InputError, MissingExtraError) as error:
            return self.exact(allowed, reason=str(error))

    def _choice(self, allowed: Mask | None, ram_budget_mb: float) -> Choice:
        """Choose the engine by the number of photos that may be found and by the memory for the codes of all rows."""
        dim, count = self.snapshot.rows.dim, len(self.snapshot)
        choice = choose(count if allowed is None else int(np.count_nonzero(allowed)), dim, ram_budget_mb)
        return choice if choice.engine == "exact" else choose(len(self.snapshot.rows), dim, ram_budget_mb)

    def _by_codes(self, choice: Choice, shortlist: int, allowed: Mask | None) -> FolderSearcher:
        opened = self.opened()
        choice = replace(choice, reason=f"{choice.reason}; a shortlist of {shortlist}")
        engine = opened.engine.with_shortlist(shortlist)
        return FolderSearcher(self.snapshot, self.photos, choice, engine, opened.notes, allowed)

    def opened(self) -> Opened:
        """Return the compressed engine, which the first call opens. Raises the errors of `open_compressed`."""
        with self._opening:
            if self._opened is None:
                self._opened = open_compressed(self.snapshot, self.codes)
                self.codes = self._opened.codes
            return self._opened

    def _has_quantiser(self) -> bool:
        try:
            return quantiser_of(self.snapshot.path, self.snapshot.manifest.made_by) is not None
        except FileError:
            return False

    def tuned_shortlist(self) -> int:
        """Return the length of the shortlist that `tune` chose.

        Raises:
            InputError: `tune` has not run, or it measured other photos or codes.
        """
        path, manifest, tuned = self.snapshot.path, self.snapshot.manifest, Tuned.read(self.snapshot.path)
        opened = self._opened.engine.quantiser if self._opened else required_quantiser(path, manifest.made_by)
        return tuned.shortlist(manifest.pieces, opened.fingerprint)

    def described(self) -> dict[str, str]:
        """Return facts for `PlaceIndex.info`: the engine that "auto" chooses, the codes, and the result of `tune`."""
        path, manifest = self.snapshot.path, self.snapshot.manifest
        choice, codes, measured = self._choice(None, RAM_BUDGET_MB), "none", "not measured"
        try:
            quantiser = quantiser_of(path, manifest.made_by)
            if quantiser is not None:
                there = coded(path, manifest.pieces, quantiser)
                codes = f"{quantiser.code_bytes} bytes a photo, {len(there)} of {len(manifest.pieces)} segments coded"
            if quantiser is not None or choice.engine == "compressed":
                shortlist, tuning = self.tuned_shortlist(), Tuned.read(path).tuning
                recall = next(one.recall_at_10 for one in tuning.settings if one.shortlist == shortlist)
                measured = f"{shortlist}, which found {recall:.1%} of the ten best matches of {tuning.queries} photos"
        except InputError as error:
            measured = str(error)
            choice = choice if choice.engine == "exact" else Choice("exact", str(error))
        return {"engine": str(choice), "codes": codes, "shortlist": measured}


ENGINES: dict[str, Callable[[Searching, Mask | None, float], FolderSearcher]] = {
    "auto": Searching.auto,
    "exact": Searching.exact,
    "compressed": Searching.compressed,
}
