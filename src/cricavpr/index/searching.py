"""How a version of an index is searched: which engine, why, over which photos, and what had to be made for it.

Left to itself ("auto") an index is compressed only where it is large, the codes fit into memory, and `tune` has
measured on its own photos which shortlist keeps what exact search finds. Nobody gives recall up unknowingly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError, MissingExtraError
from cricavpr.files import size_and_time
from cricavpr.index import engines
from cricavpr.index.coding import Keeper, Report, coded, prepare, segments_of
from cricavpr.index.durable import writer_of
from cricavpr.index.engines import Choice, CompressedEngine, ExactEngine, LaidOut, Quantiser, Tuning
from cricavpr.index.engines.compressed import SHORTLIST
from cricavpr.index.engines.tuning import SHORTLISTS, TARGET
from cricavpr.index.manifest import TUNED
from cricavpr.index.search import Predictions, search
from cricavpr.index.snapshot import Snapshot
from cricavpr.index.tuned import Tuned

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Searcher:
    """One way to search one version.

    Attributes:
        choice: the engine and why it is this one, for printing.
        notes: one line for each thing that was missing or damaged and had to be made.
        allowed: (N,) the photos that may be found, or None for all.
    """

    snapshot: Snapshot
    choice: Choice
    notes: tuple[str, ...] = ()
    allowed: Mask | None = None
    _compressed: CompressedEngine | None = None

    def search(self, queries: NDArray[np.float32], top: int) -> Predictions:  # (Q, D) -> (Q, min(top, photos allowed))
        """The best photos for each query, best first; of equal scores the one that was added first.

        Raises:
            InputError: shapes that do not fit, `top` below 1, or a damaged file, which is named.
        """
        # The queries are copied because they may be the very rows that are searched, and numpy multiplies an array
        # with itself in another way, which rounds otherwise.
        queries = queries.copy()
        if self._compressed is None and self.allowed is None:
            # Vectors is sliced like an array, and gives arrays.
            return search(cast("NDArray[np.float32]", self.snapshot.vectors), queries, top)
        found = self.engine.search(queries, top, _in_files(self.allowed, self.snapshot.live))
        numbers = self.snapshot.numbers
        return found if numbers is None else replace(found, indices=numbers[found.indices])

    @property
    def engine(self) -> CompressedEngine | ExactEngine:
        """What searches, over the rows of the files."""
        if self._compressed is not None:
            return self._compressed
        parts = tuple(segment.vectors for segment in segments_of(self.snapshot))
        return ExactEngine(engines.Rows(parts, self.snapshot.live))


def _in_files(allowed: Mask | None, live: Mask | None) -> Mask | None:
    """A mask over photos as one over the rows of the files, where removed ones lie too."""
    if allowed is None or live is None:
        return allowed
    rows = live.copy()
    rows[live] = allowed
    return rows


class Searching:
    """All ways to search one version; what is in memory for one of them is there for the next."""

    def __init__(self, snapshot: Snapshot, laid_out: LaidOut | None = None) -> None:
        """`laid_out`: codes of an earlier version in memory; those of the same segments serve here too."""
        self.snapshot, self.laid_out = snapshot, laid_out
        self._engine: tuple[CompressedEngine, tuple[str, ...]] | None = None
        self._auto: tuple[tuple[float, int, int], Searcher] | None = None
        self._opening = Lock()  # codes are laid out once, however many threads ask for them

    def searcher(self, engine: str, allowed: Mask | None, ram_budget_mb: float) -> Searcher:
        """As `PlaceIndex.searcher`; `allowed` (N,) are the photos that may be found."""
        if engine != "auto" or allowed is not None:
            return self._searcher(engine, allowed, ram_budget_mb)
        asked = ram_budget_mb, *size_and_time(self.snapshot.path / TUNED)
        kept = self._auto  # another thread may keep another one meanwhile
        if kept is None or kept[0] != asked:
            searcher = self._searcher(engine, None, ram_budget_mb)
            if searcher.choice.engine == "exact":  # costs little, and what stood in the way of codes may be gone soon
                return searcher
            self._auto = kept = asked, searcher
        return kept[1]

    def _searcher(self, engine: str, allowed: Mask | None, ram_budget_mb: float) -> Searcher:
        choice = self._chosen(engine, allowed, ram_budget_mb)
        if choice.engine == "exact":
            return Searcher(self.snapshot, choice, (), allowed)
        try:
            if engine == "auto":
                return self._compressed(choice, self.tuned_shortlist(), allowed)
            return self._forced(choice, allowed)
        except (InputError, MissingExtraError) as error:
            if engine != "auto" and not isinstance(error.__cause__, OSError):
                raise
            return Searcher(self.snapshot, Choice("exact", str(error)), (), allowed)

    def _chosen(self, engine: str, allowed: Mask | None, ram_budget_mb: float) -> Choice:
        """By how many photos may be found; where codes come in, those of all must fit into memory."""
        manifest = self.snapshot.manifest
        count = manifest.count if allowed is None else int(np.count_nonzero(allowed))
        choice = engines.choose(count, manifest.made_by.dim, ram_budget_mb, engine)
        if choice.engine == "exact" or engine != "auto":
            return choice
        return engines.choose(sum(piece.count for piece in manifest.pieces), manifest.made_by.dim, ram_budget_mb)

    def _forced(self, choice: Choice, allowed: Mask | None) -> Searcher:
        """With codes that are made now where there are none, and a shortlist that may not have been measured."""
        note = prepare(self.snapshot.path) if self._engine is None and self._quantiser_or_none() is None else None
        try:
            shortlist = self.tuned_shortlist()
        except InputError as error:
            searcher = self._compressed(choice, SHORTLIST, allowed)
            notes = (f"the shortlist of {SHORTLIST} is not measured: {error}", *searcher.notes)
        else:
            searcher = self._compressed(choice, shortlist, allowed)
            notes = searcher.notes
        return replace(searcher, notes=(*([note] if note else ()), *notes))

    def _compressed(self, choice: Choice, shortlist: int, allowed: Mask | None) -> Searcher:
        engine, notes = self.opened()
        choice = replace(choice, reason=f"{choice.reason}; a shortlist of {shortlist}")
        return Searcher(self.snapshot, choice, notes, allowed, engine.with_shortlist(shortlist))

    def opened(self) -> tuple[CompressedEngine, tuple[str, ...]]:
        """The compressed engine, and what had to be made for it. What can be kept of that is kept.

        Raises:
            InputError: there is no sound quantiser.
            MissingExtraError: faiss is not installed.
        """
        with self._opening:
            if self._engine is None:
                self._engine = self._open()
            return self._engine

    def _open(self) -> tuple[CompressedEngine, tuple[str, ...]]:
        keeper, path = Keeper(self.snapshot.path), self.snapshot.path
        segments, made_by = segments_of(self.snapshot), self.snapshot.manifest.made_by
        opened = engines.open_compressed(
            path, segments, made_by, self.snapshot.live, write=keeper, laid_out=self.laid_out
        )
        self.laid_out = opened.laid_out
        return opened.engine, (*opened.notes, *keeper.notes)

    def _quantiser_or_none(self) -> Quantiser | None:
        try:
            return engines.quantiser_of(self.snapshot.path, self.snapshot.manifest.made_by)
        except InputError:
            return None

    def tuned_shortlist(self) -> int:
        """The shortlist that `tune` has found for these photos and these codes.

        Raises:
            InputError: nothing was found, or on other photos.
        """
        pieces = self.snapshot.manifest.pieces
        tuned = Tuned.read(self.snapshot.path)
        if self._engine is not None:
            return tuned.kept(pieces, self._engine[0].quantiser.fingerprint)
        quantiser = engines.required_quantiser(self.snapshot.path, self.snapshot.manifest.made_by)
        return tuned.kept(pieces, quantiser.fingerprint)

    def described(self, ram_budget_mb: float) -> dict[str, str]:
        """For `info`: the engine that "auto" takes and why, which codes there are, and what was measured of them."""
        choice = self._chosen("auto", None, ram_budget_mb)
        codes, shortlist = "none", "not measured"
        try:
            quantiser = engines.quantiser_of(self.snapshot.path, self.snapshot.manifest.made_by)
            if quantiser is not None:
                pieces = self.snapshot.manifest.pieces
                there = coded(self.snapshot.path, pieces, quantiser)
                codes = f"{quantiser.code_bytes} bytes a photo, {len(there)} of {len(pieces)} segments coded"
                shortlist = f"{self.tuned_shortlist()} ({Tuned.read(self.snapshot.path)})"
            elif choice.engine == "compressed":
                self.tuned_shortlist()
        except InputError as error:
            shortlist = str(error)
            choice = choice if choice.engine == "exact" else Choice("exact", str(error))
        return {"engine": str(choice), "codes": codes, "shortlist": shortlist}


def tune(
    snapshot: Snapshot,
    sample: int,
    shortlists: Sequence[int] = SHORTLISTS,
    target: float = TARGET,
    progress: Report | None = None,
    wait_s: float = 0.0,
) -> Tuning:
    """Measure shortlists on a version whose codes are there, and keep what was found. As `PlaceIndex.tune`."""
    engine, _ = Searching(snapshot).opened()
    tuning = engines.tune(engine, sample, shortlists, target, report=progress)
    found = tuning.keeps
    recalls = (found.recall_at_1, found.recall_at_10) if found else (0.0, 0.0)
    segments = {piece.footer_sha256: piece.live for piece in snapshot.manifest.pieces}
    shortlist = found.shortlist if found else None
    fingerprint = engine.quantiser.fingerprint
    tuned = Tuned(fingerprint, segments, tuning.rows, shortlist, target, tuning.queries, *recalls)
    with writer_of(snapshot.path, wait_s):
        tuned.write(snapshot.path)
    return tuning
