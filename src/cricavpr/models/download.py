"""Download of known weights, which can be resumed after an interruption.

A file gets its final name only after all its bytes have arrived and its SHA-256 has been checked. It must match the
pinned SHA-256 or, if none is pinned, the SHA-256 that was recorded at the first download. An interrupted transfer stays
as `FILE.part`, with a JSON file beside it that identifies the file on the server. The next call resumes it if the
server still has the same file.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from cricavpr.errors import InputError, WeightsError
from cricavpr.files import sha256_of, sync, write_text
from cricavpr.locks import exclusive
from cricavpr.models import registry
from cricavpr.models.filetypes import FIRST_BYTES, MATLAB, is_truncated, other_filetype
from cricavpr.models.registry import KnownWeights, by_hand, known_weights, place_of, recorded_sha256
from cricavpr.progress import Progress
from cricavpr.schema import build, parse_json

CHUNK_BYTES = 2**20
TIMEOUT_S = 30.0  # longest wait for the next bytes from the server
ATTEMPTS = 5  # for each call; if an attempt receives no new bytes, no further attempt is made


class _CutOff(Exception):
    """Raised when the connection ends before the file is complete."""


class _StartAgain(Exception):
    """Raised when the server's file is no longer the one that the partial download on disk came from."""


@dataclass(frozen=True)
class _Part:
    """Identity of the file on the server from which a partial download came."""

    total: int  # size of the whole file in bytes
    validator: str | None  # strong ETag or Last-Modified date, which tells whether the file has changed


def pull(name: str, *, progress: bool = True, url: str | None = None) -> Path:
    """Download weights by name into `weights_folder()` and return their path. Keep a file that is already there.

    Args:
        name: a name from `cricavpr weights list`.
        progress: whether to print the address and a progress bar to stderr.
        url: address of a mirror; its file must also match the pinned or recorded SHA-256.

    Raises:
        WeightsError: the name is unknown, there is no connection, the transfer is interrupted (the next call resumes
            it), or the downloaded file is not the expected one.

    Example:
        >>> pull("cricavpr-tiny").name  # ships with the package
        'cricavpr-tiny.safetensors'
    """
    known = known_weights(name)
    place = place_of(known)
    if known.shipped or (place.is_file() and _still_good(known, place)):
        return registry.find_weights(name)
    if known.by_hand_only and url is None:
        raise WeightsError(registry.how_to_get(known))
    address = url or known.url
    assert address is not None  # only weights that ship with the package have no address
    _check_address(address)
    part = place.with_name(place.name + ".part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(part.with_name(part.name + ".lock"), str(part)):
            if progress:
                print(f"downloading {name} from {address}", file=sys.stderr)
            _fetch(known, address, part, progress)
            return _accept(known, address, part, place)
    except OSError as error:  # from the local disk; network errors become WeightsError where they occur
        reason = error.strerror or error
        raise WeightsError(f"cannot write {name} to {place}: {reason}. Set CRICAVPR_HOME to another folder.") from None


def _still_good(known: KnownWeights, place: Path) -> bool:
    """Return whether a file from an earlier download can be kept.

    It can if it has the expected SHA-256, or if no SHA-256 is known yet. Any other file is renamed to FILE.rejected.
    """
    sha256 = sha256_of(place)
    if sha256 == (_expected(known, place) or sha256):
        return True
    place.replace(place.with_name(place.name + ".rejected"))
    return False


def _expected(known: KnownWeights, place: Path) -> str | None:
    return known.sha256 or recorded_sha256(place)


# Fetching


def _fetch(known: KnownWeights, address: str, part: Path, progress: bool) -> None:
    """Download into `part` until it is complete. After an interruption try again, if new bytes had arrived."""
    for attempt in range(ATTEMPTS):
        before = _size(part)
        try:
            return _fetch_once(known, address, part, progress)
        except _StartAgain:
            _forget(part)
        except _CutOff as cut:
            if attempt == ATTEMPTS - 1 or _size(part) <= before:
                raise WeightsError(_interrupted(known, part, str(cut))) from None
    raise WeightsError(_interrupted(known, part, "the file on the server keeps changing"))


def _interrupted(known: KnownWeights, part: Path, why: str) -> str:
    return (
        f"the download of {known.name} was cut off ({why}); {_size(part):,} bytes are kept. "
        f"Run `cricavpr weights pull {known.name}` again to resume, or {by_hand(known)}"
    )


def _fetch_once(known: KnownWeights, address: str, part: Path, progress: bool) -> None:
    have, noted = _resumable(part)
    try:
        response = _opened(address, have, noted)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:  # the file on the server ends here, or is another file
                if noted and have == noted.total:
                    return
                raise _StartAgain from None
            raise WeightsError(
                f"{address} answered {error.code} {error.reason}. Try again later, or {by_hand(known)}"
            ) from None
    except (http.client.HTTPException, OSError) as error:
        host = urllib.parse.urlsplit(address).hostname
        raise WeightsError(f"no connection to {host} ({_reason(error)}). Try again, or {by_hand(known)}") from None
    with response:
        _check_kind(known, address, response)
        begins_at, offered = _offer(known, address, response, have, noted)
        write_text(_note_of(part), json.dumps(asdict(offered)) + "\n")
        with Progress(progress, offered.total, unit="B") as bar:
            bar.start(begins_at)
            _receive(response, part, begins_at, offered.total, bar)


def _opened(address: str, have: int, noted: _Part | None) -> http.client.HTTPResponse:
    headers = {"User-Agent": "cricavpr", "Accept-Encoding": "identity"}
    if noted and noted.validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": noted.validator}
    request = urllib.request.Request(address, headers=headers)
    handlers: list[urllib.request.BaseHandler] = [_CarefulRedirects()]
    if _is_loopback(address):
        handlers.append(urllib.request.ProxyHandler({}))
    response: http.client.HTTPResponse = urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S)
    return response


def _check_kind(known: KnownWeights, address: str, response: http.client.HTTPResponse) -> None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in {"text/html", "application/xhtml+xml"}:
        raise WeightsError(
            f"{address} answered with a web page, not weights. Open the address in a browser, or {by_hand(known)}"
        )
    if response.headers.get("Content-Encoding", "identity").lower() not in {"identity", ""}:
        raise WeightsError(
            f"{address} compresses the file, so its length cannot be checked. Try a mirror, or {by_hand(known)}"
        )


def _offer(
    known: KnownWeights, address: str, response: http.client.HTTPResponse, have: int, noted: _Part | None
) -> tuple[int, _Part]:
    """Return the offset in bytes at which the response begins, and the identity of the server's file.

    Raise WeightsError if the length of the file is unknown, because a truncated transfer would look complete.
    """
    headers, begins_at = response.headers, 0
    length = headers.get("Content-Length", "")
    if response.status == 206:
        given = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", "").strip())
        if given is None or noted is None or (int(given[1]), int(given[2])) != (have, noted.total):
            raise _StartAgain
        begins_at, total = have, noted.total
    elif length.isdecimal() or known.size_bytes is not None:
        total = int(length) if length.isdecimal() else known.size_bytes or 0
    else:
        raise WeightsError(
            f"{address} does not send the file's length, so a truncated download would go unnoticed. Try a mirror, "
            f"or {by_hand(known)}"
        )
    if known.size_bytes not in (None, total):
        raise WeightsError(
            f"{known.name} must have {known.size_bytes:,} bytes, got {total:,} from {address}; nothing was downloaded. "
            f"Try a mirror, or {by_hand(known)}"
        )
    etag = headers.get("ETag", "")
    return begins_at, _Part(total, etag if etag.startswith('"') else headers.get("Last-Modified"))


def _receive(response: http.client.HTTPResponse, part: Path, begins_at: int, total: int, bar: Progress) -> None:
    """Write the response to `part` from byte `begins_at` to byte `total`; raise _CutOff if fewer bytes arrive."""
    with part.open("r+b" if part.exists() else "w+b") as file:
        file.truncate(begins_at)
        file.seek(begins_at)
        at = begins_at
        while at < total:
            try:
                chunk = response.read(min(CHUNK_BYTES, total - at))
            except (http.client.HTTPException, OSError) as error:
                raise _CutOff(f"at {at:,} of {total:,} bytes: {_reason(error)}") from None
            if not chunk:
                raise _CutOff(f"at {at:,} of {total:,} bytes")
            file.write(chunk)
            file.flush()
            at += len(chunk)
            bar.advance(len(chunk))


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None) or error
    lines = str(inner).strip().splitlines()
    return lines[0][:200] if lines else type(inner).__name__


# Accepting


def _accept(known: KnownWeights, address: str, part: Path, place: Path) -> Path:
    """Rename a complete download to its final name; raise WeightsError if it is not the expected file."""
    with part.open("rb") as file:
        what = other_filetype(file.read(FIRST_BYTES))
    if what is None and is_truncated(part):
        what = "truncated: its end is missing"
    if what is not None and not (what == MATLAB and place.suffix == ".mat"):
        raise WeightsError(
            f"the file from {address} is {what}. {_set_aside(part, place)} Try again, or {by_hand(known)}"
        )
    sha256 = sha256_of(part)
    expected = _expected(known, place)
    if expected is not None and sha256 != expected:
        raise WeightsError(
            f"the file from {address} is not {known.name}: expected SHA-256 {expected}, got {sha256}. "
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
    return f"The downloaded file was kept as {rejected}."


# The partial download


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _resumable(part: Path) -> tuple[int, _Part | None]:
    """Return how many bytes are on disk, and the identity of the server's file that they came from.

    Return 0 and None if there is nothing to resume.
    """
    with contextlib.suppress(OSError, InputError):
        noted = build(_Part, parse_json(_note_of(part).read_bytes(), "note"), "note")
        if noted.validator and 0 < _size(part) <= noted.total:
            return _size(part), noted
    return 0, None


def _forget(part: Path) -> None:
    if part.exists():
        os.truncate(part, 0)
    _note_of(part).unlink(missing_ok=True)


# Addresses


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Redirect handler that follows redirects only to addresses from which weights may be downloaded."""

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
            raise WeightsError(
                f"{req.full_url} redirects to this machine ({newurl}), which is not allowed. Use another address."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(address: str) -> None:
    """Raise WeightsError unless the address is https, or http on this machine."""
    scheme = urllib.parse.urlsplit(address).scheme
    if scheme == "https" or (scheme == "http" and _is_loopback(address)):
        return
    raise WeightsError(f"weights are downloaded over https only, got {address}.")


def _is_loopback(address: str) -> bool:
    host = urllib.parse.urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
