"""Everything that can be wrong with a photo: each broken file is named, each sound one decoded right."""

import subprocess
import sys

import numpy as np
import pytest

from cricavpr.datasets import read_photos
from cricavpr.errors import ImageError
from cricavpr.images import decode
from tests.odd_files import IGNORED, expected_picture, make_odd_files

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:Image size")


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    return folder, make_odd_files(folder)


def test_there_are_many_kinds(odd):
    _, expected = odd
    assert sum(stage in ("find", "open", "size", "decode") for stage in expected.values()) >= 35
    assert list(expected.values()).count("ok") >= 100


def test_every_photo_is_either_read_or_named_once(odd):
    folder, expected = odd
    images, problems = read_photos(folder)
    notes = {problem.reason for problem in problems if problem.name == "."}
    assert notes == {
        "skipped 2 folders of hidden or deleted files (.git, __MACOSX) and 2 hidden photos",
        "skipped files in formats that are not supported: 1 .mp4, 1 .svg",
    }
    problems = [problem for problem in problems if not problem.is_note]
    named = [problem.name for problem in problems]
    assert len(set(named)) == len(named)
    assert {*images.names} | {*named} == {name for name, stage in expected.items() if stage != IGNORED}
    assert not {*images.names} & {*named}
    # What only decoding shows is still among the images: headers are all that is read here.
    assert {p.name: p.stage for p in problems} == {
        name: stage for name, stage in expected.items() if stage not in ("ok", "decode", IGNORED)
    }


def test_every_reason_is_one_printable_line(odd):
    _, problems = read_photos(odd[0])
    assert all(problem.reason.isprintable() and 0 < len(problem.reason) <= 200 for problem in problems)


def test_every_sound_file_decodes_to_the_right_picture(odd):
    folder, expected = odd
    for name in (name for name, stage in expected.items() if stage == "ok"):
        image, right = decode(folder / name), expected_picture(name)
        assert image.shape == right.shape, name
        assert np.abs(image.astype(int) - right).mean() < 3, name  # grey levels: palettes and lossy formats


def test_every_broken_file_fails_at_its_stage_from_a_path_and_from_bytes(odd):
    folder, expected = odd
    for name, stage in expected.items():
        if stage in ("ok", IGNORED):
            continue
        with pytest.raises(ImageError) as caught:
            decode(folder / name)
        assert caught.value.stage == stage, name
        if stage != "find" and (folder / name).stat().st_size < 10**7:
            with pytest.raises(ImageError) as caught:
                decode((folder / name).read_bytes())
            assert caught.value.stage == stage, name


def test_only_the_one_true_position_is_found(odd):
    images, _ = read_photos(odd[0])
    known = [images.names[i] for i in np.flatnonzero(images.positions.known)]
    assert known == ["gps/good.jpg"]
    np.testing.assert_allclose(images.positions.latlon()[images.names.index(known[0])], (55.7047, 13.191), atol=1e-6)


def test_nothing_is_unpickled_no_program_started_and_no_memory_wasted(odd):
    code = (
        "import sys, resource, warnings; warnings.simplefilter('ignore'); seen = []\n"
        "bad = ('subprocess.Popen', 'os.system', 'os.exec', 'os.posix_spawn', 'pickle.find_class')\n"
        "sys.addaudithook(lambda event, _: seen.append(event) if event in bad else None)\n"
        "from pathlib import Path; from cricavpr.images import decode\n"
        "from cricavpr.datasets import read_photos\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "images, problems = read_photos(Path(sys.argv[1]))\n"
        "for name in [*images.names, *(problem.name for problem in problems)]:\n"
        "    try: decode(Path(sys.argv[1]) / name)\n"
        "    except Exception: pass\n"
        "print(seen, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, odd[0]], capture_output=True, text=True, check=True, cwd=odd[0])
    seen, grown_mb = run.stdout.rsplit(" ", 1)
    assert seen == "[]" and int(grown_mb) < 100
    assert not (odd[0] / "canary-was-unpickled").exists()
