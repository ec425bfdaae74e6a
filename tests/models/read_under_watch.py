"""Reads every file of a folder while an audit hook watches for anything beyond reading; prints JSON.

Run as a program of its own: an audit hook cannot be taken off again, and a crash must not take
the tests along.
`control` in place of a folder runs one hostile file unprotected, to show that the hook would see it.
"""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from pathlib import Path
from typing import Any

WATCHED = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
    "os.putenv",
    "subprocess.Popen",
    "pty.spawn",
    "ctypes.dlopen",
    "ctypes.call_function",
    "pickle.find_class",
    "marshal.loads",
    "code.__new__",
    "function.__new__",
    "webbrowser.open",
    "urllib.Request",
}
seen: list[str] = []
armed = False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not armed:
        return
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+")
    foreign = event == "import" and not str(arguments[0]).startswith("encodings")
    runs = event in ("exec", "compile")
    if writes or foreign or runs or event in WATCHED or event.startswith(("socket.", "shutil.")):
        seen.append(f"{event} {arguments!r}"[:200])


def read_all(folder: Path) -> dict[str, str]:
    from cricavpr.errors import WeightsError
    from cricavpr.models.weights import read_weights

    global armed
    for name in ("cp437", "latin_1", "raw_unicode_escape", "unicode_escape"):  # in which names are spelled
        importlib.import_module(f"encodings.{name}")
    for name in ("good.pth", "good-before-1.6.pth", "good.safetensors"):  # brings in every module that reading needs
        read_weights(folder.parent / name)
    outcomes = {}
    sys.addaudithook(watch)
    armed = True
    for path in sorted(folder.iterdir()):
        print(path.name, file=sys.stderr, flush=True)  # the last line names the file that crashed us
        try:
            read_weights(path)
            outcomes[path.name] = "READ"
        except WeightsError as error:
            outcomes[path.name] = str(error)
        except BaseException as error:
            outcomes[path.name] = f"RAISED {type(error).__name__}: {error}"
    armed = False
    return outcomes


def run_control(path: Path) -> dict[str, str]:
    global armed
    sys.addaudithook(watch)
    armed = True
    pickle.loads(path.read_bytes())
    armed = False
    return {}


if __name__ == "__main__":
    result = run_control(Path(sys.argv[2])) if sys.argv[1] == "control" else read_all(Path(sys.argv[1]))
    print(json.dumps({"outcomes": result, "seen": seen}))
