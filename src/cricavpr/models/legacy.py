"""The form in which torch saved before version 1.6, looked through before torch reads it.

Five pickles (a magic number, a version, facts about the machine, the program that rebuilds the tensors, the names of
the storages) and behind them the storages, each as a count and its bare bytes. The program is not run here. Read
without running, it tells which storages it wants, and they must be exactly those that the file holds: torch sets
aside whatever a program asks for, and would hand out memory as it finds it where the file is silent.

There is no checksum in this form: a flipped bit in the data goes unnoticed.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from typing import Any, BinaryIO

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = b"\x80\x02M\xe9\x03."  # 1001, the only one there ever was

ITEM_BYTES = {  # of the storages that weights are made of
    "torch.DoubleStorage": 8,
    "torch.LongStorage": 8,
    "torch.FloatStorage": 4,
    "torch.IntStorage": 4,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.ShortStorage": 2,
    "torch.CharStorage": 1,
    "torch.ByteStorage": 1,
    "torch.BoolStorage": 1,
}
_FRAME = {"PROTO", "STOP", "MARK", "BINPUT", "LONG_BINPUT"}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1"}
_IN_FACTS = {*_FRAME, *_NUMBERS, "EMPTY_DICT", "BINUNICODE", "NEWTRUE", "NEWFALSE", "SETITEM", "SETITEMS", "BINGET"}
_IN_KEYS = {*_FRAME, "EMPTY_LIST", "BINUNICODE", "APPEND", "APPENDS"}

Value = tuple[str, Any]  # what an operation leaves on the pickle's stack: text, number, name, none or other
_OTHER: Value = ("other", None)


class Unsound(ValueError):
    """Why a file of this form is not read: half a sentence."""


def program_in(file: BinaryIO, longest: int) -> bytes:
    """The program of a file of this form, unchecked; the file is left behind it.

    Raises:
        Unsound: what stands before the program is not what torch wrote there, or it is too long.
    """
    if file.read(len(MAGIC) + len(VERSION)) != MAGIC + VERSION:
        raise Unsound("it begins like a file of torch before 1.6, but is none")
    facts = list(_operations(_pickle(file, longest)))
    _only(facts, _IN_FACTS)
    if ("BINUNICODE", ("text", "little_endian")) not in facts:
        raise Unsound("it does not say in which order its bytes stand")
    after = facts[facts.index(("BINUNICODE", ("text", "little_endian"))) + 1 :]
    if not after or after[0][0] != "NEWTRUE":
        raise Unsound("it was written on a big-endian machine")
    return _pickle(file, longest)


def check_storages(file: BinaryIO, program: bytes, longest: int) -> None:
    """Compare the storages that a program wants with those that stand behind it, to the last byte of the file.

    Raises:
        Unsound: they are not the same.
    """
    wanted = _storages_wanted(program)
    keys = list(_operations(_pickle(file, longest)))
    _only(keys, _IN_KEYS)
    named = [value for kind, value in (value for _, value in keys) if kind == "text"]
    if sorted(named) != sorted(wanted):
        raise Unsound("it does not hold the storages that its tensors refer to")
    position, end = file.tell(), file.seek(0, io.SEEK_END)
    for key in named:
        storage, count = wanted[key]
        if position > end:
            break
        file.seek(position)
        if int.from_bytes(file.read(8), "little", signed=True) != count:
            raise Unsound(f"a storage has another length than the {count:,} values its tensors refer to")
        position += 8 + count * ITEM_BYTES[storage]
    if position != end:
        raise Unsound("it is cut off; fetch it again" if position > end else "something follows behind its tensors")


def _pickle(file: BinaryIO, longest: int) -> bytes:
    """The next pickle of the file, unread."""
    start = file.tell()
    window = io.BytesIO(file.read(longest))
    try:
        for _ in pickletools.genops(window):
            pass
    except Exception as error:  # a cut or damaged pickle brings up many kinds
        raise Unsound("a pickle inside is cut off, damaged or too long; fetch it again") from error
    file.seek(start + window.tell())
    return window.getvalue()[: window.tell()]


def _operations(program: bytes) -> Iterator[tuple[str, Value]]:
    """Each operation of a pickle but the memory's, with what it leaves on the stack where that is a plain value."""
    memo: dict[Any, Value] = {}
    last = _OTHER
    for operation, argument, _ in pickletools.genops(program):
        name = operation.name
        if name in {"BINPUT", "LONG_BINPUT", "PUT"}:
            memo[argument] = last  # the top of the stack is what the last operation left there
            continue
        if name == "MEMOIZE":
            raise Unsound("it has pickle operations that torch never wrote in this form")
        if name == "BINUNICODE":
            last = ("text", argument)
        elif name in _NUMBERS:
            last = ("number", argument)
        elif name == "GLOBAL":
            last = ("name", str(argument).replace(" ", ".", 1))
        elif name == "NONE":
            last = ("none", None)
        elif name in {"BINGET", "LONG_BINGET", "GET"}:
            last = memo.get(argument, _OTHER)
        else:
            last = _OTHER
        yield name, last


def _only(operations: list[tuple[str, Value]], allowed: set[str]) -> None:
    odd = next((name for name, _ in operations if name not in allowed), None)
    if odd is not None:
        raise Unsound(f"it has the pickle operation {odd} where torch writes plain values")


def _storages_wanted(program: bytes) -> dict[str, tuple[str, int]]:
    """Key to kind and length, from each place where the program asks for a storage.

    torch writes it in place: mark, "storage", kind, key, device, length, none, tuple. Nothing else is accepted.
    """
    wanted: dict[str, tuple[str, int]] = {}
    recent: list[tuple[str, Value]] = []
    for operation in _operations(program):
        if operation[0] == "BINPERSID":
            key, storage = _asked_for(recent)
            if wanted.setdefault(key, storage) != storage:
                raise Unsound("two of its storages bear one name")
        recent = [*recent[-7:], operation]
    return wanted


def _asked_for(recent: list[tuple[str, Value]]) -> tuple[str, tuple[str, int]]:
    names = [name for name, _ in recent]
    values = [value for _, value in recent[1:-1]]
    kinds = [kind for kind, _ in values]
    if (
        names[:1] != ["MARK"]
        or names[-1:] != ["TUPLE"]
        or kinds != ["text", "name", "text", "text", "number", "none"]
        or values[0][1] != "storage"
    ):
        raise Unsound("it refers to its storages in a way that torch never wrote")
    kind, key, count = values[1][1], values[2][1], values[4][1]
    if kind not in ITEM_BYTES:
        raise Unsound(f"it has storages of the kind {kind[:80]}")
    if count < 0:
        raise Unsound("a storage of less than no values is asked for")
    return key, (kind, count)
