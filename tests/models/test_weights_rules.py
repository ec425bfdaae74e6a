"""Rules that hold for the whole package: no way around the one careful reader."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cricavpr

SOURCES = sorted(Path(cricavpr.__file__).parent.rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def breaches(code: str) -> Iterator[str]:
    """Every way around the careful reader in a piece of code."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (f"imports {alias.name}" for alias in node.names if _forbidden(alias.name))
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from (f"imports {name}" for name in names if _forbidden(name))
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.hub", "torch.jit.load"}:
            yield f"uses {ast.unparse(node)}"
        elif isinstance(node, ast.Call):
            yield from _breaches_of_call(node)


def _breaches_of_call(node: ast.Call) -> Iterator[str]:
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    called = ast.unparse(node.func)
    if called == "torch.load" and given.get("weights_only") != "True":
        yield "calls torch.load without weights_only=True"
    if given.get("strict") == "False" and "load" in called:
        yield f"calls {called} with strict=False"
    if called.endswith("load_state_dict") and len(node.args) > 1 and ast.unparse(node.args[1]) == "False":
        yield f"calls {called} with strict=False"
    if given.get("allow_pickle", "False") != "False" or "trust_remote_code" in given:
        yield f"calls {called} with {given}"
    if called in {"eval", "exec"}:
        yield f"calls {called}"


def _forbidden(name: str) -> bool:
    return name.partition(".")[0] in FORBIDDEN_MODULES or name in {
        "torch.load",
        "torch.hub",
        "torch.jit.load",
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parents[1]))[-60:])
def test_no_module_goes_around_the_careful_reader(path: Path) -> None:
    own = {"imports pickle"} if path.parent.name == "cluster" else set()  # what Ray moves between a user's own machines
    assert set(breaches(path.read_text(encoding="utf-8"))) <= own


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "from torch import load",
        "torch.hub.load('a', 'b')",
        "from torch.hub import load_state_dict_from_url",
        "import torch.hub",
        "import pickle",
        "from pickle import loads",
        "import dill as d",
        "net.load_state_dict(x, strict=False)",
        "net.load_state_dict(x, False)",
        "np.load(f, allow_pickle=True)",
        "eval('1')",
        "torch.jit.load(f)",
    ],
)
def test_the_rule_would_catch(code: str) -> None:
    assert list(breaches(code))


@pytest.mark.parametrize("code", ["torch.load(f, weights_only=True)", "utm.to_latlon(a, strict=False)", "net.eval()"])
def test_the_rule_lets_pass(code: str) -> None:
    assert not list(breaches(code))


def test_listing_weights_imports_no_torch() -> None:
    code = (
        "import sys, argparse, cricavpr.cli.weights as w\n"
        "w.list_weights(argparse.Namespace(json=False))\n"
        "import cricavpr.models.download\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0
