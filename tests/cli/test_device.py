"""Where a verb computes: by itself on the best device, which is said unless it is the cpu."""

from __future__ import annotations

import argparse

import pytest

from cricavpr import methods
from cricavpr.cli.options import add_method, load_method
from tests.mean_colour import MeanColour


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_method(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(("device", "said"), [("cuda", "note: computing on cuda.\n"), ("cpu", "")])
def test_the_device_is_said_on_stderr_unless_it_is_the_cpu(
    device: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def load(name: str, weights: str | None, wanted: str, **settings: object) -> MeanColour:
        asked.append(wanted)
        method = MeanColour()
        method.device = device
        return method

    monkeypatch.setattr(methods, "load_method", load)
    load_method(options())
    load_method(options("--device", "cpu"))
    assert asked == ["auto", "cpu"]
    assert capsys.readouterr() == ("", 2 * said)
