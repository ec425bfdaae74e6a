"""`cricavpr index`: build a database of photos, let it grow and shrink, and see what it holds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from cricavpr.cli import calibrate, given, health, remote_index, tune
from cricavpr.cli.options import SOME_FAILED, add_method, add_work, load_method, print_facts, report
from cricavpr.cli.verbs import Subparsers
from cricavpr.errors import InputError
from cricavpr.grouping import ALONE
from cricavpr.index.auditing import damages
from cricavpr.index.manifest import is_ours, known_dtype
from cricavpr.index.place_index import PlaceIndex, photo_ids, refuse_foreign
from cricavpr.index.remote import folder_named
from cricavpr.methods.base import Method, made_by
from cricavpr.progress import Progress
from cricavpr.terminal import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    _add_photos_parsers(actions)
    _add_changing_parsers(actions)
    _add_asking_parsers(actions)
    tune.add_arguments(actions.add_parser("tune", help="make codes for a large index, and measure their recall"))
    calibrate.add_arguments(actions.add_parser("calibrate", help="learn how far answers can be trusted"))
    health.add_arguments(actions.add_parser("health", help="holes, near-duplicates, look-alikes and bad photos"))


def _add_photos_parsers(actions: Subparsers[argparse.ArgumentParser]) -> None:
    building = actions.add_parser(
        "build",
        help="index a folder of photos",
        description="Describe every located photo by itself and keep it with its position and time. An index that is "
        "there is replaced by these photos when they are described; `add` lets it grow.",
    )
    _add_photos(building)
    building.add_argument(
        "--out", required=True, metavar="INDEX", help="the folder of the index, or milvus://host:port/collection"
    )
    building.add_argument(
        "--dtype",
        default="float32",
        metavar="DTYPE",
        help="how a new folder stores descriptors: float32, or float16 in half the room (default: float32)",
    )
    _add_kind(building)
    building.set_defaults(run=_or_remote(build, "out"))
    adding = actions.add_parser(
        "add",
        help="add a folder of photos to an index",
        description="Describe the located photos that the index does not have yet, and add them.",
    )
    adding.add_argument("index", metavar="INDEX", help="the folder of the index")
    _add_photos(adding)
    _add_wait(adding)
    adding.set_defaults(run=_or_remote(add))
    updating = actions.add_parser(
        "update",
        help="replace photos of an index by those of the same name",
        description="Describe the located photos, and put each in the place of the one with its name or its bytes.",
    )
    updating.add_argument("index", metavar="INDEX", help="the folder of the index")
    _add_photos(updating)
    _add_wait(updating)
    updating.set_defaults(run=_or_remote(update))


def _add_changing_parsers(actions: Subparsers[argparse.ArgumentParser]) -> None:
    removing = actions.add_parser(
        "remove",
        help="take photos out of an index",
        description="Take photos out by name or by id. No search finds them from now on; `compact` wipes their bytes.",
    )
    removing.add_argument("index", metavar="INDEX", help="the folder of the index")
    removing.add_argument("names", nargs="*", metavar="NAME", help="names as `export` prints them")
    removing.add_argument("--id", action="append", default=[], metavar="SHA256", help="the SHA-256 of a photo's bytes")
    removing.add_argument("--from", dest="list", metavar="FILE", help="a file with a name on each line, - for stdin")
    _add_wait(removing)
    removing.set_defaults(run=_or_remote(remove))
    merging = actions.add_parser("merge", help="add all photos of another index")
    merging.add_argument("index", metavar="INDEX", help="the folder of the index that grows")
    merging.add_argument("other", metavar="OTHER", help="the folder of the index to take the photos from")
    _add_kind(merging)
    _add_wait(merging)
    merging.set_defaults(run=_or_remote(merge))
    compacting = actions.add_parser(
        "compact",
        help="write small segments together, and wipe what was removed",
        description="Write small segments together, and wipe what was removed from all files. Needs room for a copy.",
    )
    compacting.add_argument("index", metavar="INDEX", help="the folder of the index")
    compacting.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_wait(compacting)
    compacting.set_defaults(run=_or_remote(compact))


def _add_asking_parsers(actions: Subparsers[argparse.ArgumentParser]) -> None:
    asking = actions.add_parser("info", help="what an index holds and how it was made")
    asking.add_argument("index", metavar="INDEX", help="the folder of the index")
    asking.add_argument("--json", action="store_true", help="print JSON")
    asking.set_defaults(run=_or_remote(info))
    verifying = actions.add_parser(
        "verify",
        help="read every byte and name what is damaged",
        description="Read every byte and name each damaged file, with the place in it. Exit code 2 where one is.",
    )
    verifying.add_argument("index", metavar="INDEX", help="the folder of the index")
    verifying.add_argument("--json", action="store_true", help="print JSON")
    verifying.add_argument("--quiet", action="store_true", help="no progress bar")
    verifying.set_defaults(run=_or_remote(verify))
    comparing = actions.add_parser("diff", help="what one index has and another has not")
    comparing.add_argument("index", metavar="FIRST", help="the folder of an index")
    comparing.add_argument("other", metavar="SECOND", help="the folder of another")
    comparing.add_argument("--json", action="store_true", help="print JSON")
    comparing.set_defaults(run=_or_remote(diff))
    exporting = actions.add_parser("export", help="write names and positions as CSV, GeoJSON or Parquet")
    exporting.add_argument("index", metavar="INDEX", help="the folder of the index")
    exporting.add_argument("--out", required=True, metavar="FILE", help="a .csv, .geojson or .parquet file")
    exporting.set_defaults(run=_or_remote(export))


def _add_photos(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", metavar="PHOTOS", help="a folder of photos with GPS in EXIF, or an @UTM@ folder")
    parser.add_argument(
        "--positions", metavar="FILE", help="a CSV or GeoJSON with the positions of the photos, and their times"
    )
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="a word for all these photos")
    add_method(parser)
    add_work(parser)


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind",
        default="flat",
        metavar="KIND",
        help="how a new collection of a server is searched: flat (exact), ivf or hnsw (default: flat)",
    )


def _or_remote(verb: Callable[[argparse.Namespace], int], where: str = "index") -> Callable[[argparse.Namespace], int]:
    """The same verb on a server, where the index is given by the address of one."""

    def run(args: argparse.Namespace) -> int:
        if not getattr(args, where).startswith("milvus://"):
            _refuse_kind(args)
            return verb(args)
        return remote_index.run(verb.__name__, getattr(args, where), args)

    return run


def _refuse_kind(args: argparse.Namespace) -> None:
    """A folder has no kinds: better said than ignored."""

    if getattr(args, "kind", "flat") != "flat":
        raise InputError(f"--kind {printable(args.kind)} is for the collection of a server. Leave it out for a folder.")


def _add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="wait for another writer (default: not at all)"
    )


# --- photos in


def build(args: argparse.Namespace) -> int:

    to = Path(args.out)
    refuse_foreign(to)
    known_dtype(args.dtype)  # before hours of describing
    method = load_method(args)
    photos, unusable = given.photos(args)
    described = given.describe(args, method, photos, to)
    kept = photos.take(described.kept)
    ids = photo_ids(kept.root, kept.names)
    tags = given.tags(args, kept)
    before = _replaced(to)
    index = PlaceIndex.build(
        described.descriptors, kept.positions, kept.root, to, ids=ids, times=kept.times, tags=tags, dtype=args.dtype
    )
    given.unfinished(to).unlink(missing_ok=True)
    made = f"method {index.made_by.method}, grouping {index.made_by.grouping}"
    print(f"{to}: {len(index):,} photos, {index.rows.timed:,} with a time, {made}")
    if before:
        print(f"they replace {before}.", file=sys.stderr)
    if len(index) < len(kept):
        print(f"{len(kept) - len(index):,} photos are copies of others and count once.", file=sys.stderr)
    return report((*unusable, *described.problems))


def add(args: argparse.Namespace) -> int:

    index, method = _open_to_write(args)
    photos, unusable = given.photos(args)
    ids = photo_ids(photos.root, photos.names)
    fresh = index.find(ids) < 0
    already = int((~fresh).sum())
    if not fresh.any():
        print(f"{index.path}: 0 added, {already:,} already there, {len(index):,} photos")
        return report(unusable)
    photos, ids = photos.take(fresh), tuple(one for one, new in zip(ids, fresh.tolist(), strict=True) if new)
    described = given.describe(args, method, photos, index.path)
    kept = photos.take(described.kept)
    change = index.add(
        described.descriptors,
        kept.positions,
        kept.root,
        ids=[ids[row] for row in described.kept.tolist()],
        times=kept.times,
        tags=given.tags(args, kept),
        wait_s=args.wait,
    )
    given.unfinished(index.path).unlink(missing_ok=True)
    already += change.already
    print(f"{index.path}: {change.added:,} added, {already:,} already there, {len(change.index):,} photos")
    return report((*unusable, *described.problems))


def update(args: argparse.Namespace) -> int:

    index, method = _open_to_write(args)
    photos, unusable = given.photos(args)
    described = given.describe(args, method, photos, index.path)
    kept = photos.take(described.kept)
    ids = photo_ids(kept.root, kept.names)
    change = index.update(
        described.descriptors,
        kept.positions,
        kept.root,
        ids=ids,
        times=kept.times,
        tags=given.tags(args, kept),
        wait_s=args.wait,
    )
    given.unfinished(index.path).unlink(missing_ok=True)
    print(
        f"{index.path}: {change.removed:,} replaced by {change.added:,}, {change.already:,} already as given, "
        f"{len(change.index):,} photos"
    )
    return report((*unusable, *described.problems))


def _open_to_write(args: argparse.Namespace) -> tuple[PlaceIndex, Method]:
    """The index and the method that made it: worth knowing before the photos are described."""

    index, method = PlaceIndex.open(Path(args.index)), load_method(args)
    index.made_by.require_same(made_by(method, ALONE), f"the photos of {index.path} and those to add")
    return index, method


def _replaced(to: Path) -> str:
    """What an index holds that is about to be replaced; nothing where there is nothing to lose."""

    try:
        count = len(PlaceIndex.open(to))
        return f"the {count:,} photos that were in {to}; `cricavpr index add` adds" if count else ""
    except InputError:  # damaged, or of another release: who knows what was in it
        there = to.is_dir() and any(is_ours(path.name) for path in to.iterdir())
        return f"an index in {to} that could not be opened" if there else ""


# --- changing


def remove(args: argparse.Namespace) -> int:

    names, ids = given.chosen(args)
    change = PlaceIndex.open(Path(args.index)).remove(names, ids=ids, wait_s=args.wait)
    print(f"{args.index}: {change.removed:,} removed, {len(change.index):,} photos")
    for name in change.missing:
        print(f"not in the index: {printable(name)}", file=sys.stderr)
    return SOME_FAILED if change.missing else 0


def merge(args: argparse.Namespace) -> int:

    index, other = PlaceIndex.open(Path(args.index)), PlaceIndex.open(folder_named(args.other, "merge"))
    change = index.merge(other, wait_s=args.wait)
    print(f"{args.index}: {change.added:,} added, {change.already:,} already there, {len(change.index):,} photos")
    return 0


def compact(args: argparse.Namespace) -> int:

    index = PlaceIndex.open(Path(args.index))
    with Progress(not args.quiet, len(index)) as progress:
        progress.start(0)
        index = index.compact(progress.reach, wait_s=args.wait)
    print(f"{args.index}: {len(index):,} photos in {len(index.snapshot.segments):,} segments")
    return 0


# --- asking


def info(args: argparse.Namespace) -> int:

    facts = PlaceIndex.open(Path(args.index)).info()
    print_facts(facts, args.json)
    return 0


def verify(args: argparse.Namespace) -> int:

    path = Path(args.index)
    with Progress(not args.quiet, 0) as progress:
        progress.start(0)
        found = list(damages(path, progress.reach))
    if args.json:
        listed = [{"file": str(one.file), "offset": one.offset, "why": one.why} for one in found]
        print(json.dumps({"sound": not found, "damages": listed}, indent=1))
    elif not found:
        print(f"{path}: sound, {len(PlaceIndex.open(path)):,} photos")
    for damage in found:
        print(f"cricavpr: {damage}", file=sys.stderr)
    return 2 if found else 0


def diff(args: argparse.Namespace) -> int:

    found = PlaceIndex.open(Path(args.index)).diff(PlaceIndex.open(folder_named(args.other, "diff")))
    if args.json:
        print(json.dumps(found.to_dict(), indent=1))
        return 0
    for line in found.made_by:
        print(f"! {line}")
    for mark, names in (("<", found.only_first), (">", found.only_second), ("~", found.changed)):
        for name in names:
            print(f"{mark} {printable(name)}")
    counts = (len(found.only_first), len(found.only_second), len(found.changed))
    print(
        "{:,} only in the first, {:,} only in the second, {:,} changed".format(*counts) + f", {found.same:,} the same"
    )
    return 0


def export(args: argparse.Namespace) -> int:

    index = PlaceIndex.open(Path(args.index))
    index.export(Path(args.out))
    print(f"{args.out}: {len(index):,} photos", file=sys.stderr)
    return 0
