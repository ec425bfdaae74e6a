"""A module imports only from lower rows, and packages of one row do not import one another. See ARCHITECTURE.md."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "cricavpr"
ROWS = [  # from the ground up
    {"errors", "extras", "files", "geo", "locks", "progress", "terminal", "times"},
    {"images", "descriptors", "grouping", "schema", "matlab", "pca", "plotting", "pages"},
    {"models", "datasets", "index", "town"},
    {"methods"},
    {"describing"},
    {"reranking"},
    {"training", "evaluation", "locate", "health", "indexing"},
    {"demo", "cluster"},
    {"cli"},
    {"__main__"},
]
ROW = {name: number for number, names in enumerate(ROWS) for name in names}
WITHIN_A_ROW = {  # values that are made of other values
    ("geo", "errors"),
    ("files", "errors"),
    ("extras", "errors"),
    ("locks", "errors"),
    ("progress", "terminal"),
    ("descriptors", "grouping"),
    ("pca", "descriptors"),
    ("descriptors", "schema"),
    ("pca", "schema"),
}
HOMES = {  # a heavy library is imported in one place
    "pytorch_metric_learning": "training/losses.py",
    "filelock": "locks.py",
    "utm": "geo.py",
    "pillow_heif": "images/opening.py",
    "cv2": "methods/matching.py",
    "faiss": "index/codes/fast_scan.py",
    "pyarrow": "index/exporting.py",
    "pymilvus": "index/remote/milvus.py",
    "grpc": "index/remote/milvus.py",
    "matplotlib": "plotting.py",
    "sklearn": "evaluation/report/embedding_map.py",
    "tensorboard": "training/log.py",
    "ray": "cluster/on_ray.py",
    "tqdm": None,
}


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def room(path: Path) -> str:
    """The first name below the package: a module or a sub-package."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "cricavpr" else {node.module}
            )
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downward(path: Path) -> None:
    here = room(path)
    assert here in ROW, f"{here} has no row: give it one here and in ARCHITECTURE.md"
    for name in imported(path):
        if not name.startswith("cricavpr.") or name == "cricavpr.__version__":
            continue
        there = name.split(".")[1]
        if there == here or (here, there) in WITHIN_A_ROW:
            continue
        assert there in ROW, f"{path.name} imports {name}, which has no row"
        assert ROW[there] < ROW[here], f"{path.name} (row {ROW[here]}) imports {name} (row {ROW[there]})"


@pytest.mark.parametrize(("library", "home"), [(name, home) for name, home in HOMES.items() if home], ids=str)
def test_a_heavy_library_has_one_home(library: str, home: str) -> None:
    users = {str(p.relative_to(SOURCE)) for p in modules() if any(n.split(".")[0] == library for n in imported(p))}
    assert users <= {home}


def test_models_know_torch_and_nothing_of_images_or_methods() -> None:
    for path in (SOURCE / "models").glob("*.py"):
        assert not {name for name in imported(path) if name.split(".")[0] in {"PIL", "scipy", "matplotlib"}}
