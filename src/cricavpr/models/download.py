"""Fetching known weights: resumable, whole or not at all, and the same file every time.

What is promised: a file appears under its own name only after every byte arrived and its SHA-256 was compared
with the pinned one, or with the one recorded at the first download. A transfer that was cut off stays
`FILE.part` and goes on where it stopped, if the server still has the same file.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from cricavpr.errors import WeightsError
from cricavpr.files import sha256_of, sync, write_text
from cricavpr.locks import exclusive
from cricavpr.models import registry
from cricavpr.models.filetypes import FIRST_BYTES, MATLAB, what_else
from cricavpr.models.registry import KnownWeights, by_hand, known_weights, place_of, recorded_sha256

CHUNK_BYTES = 2**20
TIMEOUT_S = 30.0
ATTEMPTS = 5  # in one call, each of which must bring the file further


@dataclass(frozen=True)
class _Answer:
    """What the server said about the bytes that follow."""

    begins_at: int
    total_bytes: int | None
    validator: str | None  # a strong ETag or a date: tells whether the file is still the same


class _CutOff(Exception):
    """The connection ended before the file did."""


class _StartAgain(Exception):
    """What we have of the file belongs to another one."""


def pull(name: str, *, progress: bool = True, url: str | None = None) -> Path:
    """Download known weights into `weights_folder()`, or find them there, and return where they are.

    Args:
        url: a mirror to fetch from; a pinned or recorded SHA-256 holds for it as well.

    Raises:
        WeightsError: unknown name, no connection, a cut-off transfer (the next call resumes), another file.
    """
    known = known_weights(name)
    place = place_of(known)
    if known.shipped or (place.is_file() and _still_good(known, place)):
        return registry.find_weights(name)
    if known.by_hand_only and url is None:
        raise WeightsError(registry.how_to_get(known))
    address = url or known.url
    assert address is not None  # only shipped weights have none
    _check_address(address)
    part = place.with_name(place.name + ".part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(part.with_name(part.name + ".lock"), str(part)):
            _fetch(known, address, part, progress)
            return _accept(known, address, part, place)
    except OSError as error:
        raise WeightsError(f"cannot keep {name} at {place}: {error.strerror or error}. Set CRICAVPR_HOME.") from None


def _still_good(known: KnownWeights, place: Path) -> bool:
    """Whether the file in place is the right one; another is moved aside so that it can be fetched again."""
    sha256 = sha256_of(place)
    if sha256 == (_expected(known, place) or sha256):
        return True
    place.replace(place.with_name(place.name + ".rejected"))
    return False


def _expected(known: KnownWeights, place: Path) -> str | None:
    return known.sha256 or recorded_sha256(place)


# Fetching


def _fetch(known: KnownWeights, address: str, part: Path, progress: bool) -> None:
    """Bring `part` to its full length, resuming as often as that gets further."""
    for attempt in range(ATTEMPTS):
        before = _size(part)
        try:
            return _fetch_once(known, address, part, progress)
        except _StartAgain:
            _forget(part)
        except _CutOff as cut:
            if attempt == ATTEMPTS - 1 or _size(part) <= before:
                raise WeightsError(_cut_off(known, part, str(cut))) from None
    raise WeightsError(_cut_off(known, part, "the server keeps changing the file"))


def _cut_off(known: KnownWeights, part: Path, why: str) -> str:
    return (
        f"the transfer of {known.name} was cut off ({why}); {_size(part):,} bytes are kept. "
        f"Run `cricavpr weights pull {known.name}` again to go on from there, or {by_hand(known)}"
    )


def _fetch_once(known: KnownWeights, address: str, part: Path, progress: bool) -> None:
    have, validator = _resumable(part)
    try:
        with _opened(address, have, validator) as response:
            _check_kind(known, address, response.headers)
            answer = _answer(response, have)
            total = _total(known, address, answer, part)
            _note(part, answer.validator)
            _receive(response, part, answer.begins_at, total, known.name if progress else "")
    except urllib.error.HTTPError as error:
        with error:
            _after_refusal(known, address, part, error, have)
    except _DiskError as error:
        raise error.error from None
    except (http.client.HTTPException, OSError) as error:
        host = urllib.parse.urlsplit(address).hostname
        raise WeightsError(
            f"no connection to {host} ({_reason(error)}). Try again online, or {by_hand(known)}"
        ) from None


def _resumable(part: Path) -> tuple[int, str | None]:
    """How many bytes of the same file we have, and how the server can tell that it is the same."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        validator = json.loads(_note_of(part).read_text(encoding="utf-8")).get("validator")
        if isinstance(validator, str) and _size(part) > 0:
            return _size(part), validator
    return 0, None


def _opened(address: str, have: int, validator: str | None) -> http.client.HTTPResponse:
    headers = {"User-Agent": "cricavpr", "Accept-Encoding": "identity"}
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    request = urllib.request.Request(address, headers=headers)
    handlers: list[urllib.request.BaseHandler] = [_CarefulRedirects()]
    if _is_loopback(address):
        handlers.append(urllib.request.ProxyHandler({}))
    response: http.client.HTTPResponse = urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S)
    return response


def _answer(response: http.client.HTTPResponse, have: int) -> _Answer:
    headers = response.headers
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")
    if response.status == 206:
        given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("Content-Range", "").strip())
        if given is None or int(given[1]) != have:
            raise _StartAgain
        return _Answer(have, int(given[3]), validator)
    length = headers.get("Content-Length", "")
    return _Answer(0, int(length) if length.isdecimal() else None, validator)


def _check_kind(known: KnownWeights, address: str, headers: Message) -> None:
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in {"text/html", "application/xhtml+xml"}:
        raise WeightsError(
            f"{address} answered with a web page, not weights. Look at it in a browser, or {by_hand(known)}"
        )
    if headers.get("Content-Encoding", "identity").lower() not in {"identity", ""}:
        raise WeightsError(f"{address} sends the file encoded: its length cannot be checked; {by_hand(known)}")


def _total(known: KnownWeights, address: str, answer: _Answer, part: Path) -> int:
    """The full length to reach. It must be known beforehand: else a cut-off transfer would look whole."""
    total = answer.total_bytes
    if total is None:
        total = known.size_bytes
    if total is None:
        raise WeightsError(f"{address} does not say how long the file is: nothing was fetched; {by_hand(known)}")
    if known.size_bytes is not None and total != known.size_bytes:
        _forget(part)
        raise WeightsError(
            f"{address} has {total:,} bytes, but {known.name} has {known.size_bytes:,}: another file. "
            f"Nothing was fetched; {by_hand(known)}"
        )
    return total


def _receive(response: http.client.HTTPResponse, part: Path, begins_at: int, total: int, label: str) -> None:
    """Write what arrives, up to `total` bytes in all.

    Raises:
        _CutOff: less arrived.
    """
    with _writing(part, begins_at) as file, _bar(label, begins_at, total) as bar:
        at = begins_at
        while at < total:
            chunk = _next_chunk(response, min(CHUNK_BYTES, total - at), at, total)
            _write(file, chunk)
            at += len(chunk)
            bar.update(len(chunk))


def _next_chunk(response: http.client.HTTPResponse, most: int, at: int, total: int) -> bytes:
    try:
        chunk = response.read(most)
    except (http.client.HTTPException, OSError) as error:
        raise _CutOff(f"at {at:,} of {total:,} bytes: {_reason(error)}") from None
    if not chunk:
        raise _CutOff(f"at {at:,} of {total:,} bytes")
    return chunk


class _DiskError(OSError):
    """A fault of our own disk, kept apart from faults of the network."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.error = error


@contextlib.contextmanager
def _writing(part: Path, begins_at: int) -> Iterator[IO[bytes]]:
    try:
        file = part.open("r+b" if part.exists() else "w+b")
    except OSError as error:
        raise _DiskError(error) from None
    with file:
        file.truncate(begins_at)
        file.seek(begins_at)
        yield file


def _write(file: IO[bytes], chunk: bytes) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise _DiskError(error) from None


def _bar(label: str, begins_at: int, total: int) -> Any:
    from tqdm import tqdm

    off = not label
    return tqdm(
        desc=label or None,
        initial=begins_at,
        total=total,
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        disable=off,
    )


# Faults


def _after_refusal(known: KnownWeights, address: str, part: Path, error: urllib.error.HTTPError, have: int) -> None:
    if error.code == 416 and have:  # nothing beyond what we have: whole already, or another file by now
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(have):
            return
        raise _StartAgain
    raise WeightsError(
        f"{address} answered {error.code} {error.reason}. Try again later, or {by_hand(known)}"
    ) from None


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None) or error
    lines = str(inner).strip().splitlines()
    return lines[0][:200] if lines else type(inner).__name__


# Accepting


def _accept(known: KnownWeights, address: str, part: Path, place: Path) -> Path:
    """Give a whole download its name, unless it is another file."""
    with part.open("rb") as file:
        what = what_else(file.read(FIRST_BYTES))
    if what is not None and not (what == MATLAB and place.suffix == ".mat"):
        raise WeightsError(f"{address} brought a file that is {what}. {_set_aside(part, place)} Or {by_hand(known)}")
    sha256 = sha256_of(part)
    expected = _expected(known, place)
    if expected is not None and sha256 != expected:
        raise WeightsError(
            f"{address} brought another file than {known.name}: SHA-256 {sha256}, expected {expected}. "
            f"{_set_aside(part, place)}"
        )
    sync(part)
    part.replace(place)
    sync(place.parent)
    _note_of(part).unlink(missing_ok=True)
    registry.record(place, sha256, source=address)
    return place


def _set_aside(part: Path, place: Path) -> str:
    rejected = place.with_name(place.name + ".rejected")
    part.replace(rejected)
    _note_of(part).unlink(missing_ok=True)
    return f"It was refused and kept as {rejected}."


# The part beside


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _note(part: Path, validator: str | None) -> None:
    write_text(_note_of(part), json.dumps({"validator": validator}) + "\n")


def _forget(part: Path) -> None:
    if part.exists():
        os.truncate(part, 0)
    _note_of(part).unlink(missing_ok=True)


# Addresses


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to where we would have gone ourselves."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_address(newurl)
        if _is_loopback(newurl) and not _is_loopback(req.full_url):
            raise WeightsError(f"{req.full_url} leads to this machine itself ({newurl}); not followed.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(address: str) -> None:
    """Refuse anything but https, and http to this very machine.

    Raises:
        WeightsError: another scheme.
    """
    scheme = urllib.parse.urlsplit(address).scheme
    if scheme == "https" or (scheme == "http" and _is_loopback(address)):
        return
    raise WeightsError(f"weights are fetched over https only, not from {address}.")


def _is_loopback(address: str) -> bool:
    host = urllib.parse.urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
