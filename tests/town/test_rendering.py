"""Pictures: the same bytes everywhere, different where the world differs."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from cricavpr.town import CONDITIONS, Scene, Town, render, render_arrays, render_with_depth
from cricavpr.town.views import PASSING, STANDING

SIZE = (112, 112)
CLEAR = Scene("day", 2012)

# Look at a picture before changing one of these: all training data and weights depend on the look.
GOLDEN = {
    "day": "e243015e68c55fe3",
    "overcast": "6d9d3fd6ee1f4b2f",
    "dusk": "6d443cbd4bc18cb3",
    "night": "a4b027bbc3723557",
    "rain": "badfce3909688369",
    "fog": "df25ce61f89bd432",
    "snow": "3fba9a0365425edd",
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_pixels_are_the_same_on_every_machine(town, condition):
    digest = hashlib.sha256()
    for place in (0, 17, 44):
        view = town.view(place, 1, "query", condition)
        digest.update(render(town, view.camera, view.scene, SIZE).tobytes())
    assert digest.hexdigest()[:16] == GOLDEN[condition]


def test_a_town_drawn_again_is_the_same_and_another_seed_is_another_town(town):
    view = town.view(9, 0, "train")
    again = render(Town(1, 60), view.camera, view.scene, SIZE)
    assert (render(town, view.camera, view.scene, SIZE) == again).all()
    assert (render(Town(2, 60), view.camera, view.scene, SIZE) != again).mean() > 0.5


def test_conditions_differ_but_not_the_geometry(town):
    camera = town.view(12, 0, "database").camera
    drawn = {c: render_with_depth(town, camera, replace(CLEAR, condition=c), SIZE) for c in CONDITIONS}
    for condition, one in drawn.items():
        assert (one.depth_m == drawn["day"].depth_m).all()
        for other in CONDITIONS:
            if other != condition:
                assert np.abs(one.image.astype(int) - drawn[other].image).mean() > 4
    brightness = {condition: one.image.mean() for condition, one in drawn.items()}
    assert brightness["night"] < brightness["dusk"] < brightness["day"]


def test_fog_hides_what_is_far_more_than_what_is_near(town):
    camera = town.view(12, 0, "database").camera
    foggy = render_with_depth(town, camera, replace(CLEAR, condition="fog"), SIZE)
    clear = render_with_depth(town, camera, CLEAR, SIZE)
    near, far = foggy.depth_m < 15, (foggy.depth_m > 60) & np.isfinite(foggy.depth_m)
    contrast = [foggy.image[part].std() / clear.image[part].std() for part in (near, far)]
    assert contrast[1] < 0.6 * contrast[0]


def test_at_night_windows_are_lit_and_structure_stays(town):
    lit, spread = 0, []
    for place in range(0, 60, 6):
        view = town.view(place, 0, "query", "night")
        picture = render(town, view.camera, view.scene, SIZE)
        lit += int(((picture[..., 0] > 170) & (picture[..., 2] < 150)).sum())
        spread.append(picture.std())
    assert lit > 200 and min(spread) > 10


def test_the_years_change_signs_and_paint_but_no_wall_moves(town):
    changed = []
    for place in range(0, 60, 4):
        camera = town.view(place, 0, "database").camera
        then, now = (render_with_depth(town, camera, replace(CLEAR, year=year), SIZE) for year in (2012, 2022))
        assert (then.depth_m == now.depth_m).all() and (then.surface == now.surface).all()
        differs = (then.image != now.image).any(axis=2)
        assert (then.surface[differs] >= 0).all()  # nothing but walls
        changed.append(differs.mean())
    assert 0.01 < np.mean(changed) < 0.25 and max(changed) < 0.7


def test_occluders_only_hide(town):
    hidden = 0
    for place in range(0, 60, 6):
        camera = town.view(place, 0, "query").camera
        empty = render_with_depth(town, camera, CLEAR, SIZE)
        for seed in (1, 2):
            busy = render_with_depth(town, camera, replace(CLEAR, occluders=0.6, occluder_seed=seed), SIZE)
            hides = busy.surface >= PASSING
            assert (busy.image[~hides] == empty.image[~hides]).all()
            assert (busy.depth_m[~hides] == empty.depth_m[~hides]).all()
            assert (busy.depth_m[hides] < empty.depth_m[hides]).all()
            assert not (empty.surface >= PASSING).any()
            hidden += int(hides.sum())
    assert hidden > 1000


def test_occluders_depend_on_their_seed_and_stand_there_for_every_camera(town):
    view = town.view(25, 0, "query")
    scenes = [replace(CLEAR, occluders=0.6, occluder_seed=seed) for seed in (5, 5, 6)]
    first, same, other = (render(town, view.camera, scene, SIZE) for scene in scenes)
    assert (first == same).all() and (first != other).any()


def test_trees_belong_to_the_town(town):
    surfaces = [render_with_depth(town, town.view(k, 0, "database").camera, CLEAR, SIZE).surface for k in range(20)]
    standing = [((s >= STANDING) & (s < PASSING)).mean() for s in surfaces]
    assert max(standing) > 0.02


def test_size_changes_sampling_and_not_the_view(town):
    view = town.view(8, 0, "database")
    large, small = (render(town, view.camera, CLEAR, size).astype(float) for size in ((224, 224), (112, 112)))
    halved = large.reshape(112, 2, 112, 2, 3).mean(axis=(1, 3))
    assert np.median(np.abs(halved - small)) < 6
    assert render(town, view.camera, CLEAR, (64, 160)).shape == (64, 160, 3)


def test_arrays_do_not_depend_on_workers_and_come_in_order(town):
    views = [town.view(place, 0, "train") for place in range(40)]
    alone = render_arrays(town, views, (48, 64))
    done = []
    shared = render_arrays(town, views, (48, 64), workers=2, progress=lambda k, n: done.append((k, n)))
    assert alone.dtype == np.uint8 and alone.shape == (40, 48, 64, 3)
    assert (alone == shared).all() and done == [(32, 40), (40, 40)]
    assert (alone[7] == render(town, views[7].camera, views[7].scene, (48, 64))).all()
