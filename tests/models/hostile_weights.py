"""Writes a folder of weights files that a stranger with bad intentions might send. None may run anything."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import pickletools
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2)


def good_state() -> dict[str, torch.Tensor]:
    """A small, honest state dict."""
    generator = torch.Generator().manual_seed(0)
    return {f"layer.{n}.weight": torch.rand(3, 4, generator=generator) for n in range(3)}


def saved(value: object) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def entries_of(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def archived(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_program(program: bytes) -> bytes:
    """An honest torch archive whose pickle was exchanged for another; checksums are right."""
    entries = entries_of(saved(good_state()))
    name = next(name for name in entries if name.endswith("/data.pkl"))
    return archived(entries | {name: program})


def honest_program() -> bytes:
    entries = entries_of(saved(good_state()))
    return next(content for name, content in entries.items() if name.endswith("/data.pkl"))


def saved_before_1_6(value: object) -> bytes:
    """What torch.save wrote before version 1.6."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def legacy_parts(value: object = None) -> dict[str, bytes]:
    """The five pickles of such a file, and the storages behind them."""
    content = saved_before_1_6(good_state() if value is None else value)
    stream, parts = io.BytesIO(content), {}
    for name in ("magic", "version", "facts", "program", "keys"):
        begin = stream.tell()
        for _ in pickletools.genops(stream):
            pass
        parts[name] = content[begin : stream.tell()]
    return {**parts, "storages": stream.read()}


def legacy(parts: dict[str, bytes], **changed: bytes) -> bytes:
    return b"".join({**parts, **changed}.values())


def beside_an_honest_state(call: bytes) -> bytes:
    """The pickle of {"state_dict": an honest state, "score": what a call returns}."""
    return b"\x80\x02}(X\x0a\0\0\0state_dict" + honest_program()[2:-1] + b"X\x05\0\0\0score" + call + b"u."


def calls(canary: Path) -> list[tuple[str, str, tuple[Any, ...]]]:
    """Functions that do harm when called with these arguments, or lead on to ones that do."""
    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w')"
    return [
        ("os", "system", (touch,)),
        ("posix", "system", (touch,)),
        ("nt", "system", (touch,)),
        ("os", "popen", (touch,)),
        ("os", "execv", ("/bin/sh", ["sh", "-c", touch])),
        ("os", "remove", (str(canary),)),
        ("posix", "fork", ()),
        ("pty", "spawn", (["sh", "-c", touch],)),
        ("subprocess", "Popen", (["sh", "-c", touch],)),
        ("subprocess", "check_output", (["sh", "-c", touch],)),
        ("subprocess", "getoutput", (touch,)),
        ("builtins", "eval", (code,)),
        ("__builtin__", "eval", (code,)),
        ("builtins", "exec", (code,)),
        ("builtins", "compile", (code, "x", "exec")),
        ("builtins", "__import__", ("antigravity",)),
        ("builtins", "getattr", ("", "join")),
        ("__builtin__", "getattr", ("", "join")),
        ("builtins", "open", (str(canary), "w")),
        ("io", "open", (str(canary), "w")),
        ("_io", "FileIO", (str(canary), "w")),
        ("builtins", "bytearray", (10**11,)),
        ("pathlib", "Path.touch", (str(canary),)),
        ("pathlib", "PosixPath", (str(canary),)),
        ("argparse", "Namespace", ()),
        ("runpy", "_run_code", (code, {})),
        ("runpy", "run_path", (str(canary),)),
        ("pip", "main", (["install", "x"],)),
        ("pip._internal", "main", (["install", "x"],)),
        ("pkgutil", "resolve_name", ("os:system",)),
        ("importlib", "import_module", ("antigravity",)),
        ("operator", "attrgetter", ("system",)),
        ("operator", "methodcaller", ("system", touch)),
        ("functools", "partial", (print,)),
        ("functools", "reduce", (print, [1, 2])),
        ("ctypes", "CDLL", ("libc.so.6",)),
        ("shutil", "rmtree", (str(canary),)),
        ("socket", "create_connection", (("127.0.0.1", 9),)),
        ("urllib.request", "urlopen", ("http://127.0.0.1:9/",)),
        ("webbrowser", "open", ("http://127.0.0.1:9/",)),
        ("timeit", "timeit", (code,)),
        ("cProfile", "run", (code,)),
        ("profile", "run", (code,)),
        ("bdb", "Bdb.run", (code,)),
        ("code", "InteractiveInterpreter", ()),
        ("marshal", "loads", (b"N",)),
        ("pickle", "loads", (pickle.dumps(1),)),
        ("_pickle", "loads", (pickle.dumps(1),)),
        ("types", "CodeType", ()),
        ("types", "FunctionType", ()),
        ("copyreg", "_reconstructor", (object, object, None)),
        ("uuid", "_get_command_stdout", ("touch", str(canary))),
        ("ensurepip", "bootstrap", ()),
        ("venv", "create", (str(canary),)),
        ("multiprocessing.util", "spawnv_passfds", (b"/bin/sh", [b"sh"], ())),
        ("asyncio.unix_events", "_UnixSubprocessTransport._start", ()),
        ("torch", "load", (str(canary),)),
        ("torch.hub", "load", ("x/y", "z")),
        ("torch.jit", "load", (str(canary),)),
        ("torch.ops", "load_library", (str(canary),)),
        ("torch.utils.collect_env", "run", (touch,)),
        ("torch.storage", "_load_from_bytes", (b"x",)),
        ("torch._dynamo.guards", "GuardBuilder.get", (code,)),
        ("torch._utils", "_rebuild_sparse_tensor", (torch.sparse_coo, ())),
        ("torch._utils", "_rebuild_wrapper_subclass", (torch.Tensor, torch.float32, (1,), (1,), 0)),
        ("torch._utils", "_rebuild_meta_tensor_no_storage", (torch.float32, (10**9,), (1,), False)),
        ("torch", "FloatTensor", (10**11,)),
        ("numpy", "load", (str(canary),)),
        ("numpy.testing._private.utils", "runstring", (code, {})),
        ("numpy.f2py.crackfortran", "myeval", (code,)),
        ("os system", "x", ()),
        ("collections", "OrderedDict.__class__", ()),
        ("torch._utils", "_rebuild_tensor_v2.__globals__", ()),
    ]


def _arguments(arguments: tuple[Any, ...]) -> bytes:
    return pickle.dumps(arguments, protocol=2)[2:-1]


def reduce_call(module: str, name: str, arguments: tuple[Any, ...]) -> bytes:
    return f"c{module}\n{name}\n".encode() + _arguments(arguments) + b"R"


def forms(module: str, name: str, arguments: tuple[Any, ...]) -> Iterator[tuple[str, bytes]]:
    """One call in every disguise we know."""
    call = reduce_call(module, name, arguments)
    honest = honest_program()
    yield "alone.pth", with_program(b"\x80\x02" + call + b".")
    yield "hidden.pth", with_program(b"\x80\x02" + call + b"0" + honest[2:])
    yield "beside.pth", with_program(beside_an_honest_state(call))
    yield "value.safetensors", with_program(b"\x80\x02}X\x01\x00\x00\x00w" + call + b"s.")
    short = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    yield "stack.pt", with_program(b"\x80\x04" + short + b"\x93" + _arguments(arguments) + b"R.")
    marked = b"(" + b"".join(pickle.dumps(value, protocol=2)[2:-1] for value in arguments)
    yield "inst.pt", with_program(marked + f"i{module}\n{name}\n.".encode())
    yield "bare.pth", b"\x80\x02" + call + b"."
    yield "legacy.pth", LEGACY_MAGIC + pickle.dumps({}, protocol=2) + b"\x80\x02" + call + b"."
    old = legacy_parts()
    yield "legacy-hidden.pth", legacy(old, program=b"\x80\x02" + call + b"0" + old["program"][2:])
    yield "legacy-facts.pth", legacy(old, facts=b"\x80\x02" + call + b"0" + old["facts"][2:])
    yield "legacy-keys.pth", legacy(old, keys=b"\x80\x02" + call + b"0" + old["keys"][2:])
    yield "legacy-version.pth", legacy(old, version=b"\x80\x02" + call + b"0" + old["version"][2:])


def safetensors_bytes(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _entry(shape: list[int], begins: int, ends: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begins, ends]}


def safetensors_attacks() -> Iterator[tuple[str, bytes]]:
    def made(data: int, **entries: Any) -> bytes:
        return safetensors_bytes(json.dumps(entries).encode(), bytes(data))

    good = _entry([2], 0, 8)
    yield "huge-header-length", safetensors_bytes(b'{"a": 1}', length=2**63)
    yield "header-longer-than-file", safetensors_bytes(b'{"a": 1}', length=4000)
    yield "header-length-zero", struct.pack("<Q", 0) + b"{}"
    yield "header-cut", safetensors_bytes(b'{"a": {"dtype"')
    yield "header-not-utf8", safetensors_bytes(b'{"\xff\xfe": 1}')
    yield "header-deep", safetensors_bytes(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    yield "header-deep-list", safetensors_bytes(b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}")
    yield "overlap", made(12, a=good, b=_entry([2], 4, 12))
    yield "same-bytes-twice", made(8, a=good, b=good)
    yield "hole", made(16, a=good, b=_entry([1], 12, 16))
    yield "out-of-range", made(8, a=_entry([200], 0, 800))
    yield "end-before-begin", made(8, a=_entry([2], 8, 0))
    yield "negative-offset", made(8, a=_entry([2], -8, 0))
    yield "negative-shape", made(8, a=_entry([-2], 0, 8))
    yield "shape-lies", made(8, a=_entry([3], 0, 8))
    yield "shape-overflows", made(8, a=_entry([2**62, 8], 0, 8))
    yield "unknown-kind", made(8, a=_entry([2], 0, 8, "PY_OBJECT"))
    yield "trailing-bytes", made(20, a=good)
    yield "too-few-bytes", made(4, a=good)
    yield "nothing-inside", made(0)
    yield "metadata-not-json", made(8, a=good, __metadata__={"cricavpr": "{nope"})
    yield "metadata-a-list", made(8, a=good, __metadata__={"cricavpr": "[1]"})
    yield "metadata-deep", made(8, a=good, __metadata__={"cricavpr": "[" * 200_000})
    nan = np.array([1, np.nan], np.float32).tobytes()
    yield "not-a-number", safetensors_bytes(json.dumps({"a": good}).encode(), nan)


def torch_attacks(canary: Path) -> Iterator[tuple[str, bytes]]:
    state = good_state()
    honest, big = saved(state), torch.zeros(10_000)
    entries = entries_of(honest)
    program = next(name for name in entries if name.endswith("/data.pkl"))
    yield "deflated", archived(entries, zipfile.ZIP_DEFLATED)
    yield "encrypted-flag", _flag_flipped(honest)
    yield "duplicate-names", _twice(entries, program, canary)
    yield "second-program", archived(entries | {"archive/other.pkl": b"N."})
    yield "no-program", archived({"archive/data/0": b"1234"})
    yield "program-elsewhere", archived({"a/b/data.pkl": honest_program()})
    yield "claims-more", _claiming(honest)
    yield "torchscript", _torchscript()
    yield "object-array", saved({"w": _object_array()})
    yield "numpy-array", saved({"w": np.zeros(3)})
    yield "numpy-scalar", saved({"w": np.float64(3)})
    yield "text-value", saved(state | {"note": "hello"})
    yield "number-value", saved(state | {"epoch": 3})
    yield "nested-state", saved({"state_dict": {"a": {"b": torch.zeros(2)}}})
    yield "list-of-tensors", saved([torch.zeros(2)])
    yield "one-tensor", saved(torch.zeros(2))
    yield "name-is-a-number", saved({1: torch.zeros(2)})
    yield "neither", saved({"epoch": 1, "model": {"w": torch.zeros(2)}})
    yield "no-tensors", saved({})
    yield "no-tensors-in-state", saved({"state_dict": {}})
    yield "nan", saved({"w": torch.tensor([1.0, float("nan")])})
    yield "inf-half", saved({"w": torch.tensor([1.0, float("inf")], dtype=torch.float16)})
    yield "complex", saved({"w": torch.zeros(2, dtype=torch.complex64)})
    yield "sparse", saved({"w": torch.eye(3).to_sparse()})
    yield "sparse-csr", saved({"w": torch.eye(3).to_sparse_csr()})
    yield "sparse-bad-indices", saved({"w": _bad_sparse()})
    yield "quantized", saved({"w": torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8)})
    yield "meta", saved({"w": torch.zeros(3, device="meta")})
    yield "expanded-bomb", saved({"w": torch.zeros(1).expand(10**6, 10**6)})
    yield "aliased-bomb", saved({f"w{n}": big for n in range(100)})
    yield "storage-lies", with_program(honest_program().replace(b"K\x0ct", b"K\xfft"))
    yield "shape-lies", with_program(honest_program().replace(b"K\x03K\x04\x86", b"K\xf3K\x04\x86"))
    yield "endless-number", with_program(b"\x80\x02\x8b\xff\xff\xff\x7f.")
    yield "endless-text", with_program(b"\x80\x02X\xff\xff\xff\xff.")
    yield "no-stop", with_program(b"\x80\x02}")
    yield "empty-program", with_program(b"")
    yield "deep", with_program(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    yield "program-too-large", with_program(b"\x80\x02" + b"N0" * (5 * 2**20) + honest_program()[2:])
    yield "gzipped", gzip.compress(honest)
    yield "seven-zip", b"7z\xbc\xaf\x27\x1c" + honest
    yield "tar-of-old-torch", _old_tar(canary)
    yield "tar-with-link", _tar_with_link()
    yield "tar-behind-legacy-magic", _tar_behind_magic()
    yield from _damaged_archives(honest)


def legacy_attacks(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Files of torch before 1.6 in which something is not as torch wrote it."""
    old = legacy_parts()
    honest, program, storages = legacy(old), old["program"], old["storages"]
    keys: list[str] = pickle.loads(old["keys"])
    key = keys[0].encode()
    for at in range(0, len(honest) - 1, max(1, len(honest) // 40)):
        yield f"cut-at-{at}", honest[:at]
    yield "trailing", honest + b"more"
    yield "another-version", legacy(old, version=pickle.dumps(1000, 2))
    yield "big-endian", legacy(old, facts=pickle.dumps({"little_endian": False}, 2))
    yield "no-facts", legacy(old, facts=pickle.dumps({}, 2))
    yield "key-missing", legacy(old, keys=pickle.dumps(keys[1:], 2), storages=storages[8 + 48 :])
    yield "key-unlisted", legacy(old, keys=pickle.dumps([], 2), storages=b"")
    yield "key-twice", legacy(old, keys=pickle.dumps([*keys, keys[0]], 2), storages=storages + storages[:56])
    yield "key-unknown", legacy(old, keys=pickle.dumps([*keys, "1"], 2), storages=storages + storages[:56])
    yield "keys-no-list", legacy(old, keys=pickle.dumps({}, 2))
    yield "length-negative", legacy(old, storages=struct.pack("<q", -12) + storages[8:])
    yield "length-huge", legacy(old, storages=struct.pack("<q", 2**62) + storages[8:])
    yield "length-other", legacy(old, storages=struct.pack("<q", 11) + storages[8:-4])
    huge = program.replace(b"K\x0cN", b"\x8a\x08" + struct.pack("<q", 2**60) + b"N")
    yield "claims-huge", legacy(old, program=huge)
    yield "claims-huge-twice", legacy(old, program=huge, storages=storages.replace(*_lengths(12, 2**60)))
    yield "claims-negative", legacy(old, program=program.replace(b"K\x0cN", b"J\xf4\xff\xff\xffN"))
    yield "claims-more-than-a-storage", legacy(old, program=program.replace(b"K\x03K\x04\x86", b"K\xf3K\x04\x86"))
    yield "kinds-differ", legacy(old, program=program.replace(b"FloatStorage", b"DoubleStorage"))
    yield "kind-quantized", legacy(old, program=program.replace(b"FloatStorage", b"QInt8Storage"))
    yield "kind-complex", legacy(legacy_parts({"w": torch.zeros(2, dtype=torch.complex64)}))
    view = b"(X\x01\x00\x00\x00vK\x00K\x06t"
    yield "view", legacy(old, program=program.replace(b"K\x0cN", b"K\x0c" + view))
    yield "module-source", legacy(old, program=program.replace(b"X\x07\0\0\0storage", b"X\x06\0\0\0module"))
    yield "asked-for-through-memory", legacy(old, program=_persid_through_memory(program))
    yield "one-name-two-kinds", legacy(old, program=program.replace(keys[1].encode(), key))
    yield "text-persid", legacy(old, program=b"\x80\x02Pabc\n0" + program[2:])
    yield "memoize", legacy(old, program=b"\x80\x02N\x940" + program[2:])
    yield "program-too-large", legacy(old, program=b"\x80\x02" + b"N0" * (5 * 2**20) + program[2:])
    yield "deep", legacy(old, program=b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    yield "endless-text", legacy(old, program=b"\x80\x02X\xff\xff\xff\xff.")
    yield "nan", saved_before_1_6({"w": torch.tensor([1.0, float("nan")])})
    yield "text-value", saved_before_1_6({**good_state(), "note": "hello"})
    yield "one-tensor", saved_before_1_6(torch.zeros(2))
    yield "sparse", saved_before_1_6({"w": torch.eye(3).to_sparse()})
    yield "expanded-bomb", saved_before_1_6({"w": torch.zeros(1).expand(10**6, 10**6)})
    yield "object-array", saved_before_1_6({"w": _object_array()})
    yield "tar-as-well", _tar_as_well(old, canary)
    yield "gzipped", gzip.compress(honest)


def _lengths(old: int, new: int) -> tuple[bytes, bytes]:
    return struct.pack("<q", old), struct.pack("<q", new)


def _persid_through_memory(program: bytes) -> bytes:
    """The tuple that asks for a storage is built and remembered first, and fetched where it is used."""
    at = program.index(b"Q")
    begin = program.rindex(b"(", 0, program.index(b"storage"))
    asked = program[begin:at]
    return b"\x80\x02" + asked + b"r\xff\xff\x00\x000" + program[2:begin] + b"j\xff\xff\x00\x00" + program[at:]


def _tar_as_well(parts: dict[str, bytes], canary: Path) -> bytes:
    """A sound file of torch before 1.6 whose first bytes are a sound tar header too; that form runs a program."""
    call = b"\x80\x02" + reduce_call("os", "system", (f"touch {canary}",)) + b"."
    entries = _tar({"storages": pickle.dumps(0, 2), "tensors": pickle.dumps(0, 2), "pickle": call})
    member = tarfile.TarInfo("x")
    head = parts["magic"] + parts["version"] + b"\x80\x02}("
    room = b"X" + struct.pack("<I", 512 - len(head) - 5)
    block = bytearray(member.tobuf(format=tarfile.USTAR_FORMAT))
    block[: len(head) + 5] = head + room
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    facts = b"K\x00" + parts["facts"][2:].replace(b"}q\x00(", b"", 1)
    return bytes(block) + facts + parts["program"] + parts["keys"] + parts["storages"] + entries


def plain_attacks() -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(7)
    yield "empty", b""
    yield "one-byte", b"P"
    yield "zeros", bytes(10_000)
    yield "web-page", b"\n <!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>"
    yield "git-lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    yield "yaml", b"!!python/object/apply:os.system ['touch canary']\n"
    yield "json", b'{"w": [1, 2, 3]}' * 10
    yield "text", b"weights\n"
    buffer = io.BytesIO()
    np.save(buffer, _object_array(), allow_pickle=True)
    yield "object-npy", buffer.getvalue()
    buffer = io.BytesIO()
    np.savez(buffer, w=_object_array())
    yield "object-npz", buffer.getvalue()
    yield "protocol-4", pickle.dumps({"w": 1}, protocol=4)
    for n in range(20):
        yield f"noise-{n}", random.bytes(int(random.integers(1, 4000)))


def _damaged_archives(honest: bytes) -> Iterator[tuple[str, bytes]]:
    for at in range(0, len(honest) - 1, max(1, len(honest) // 40)):
        yield f"cut-at-{at}", honest[:at]
    data = honest.index(good_state()["layer.1.weight"].numpy().tobytes())
    for bit in range(0, 48 * 8, 12):
        flipped = bytearray(honest)
        flipped[data + bit // 8] ^= 1 << bit % 8
        yield f"flipped-bit-{bit}", bytes(flipped)


def _object_array() -> np.ndarray[Any, np.dtype[Any]]:
    array = np.empty(2, object)
    array[:] = [{"a": 1}, "text"]
    return array


def _bad_sparse() -> torch.Tensor:
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        return torch.sparse_coo_tensor(torch.tensor([[10**6, -5]]), torch.rand(2), (3,), check_invariants=False)


def _flag_flipped(archive: bytes) -> bytes:
    changed = bytearray(archive)
    at = archive.index(b"PK\x01\x02")
    changed[at + 8] |= 1
    return bytes(changed)


def _claiming(archive: bytes) -> bytes:
    """The first entry claims 3 GiB, in both lengths of the directory."""
    changed = bytearray(archive)
    at = archive.index(b"PK\x01\x02")
    changed[at + 20 : at + 28] = struct.pack("<II", 3 * 2**30, 3 * 2**30)
    return bytes(changed)


def _twice(entries: dict[str, bytes], program: str, canary: Path) -> bytes:
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")
        for name, content in entries.items():
            archive.writestr(name, content)
        archive.writestr(program, b"\x80\x02" + reduce_call("os", "system", (f"touch {canary}",)) + b".")
    return buffer.getvalue()


def _torchscript() -> bytes:
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.rand(1, 2)), buffer)
    return buffer.getvalue()


def _old_tar(canary: Path) -> bytes:
    call = b"\x80\x02" + reduce_call("os", "system", (f"touch {canary}",)) + b"."
    return _tar({"storages": pickle.dumps(0, 2), "tensors": pickle.dumps(0, 2), "pickle": call})


def _tar(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _tar_with_link() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as archive:
        member = tarfile.TarInfo("storages")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    return buffer.getvalue()


def _tar_behind_magic() -> bytes:
    name = LEGACY_MAGIC[:15].decode("latin-1")
    return _tar({"storages": b"", "x": b""}).replace(b"storages" + bytes(7), name.encode("latin-1"), 1)


def write_all(folder: Path, canary: Path) -> int:
    """Write every hostile file; returns how many."""
    count = 0
    for number, (module, name, arguments) in enumerate(calls(canary)):
        for suffix, content in forms(module, name, arguments):
            (folder / f"call-{number:03d}-{suffix}").write_bytes(content)
            count += 1
    groups: list[tuple[str, Callable[[], Iterator[tuple[str, bytes]]]]] = [
        ("safetensors", safetensors_attacks),
        ("torch", lambda: torch_attacks(canary)),
        ("before-1.6", lambda: legacy_attacks(canary)),
        ("plain", plain_attacks),
    ]
    for group, attacks in groups:
        for name, content in attacks():
            (folder / f"{group}-{name}.pth").write_bytes(content)
            count += 1
    return count
