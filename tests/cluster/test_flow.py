"""describe_on: the same plan, the same file, whatever the order in which answers come. No Ray is needed here."""

from __future__ import annotations

import pickle
import random
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cricavpr import cli
from cricavpr.cluster import Address, MethodSpec, describe_on, flow, on_ray, tasks
from cricavpr.cluster.on_ray import spread
from cricavpr.cluster.tasks import Answer, Job, Task, answer, ready
from cricavpr.datasets.base import ImageSet
from cricavpr.describing import describe
from cricavpr.errors import InputError, MissingExtraError
from cricavpr.grouping import Grouping
from tests.mean_colour import GroupColour, colours, photos

LOCAL, SPEC, THREES = Address(), MethodSpec("group_colour"), Grouping("shuffled", 3, 0)
Spread = Callable[[Job, Sequence[Task], Any], Iterator[Answer]]


class Connection:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    ready.cache_clear()
    monkeypatch.setattr(tasks, "load_method", lambda *_, **__: GroupColour())
    monkeypatch.setattr(flow, "require_ray", lambda: None)
    monkeypatch.setattr(flow, "connected", lambda _: Connection())
    monkeypatch.setattr(flow, "spread", in_disorder)


def in_disorder(job: Job, given: Sequence[Task], _: object) -> Iterator[Answer]:
    for task in random.Random(0).sample(list(given), len(given)):
        yield pickle.loads(on_ray.answer_row(job, {"pickled": pickle.dumps(task)})["pickled"])


def stopping_after(count: int) -> Spread:
    def some(job: Job, given: Sequence[Task], *_: object) -> Iterator[Answer]:
        yield from (answer(job, task) for task in given[:count])
        raise KeyboardInterrupt

    return some


def broken_set(folder: Path) -> ImageSet:
    images = photos(folder, colours(20))
    (folder / "0011.png").write_bytes(b"no picture")
    return images


def test_answers_in_any_order_give_the_file_and_the_failures_of_one_machine(tmp_path: Path) -> None:
    images = broken_set(tmp_path / "photos")
    here = describe(GroupColour(), images, THREES, batch_size=7, workers=0, out=tmp_path / "here")
    shown: list[int] = []
    there = describe_on(
        LOCAL, SPEC, images, THREES, batch_size=7, out=tmp_path / "there", progress=lambda done, _: shown.append(done)
    )
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()
    assert there.problems == here.problems and there.kept.tolist() == here.kept.tolist()
    assert len(there.problems) == 1 and shown == sorted(shown) and shown[-1] == 20


def test_without_a_file_the_descriptors_are_in_memory(tmp_path: Path) -> None:
    images = broken_set(tmp_path)
    here, there = describe(GroupColour(), images, THREES, workers=0), describe_on(LOCAL, SPEC, images, THREES)
    assert there.descriptors.vectors.tobytes() == here.descriptors.vectors.tobytes()


def test_what_the_cluster_left_unfinished_one_machine_finishes_and_the_other_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = broken_set(tmp_path / "photos")
    describe(GroupColour(), images, THREES, batch_size=3, workers=0, out=tmp_path / "whole")
    monkeypatch.setattr(flow, "spread", stopping_after(4))
    for out in (tmp_path / "a", tmp_path / "b"):
        with pytest.raises(KeyboardInterrupt):
            describe_on(LOCAL, SPEC, images, THREES, batch_size=3, out=out)
    shown: list[int] = []
    method = GroupColour()
    describe(method, images, THREES, batch_size=3, workers=0, out=tmp_path / "a", progress=lambda d, _: shown.append(d))
    assert shown[0] == 15  # four batches of three were there, the fifth came now
    given: list[int] = []

    def rest(job: Job, left: Sequence[Task], note: object) -> Iterator[Answer]:
        given.extend(task.number for task in left)
        return in_disorder(job, left, note)

    monkeypatch.setattr(flow, "spread", rest)
    describe_on(LOCAL, SPEC, images, THREES, batch_size=3, out=tmp_path / "b")
    assert given == [4, 5, 6]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_batch_counts_as_done_only_when_all_before_it_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_but_the_first(job: Job, given: Sequence[Task], *_: object) -> Iterator[Answer]:
        yield from (answer(job, task) for task in given[1:])
        raise InputError("the cluster was lost")

    images = photos(tmp_path / "photos", colours(12))
    monkeypatch.setattr(flow, "spread", all_but_the_first)
    with pytest.raises(InputError, match="was lost"):
        describe_on(LOCAL, SPEC, images, THREES, batch_size=3, out=tmp_path / "x")
    shown: list[int] = []
    describe(
        GroupColour(),
        images,
        THREES,
        batch_size=3,
        workers=0,
        out=tmp_path / "x",
        progress=lambda d, _: shown.append(d),
    )
    assert shown == [3, 6, 9, 12]


def test_the_cluster_never_holds_more_than_a_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []

    def counting(job: Job, left: Sequence[Task], note: object) -> Iterator[Answer]:
        given.append(len(left))
        return in_disorder(job, left, note)

    monkeypatch.setattr(flow, "spread", counting)
    monkeypatch.setattr(flow, "STRETCH", 3)
    describe_on(LOCAL, SPEC, photos(tmp_path, colours(7)), batch_size=1)
    assert given == [3, 3, 1]


def test_a_machine_that_cannot_join_ends_the_run_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(job: Job, given: Sequence[Task], *_: object) -> Iterator[Answer]:
        yield Answer(given[0].number, answer(job, given[0]).vectors[:0], refusal="machine b cannot join: no folder")

    monkeypatch.setattr(flow, "spread", refusing)
    with pytest.raises(InputError, match="machine b cannot join"):
        describe_on(LOCAL, SPEC, photos(tmp_path, colours(4)))


def test_no_photo_and_no_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no images"):
        describe_on(LOCAL, SPEC, ImageSet(tmp_path, ()))
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        describe_on(LOCAL, SPEC, photos(tmp_path, colours(1)), batch_size=0)


def test_the_cluster_is_let_go_of_before_the_connection_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Watched(Connection):
        def __exit__(self, *_: object) -> None:
            order.append("connection")

    def watched(job: Job, given: Sequence[Task], *_: object) -> Iterator[Answer]:
        try:
            yield Answer(given[0].number, answer(job, given[0]).vectors, refusal="no")
        finally:
            order.append("conductor")

    monkeypatch.setattr(flow, "connected", lambda _: Watched())
    monkeypatch.setattr(flow, "spread", watched)
    with pytest.raises(InputError):
        describe_on(LOCAL, SPEC, photos(tmp_path, colours(4)))
    assert order == ["conductor", "connection"]


# --- conductors that die, of a Ray that is ours


class RayError(Exception):
    pass


class GetTimeoutError(RayError):
    pass


class Conductor:
    """Gives `lives` answers and dies."""

    def __init__(self, lives: int) -> None:
        self.lives, self.rows = lives, []
        self.begin, self.next = Call(self._begin), Call(self._next)

    def _begin(self, job: Job, rows: list[Any]) -> None:
        self.rows = [on_ray.answer_row(job, row) for row in rows]

    def _next(self) -> Any:
        if self.rows and not self.lives:
            raise RayError("trace\nthe node is dead.")
        self.lives -= 1
        return self.rows.pop(0) if self.rows else None


class Call:
    def __init__(self, function: Any) -> None:
        self.function = function

    def remote(self, *arguments: Any) -> Any:
        return lambda: self.function(*arguments)


class Ray:
    """As much of ray as `spread` asks for."""

    def __init__(self, lives: list[int], processors: int = 4) -> None:
        self.lives, self.processors, self.killed = lives, processors, 0
        self.connected = True
        self.exceptions = type("exceptions", (), {"RayError": RayError, "GetTimeoutError": GetTimeoutError})

    def remote(self, **_: Any) -> Any:
        return lambda _: self.actor

    @property
    def actor(self) -> Any:
        return type("Actor", (), {"remote": staticmethod(lambda: Conductor(self.lives.pop(0)))})

    def get(self, reference: Any, timeout: float) -> Any:
        return reference()

    def kill(self, _: Any) -> None:
        self.killed += 1

    def is_initialized(self) -> bool:
        return self.connected

    def nodes(self) -> list[dict[str, Any]]:
        dead = {"Alive": False, "Resources": {"CPU": 64}}
        return [dead, {"Alive": True, "Resources": {"CPU": self.processors}}]


def spread_over(
    ray: Ray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int = 1, device: str = "cpu"
) -> tuple[list[int], list[str]]:
    monkeypatch.setattr(on_ray, "require_ray", lambda: ray)
    images = photos(tmp_path, colours(5))
    job = flow._job(SPEC, GroupColour(), THREES, images, THREES.groups(5)[:1])
    job = replace(job, threads=threads, method=replace(job.method, device=device))
    given = [Task.of(number, [group], images) for number, group in enumerate(Grouping().groups(5))]
    notes: list[str] = []
    return [one.number for one in spread(job, given, notes.append)], notes


def test_what_a_dead_conductor_left_goes_to_the_next_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray([2, 0, 99])
    numbers, notes = spread_over(ray, monkeypatch, tmp_path)
    assert numbers == [0, 1, 2, 3, 4] and ray.killed == 3
    assert notes == ["a machine of the cluster was lost. Its work is given to other machines: 3 batches left."] * 2


def test_a_cluster_that_only_fails_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"failed 3 times in a row: the node is dead. Finished work is kept"):
        spread_over(Ray([0, 0, 0, 0]), monkeypatch, tmp_path)


def test_machines_that_are_too_small_or_dead_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="a task needs 8 CPUs, but none of the 1 machines of the cluster has as many"):
        spread_over(Ray([9]), monkeypatch, tmp_path, 8)
    with pytest.raises(InputError, match="4 CPUs and 1 GPU"):
        spread_over(Ray([9]), monkeypatch, tmp_path, 4, "cuda")


def test_a_lost_cluster_is_told_and_no_other_one_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray([99])
    ray.connected = False
    with pytest.raises(InputError, match="the cluster was lost: none of its machines answers"):
        spread_over(ray, monkeypatch, tmp_path)


# --- the door


def test_the_door_says_what_is_wrong_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(tmp_path / "photos", colours(2))
    verb = ["describe", str(tmp_path / "photos"), "--out", str(tmp_path / "x"), "--cluster"]
    for more, told in {
        ("ray//x",): "invalid cluster address",
        ("ray://local", "--workers", "2"): "--workers cannot be used with --cluster",
    }.items():
        assert cli.main([*verb, *more]) == 2
        assert told in capsys.readouterr().err


def test_a_missing_ray_is_told_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"cricavpr\[cluster\]"):
        on_ray.require_ray()


def test_an_address_where_nobody_answers_is_told_before_ray_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "require_ray", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        pytest.raises(InputError, match=f"nothing answers at ray://127.0.0.1:{port} "),
        on_ray.connected(Address("127.0.0.1", port)),
    ):
        pass
