"""An index from a stranger: whatever stands in place of a file, nothing hangs, and no file elsewhere is touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.errors import InputError
from cricavpr.index.auditing import damages
from cricavpr.index.checksummed_json import seal
from cricavpr.index.manifest import WORK
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.storage import LOCK, DamagedError, UnreadableError
from cricavpr.index.writing import work_folder
from cricavpr.locate.calibration import read_calibration
from tests.forked import forked
from tests.index.places import WIDE, added, built, numbers_of, photos

SECONDS = 60
NOBODY = 65534


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """A test that hangs is ended, and fails."""
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with every file that one may have."""
    pytest.importorskip("faiss")
    old = built(tmp_path_factory.mktemp("whole") / "index", range(80), WIDE)
    index = old.remove(["3.jpg"]).index
    (index.path / old.snapshot.manifest.name).unlink()
    index.prepare()
    index.newest().tune(5, [60])
    (index.path / "calibration.json").write_text(seal({"sketch": [], "wiped": 0}))
    return index.path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link_to_fifo(path: Path) -> None:
    os.mkfifo(path.parent.parent / "fifo")
    path.symlink_to(path.parent.parent / "fifo")


def link_to_itself(path: Path) -> None:
    shutil.move(path.with_name("aside"), path.parent.parent / "aside")
    path.symlink_to(path.parent.parent / "aside")


def device(path: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero, which never ends


def unix_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


THINGS = [fifo, link_to_fifo, link_to_itself, device, unix_socket, Path.mkdir]
FILES = ["version-*", "segment-*", "removed-*", "codes-*", "quantiser.bin", "tuned.json", "calibration.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", THINGS, ids=lambda make: make.__name__)
def test_in_place_of_a_file_nothing_else_is_read_and_nothing_waits(
    folder: Path, name: str, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = folder.glob(name)
    path.rename(path.with_name("aside"))
    try:
        make(path)
    except PermissionError:
        pytest.skip("this user cannot make devices")
    assert path.name in str(next(damages(folder)))
    assert main(["index", "verify", str(folder), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert f"{path} is not a regular file" in said and "Traceback" not in said
    needed = name.startswith(("version", "segment", "removed"))
    for words in (["index", "info", str(folder)], ["locate", "no.jpg", "--index", str(folder), "--method", "pixels"]):
        assert main(words) == 2 or not needed
        assert "Traceback" not in capsys.readouterr().err
    if needed:
        with pytest.raises(DamagedError, match=f"{path} is not a regular file"):
            PlaceIndex.open(folder).facts  # noqa: B018
        return
    index = PlaceIndex.open(folder)
    assert read_calibration(index).calibration is None
    index.info()
    try:
        assert index.search(photos([7], WIDE), 1, engine="compressed").indices.tolist() == [[6]]
    except InputError as error:  # codes were asked for, and nothing may take the place of a device
        assert name == "quantiser.bin" and f"cannot write {path}" in str(error)


def test_a_lock_that_is_a_link_overwrites_nothing(folder: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (folder / LOCK).unlink(missing_ok=True)
    (folder / LOCK).symlink_to(precious)
    index = PlaceIndex.open(folder)
    for change in (lambda: added(index, [90], WIDE), lambda: index.remove(["1.jpg"]), index.compact, index.prepare):
        with pytest.raises(InputError, match=r"cannot open the lock file .*: it is a symbolic link"):
            change()
    index.search(photos([7], WIDE), engine="compressed")
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("make", [fifo, device, unix_socket, Path.mkdir], ids=lambda make: make.__name__)
def test_a_lock_that_is_no_file_is_refused(folder: Path, make: Callable[[Path], None]) -> None:
    (folder / LOCK).unlink(missing_ok=True)
    try:
        make(folder / LOCK)
    except PermissionError:
        pytest.skip("this user cannot make devices")
    with pytest.raises(InputError, match="cannot open the lock file"):
        added(PlaceIndex.open(folder), [90], WIDE)


@pytest.mark.parametrize("inside", [False, True])
def test_a_folder_of_work_that_is_a_link_is_neither_used_nor_emptied(
    folder: Path, tmp_path: Path, inside: bool
) -> None:
    home = tmp_path / "home"
    (home / ("0123456789abcdef")).mkdir(parents=True)
    (home / "0123456789abcdef/precious").write_text("precious")
    if inside:
        (folder / WORK).mkdir()
        (folder / WORK / "0123456789abcdef").symlink_to(home / "0123456789abcdef")
    else:
        (folder / WORK).symlink_to(home)
        with pytest.raises(InputError, match="symbolic link"), work_folder(folder, "job"):
            pass
    PlaceIndex.open(folder).compact()
    assert [*home.rglob("*")] == [home / "0123456789abcdef", home / "0123456789abcdef/precious"]


def test_a_manifest_never_leads_out_of_its_folder(folder: Path, tmp_path: Path) -> None:
    """Even to a file of the right length and content."""
    (manifest,) = folder.glob("version-*")
    (segment,), (removed,) = folder.glob("segment-*"), folder.glob("removed-*")
    for path in (segment, removed):
        shutil.copy(path, tmp_path / path.name)
    values = json.loads(manifest.read_text())
    values.pop("checksum")
    (piece,) = values["pieces"]
    for outside in (
        {**piece, "file": f"../{segment.name}"},
        {**piece, "file": str(tmp_path / segment.name)},
        {**piece, "file": f"./{segment.name}"},
        {**piece, "file": removed.name},
        {**piece, "removed": {**piece["removed"], "file": f"../{removed.name}"}},
        {**piece, "removed": {**piece["removed"], "file": str(tmp_path / removed.name)}},
    ):
        manifest.write_text(seal({**values, "pieces": [outside]}))
        with pytest.raises(DamagedError, match=f"{manifest.name} does not describe an index .*invalid file name"):
            PlaceIndex.open(folder)


def test_sizes_are_compared_before_anything_is_read(folder: Path) -> None:
    """Files that claim or have terabytes: sparse ones cost their owner nothing."""
    for name in ("segment-*", "removed-*", "codes-*", "quantiser.bin", "version-*"):
        (path,) = folder.glob(name)
        content = path.read_bytes()
        os.truncate(path, 1 << 42)
        assert path.name in str(next(damages(folder)))
        path.write_bytes(content)
    assert numbers_of(PlaceIndex.open(folder)) == [number for number in range(80) if number != 3]


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that every user may enter, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="only the super-user can become another one")
@pytest.mark.parametrize("name", FILES)
def test_what_may_not_be_read_is_unreadable_and_not_damaged(whole: Path, name: str, everybodys: Path) -> None:
    folder = Path(shutil.copytree(whole, everybodys / "index"))
    (path,) = folder.glob(name)
    path.chmod(0o000)

    def look() -> None:
        os.seteuid(NOBODY)
        (damage,) = damages(folder)
        assert isinstance(damage, UnreadableError), damage
        assert str(damage) == f"{path} is unreadable (Permission denied). Check its permissions and the disk."
        if name.startswith(("version", "segment", "removed")):
            with pytest.raises(UnreadableError):
                PlaceIndex.open(folder)
        else:
            PlaceIndex.open(folder).search(photos([7], WIDE))

    assert forked(look) == 0
