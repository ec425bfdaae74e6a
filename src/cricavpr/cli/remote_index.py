"""`cricavpr index` where the index is milvus://host:port/collection. What differs from a folder, and nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from cricavpr.cli import given
from cricavpr.cli.options import SOME_FAILED, load_method, print_facts, report
from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.errors import InputError
from cricavpr.grouping import ALONE
from cricavpr.index.place_index import PlaceIndex, photo_ids
from cricavpr.index.remote import Address, RemoteChange, RemoteIndex, folder_named
from cricavpr.methods.base import Method, made_by
from cricavpr.progress import Progress
from cricavpr.terminal import printable


def run(verb: str, where: str, args: argparse.Namespace) -> int:
    """One verb of `cricavpr index` on a server."""

    address = Address.parse(where)
    if verb not in VERBS:
        raise InputError(
            f"`index {verb}` is for an index in a folder, and {address} is kept by its server. "
            f"On a server there are: {', '.join(VERBS)}."
        )
    return VERBS[verb](address, args)


def build(address: Address, args: argparse.Namespace) -> int:
    """Begin an index, or go on with one that was interrupted."""

    if args.dtype != "float32":
        raise InputError(f"a server stores descriptors as float32. Leave --dtype {printable(args.dtype)} out.")
    method = load_method(args)
    photos, unusable = given.photos(args)
    ids = photo_ids(photos.root, photos.names)
    index = RemoteIndex.create_or_open(address, made_by(method, ALONE), args.kind)
    others = len(index) - len({one for one, there in zip(ids, index.there(ids).tolist(), strict=True) if there})
    if others:
        raise InputError(
            f"{address} holds {others:,} photos that are not among these. Use `cricavpr index add {address}`, "
            "or choose another collection."
        )
    return _fill(index, args, method, photos, ids, unusable)


def add(address: Address, args: argparse.Namespace) -> int:

    index, method = RemoteIndex.open(address), load_method(args)
    index.require(made_by(method, ALONE))
    photos, unusable = given.photos(args)
    return _fill(index, args, method, photos, photo_ids(photos.root, photos.names), unusable)


def _fill(
    index: RemoteIndex,
    args: argparse.Namespace,
    method: Method,
    photos: ImageSet,
    ids: tuple[bytes, ...],
    unusable: tuple[Problem, ...],
) -> int:
    """Describe and send what the server does not have."""
    fresh = ~index.there(ids)
    already = int((~fresh).sum())
    if not fresh.any():
        print(f"{index.address}: 0 added, {already:,} already there, {len(index):,} photos")
        return report(unusable)
    photos, ids = photos.take(fresh), tuple(one for one, new in zip(ids, fresh.tolist(), strict=True) if new)
    working = Path(f"{index.address.host}-{index.address.port}-{index.address.collection}".replace(":", "_"))
    described = given.describe(args, method, photos, working)
    kept = photos.take(described.kept)
    change = _sending(
        args,
        len(kept),
        lambda progress: index.add(
            described.descriptors,
            kept.positions,
            kept.root,
            ids=[ids[row] for row in described.kept.tolist()],
            times=kept.times,
            tags=given.tags(args, kept),
            progress=progress,
        ),
    )
    given.unfinished(working).unlink(missing_ok=True)
    already += change.already
    print(f"{index.address}: {change.added:,} added, {already:,} already there, {len(index):,} photos")
    return report((*unusable, *described.problems))


def merge(address: Address, args: argparse.Namespace) -> int:

    other = PlaceIndex.open(folder_named(args.other, "merge"))
    index = RemoteIndex.create_or_open(address, other.made_by, args.kind)
    change = _sending(args, len(other), lambda progress: index.merge(other, progress))
    print(f"{address}: {change.added:,} added, {change.already:,} already there, {len(index):,} photos")
    return 0


def _sending(
    args: argparse.Namespace, total: int, send: Callable[[Callable[[int, int], None]], RemoteChange]
) -> RemoteChange:
    """Send with a bar."""

    with Progress(not getattr(args, "quiet", False), total) as progress:
        progress.start(0)
        return send(progress.reach)


def remove(address: Address, args: argparse.Namespace) -> int:

    names, ids = given.chosen(args)
    index = RemoteIndex.open(address)
    change = index.remove(names, ids=ids)
    print(f"{address}: {change.removed:,} removed, {len(index):,} photos")
    for name in change.missing:
        print(f"not in the index: {printable(name)}", file=sys.stderr)
    return SOME_FAILED if change.missing else 0


def info(address: Address, args: argparse.Namespace) -> int:

    facts = RemoteIndex.open(address).info()
    print_facts(facts, args.json)
    return 0


VERBS: dict[str, Callable[[Address, argparse.Namespace], int]] = {
    "build": build,
    "add": add,
    "remove": remove,
    "merge": merge,
    "info": info,
}
