"""Downloads against a server on this machine: resumed, whole or not at all, and the same file every time."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from cricavpr.errors import InputError, WeightsError
from cricavpr.locks import exclusive
from cricavpr.models import download
from cricavpr.models.download import pull
from cricavpr.models.registry import KNOWN, find_weights, place_of, record_of

BODY = bytes(range(256)) * 12_000  # about 3 MB: several chunks
SHA256 = hashlib.sha256(BODY).hexdigest()
NOTE = json.dumps({"total": len(BODY), "validator": '"one"'})  # beside a part


class Server(http.server.ThreadingHTTPServer):
    """What the server does is set by the test."""

    body: bytes = BODY
    etag: str | None = '"one"'
    ranges: bool = True
    status: int = 200
    kind: str = "application/octet-stream"
    say_length: bool = True
    cut_after: list[int]  # bytes to send before hanging up, per answer, first answers first
    redirect: str | None = None
    range_said: str | None = None  # in place of the true Content-Range of a 206
    partial: bool = False  # answer 206 without being asked for a range
    silent_s: float = 0.0  # between head and body
    extra: dict[str, str]
    asked: list[dict[str, str]]
    daemon_threads = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.pth"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(dict(self.headers))
        if server.redirect:
            self._head(302, {"Location": server.redirect, "Content-Length": "0"})
            return
        begins = self._begins()
        body = server.body[begins:]
        head = {"Content-Type": server.kind, "Connection": "close", **server.extra}
        if server.etag:
            head["ETag"] = server.etag
        if server.say_length:
            head["Content-Length"] = str(len(body))
        if begins >= len(server.body) and begins:
            self._head(416, {"Content-Range": f"bytes */{len(server.body)}", "Content-Length": "0"})
            return
        if begins:
            head["Content-Range"] = f"bytes {begins}-{len(server.body) - 1}/{len(server.body)}"
        partial = begins or server.partial
        if partial and server.range_said is not None:
            head["Content-Range"] = server.range_said
        self._head(206 if partial else server.status, head)
        time.sleep(server.silent_s)
        self.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)
        self.close_connection = True

    def _begins(self) -> int:
        asked = self.headers.get("Range", "")
        if not (self.server.ranges and asked and self.headers.get("If-Range") == self.server.etag):
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), Handler)
    running.cut_after, running.extra, running.asked = [], {}, []
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRICAVPR_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # must not be used for this machine itself
    return place_of(KNOWN["cricavpr"])


def fetch(server: Server, name: str = "cricavpr") -> Path:
    """Pull from the server; a pull that does not come back in 20 s never does, and fails the test."""
    return within(20.0, lambda: pull(name, progress=False, url=server.address))


def within(seconds: float, work: Callable[[], Path]) -> Path:
    outcome: list[Path | BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"a download did not end within {seconds} s"
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def pin(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    monkeypatch.setitem(KNOWN, "cricavpr", dataclasses.replace(KNOWN["cricavpr"], **changes))


def left(place: Path) -> set[str]:
    return {path.name for path in place.parent.iterdir() if not path.name.endswith(".lock")}


def test_a_download_arrives_whole_and_is_recorded(server: Server, place: Path) -> None:
    assert fetch(server) == place
    assert place.read_bytes() == BODY
    recorded = json.loads(record_of(place).read_text())
    assert recorded == {"sha256": SHA256, "size_bytes": len(BODY), "source": server.address}
    assert left(place) == {place.name, record_of(place).name}
    assert find_weights("cricavpr") == place


def test_a_matlab_file_is_taken_where_one_is_meant_and_nowhere_else(server: Server) -> None:
    server.body = b"MATLAB 5.0 MAT-file" + BODY[19:]
    assert fetch(server, "netvlad_pitts30k_4096").read_bytes() == server.body
    with pytest.raises(WeightsError, match="is a MATLAB file"):
        fetch(server)


def test_what_is_here_is_not_fetched_again(server: Server) -> None:
    fetch(server)
    fetch(server)
    assert len(server.asked) == 1


def test_shipped_weights_are_not_fetched(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cricavpr.models.registry.place_of", lambda known: tmp_path / "tiny")
    (tmp_path / "tiny").write_bytes(b"x")
    assert pull("cricavpr-tiny", progress=False) == tmp_path / "tiny"
    assert server.asked == []


def test_a_cut_connection_is_resumed_within_one_call(server: Server, place: Path) -> None:
    server.cut_after = [1_000_000, 700_000]
    fetch(server)
    assert place.read_bytes() == BODY
    assert [asked.get("Range") for asked in server.asked] == [None, "bytes=1000000-", "bytes=1700000-"]


def test_a_cut_off_transfer_is_never_accepted_and_the_next_call_goes_on(server: Server, place: Path) -> None:
    server.cut_after = [500_000] + [0] * 10
    with pytest.raises(WeightsError, match=r"cut off \(at 500,000 of .*500,000 bytes are kept.*again to resume"):
        fetch(server)
    assert not place.exists()
    assert place.with_name("CricaVPR.pth.part").stat().st_size == 500_000
    server.cut_after, server.asked = [], []
    fetch(server)
    assert place.read_bytes() == BODY
    assert server.asked[0]["Range"] == "bytes=500000-"
    assert server.asked[0]["If-Range"] == '"one"'


def test_a_server_without_ranges_starts_again(server: Server, place: Path) -> None:
    server.ranges = False
    server.cut_after = [500_000] + [0] * 10
    with pytest.raises(WeightsError, match="cut off"):
        fetch(server)
    server.cut_after = []
    fetch(server)
    assert place.read_bytes() == BODY


def test_a_server_that_cannot_say_whether_the_file_is_the_same_starts_again(server: Server, place: Path) -> None:
    server.etag = None
    server.cut_after = [500_000] + [0] * 10
    with pytest.raises(WeightsError, match="cut off"):
        fetch(server)
    server.cut_after, server.asked = [], []
    fetch(server)
    assert "Range" not in server.asked[0]
    assert place.read_bytes() == BODY


def test_a_file_that_changed_on_the_server_is_not_pieced_together(server: Server, place: Path) -> None:
    server.cut_after = [500_000] + [0] * 10
    with pytest.raises(WeightsError, match="cut off"):
        fetch(server)
    server.cut_after, server.etag, server.body = [], '"two"', BODY[::-1]
    fetch(server)
    assert place.read_bytes() == BODY[::-1]


def test_a_part_that_is_whole_already_is_taken(server: Server, place: Path) -> None:
    part_of(place, BODY)
    fetch(server)
    assert place.read_bytes() == BODY


def test_a_part_longer_than_the_file_starts_again(server: Server, place: Path) -> None:
    part_of(place, BODY + b"more")
    fetch(server)
    assert place.read_bytes() == BODY


def part_of(place: Path, content: bytes = BODY[:500_000]) -> Path:
    """What an earlier call left of the download."""
    part = place.with_name("CricaVPR.pth.part")
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(content)
    part.with_name(part.name + ".json").write_text(NOTE)
    return part


@pytest.mark.parametrize(
    "said",
    [
        f"bytes 0-{len(BODY) - 1}/{len(BODY)}",  # begins elsewhere
        f"bytes 499999-{len(BODY) - 1}/{len(BODY)}",
        f"bytes 500000-{len(BODY) - 1}/{len(BODY) + 1}",  # another file
        "bytes 500000-400000/300000",  # shorter than what is here: it must not be taken for whole
        "bytes 500000-499999/500000",
        "bytes 500000-3071999/*",
        "bytes */3072000",
        "",
        "500000",
    ],
)
def test_a_range_that_was_not_asked_for_is_never_pieced_together(server: Server, place: Path, said: str) -> None:
    part_of(place)
    server.range_said = said
    fetch(server)
    assert place.read_bytes() == BODY
    assert [asked.get("Range") for asked in server.asked] == ["bytes=500000-", None]  # again, from the beginning


def test_a_part_of_the_file_that_nobody_asked_for_is_not_taken_for_the_whole(server: Server, place: Path) -> None:
    server.partial, server.range_said = True, f"bytes 0-{len(BODY) - 1}/{len(BODY)}"
    with pytest.raises(WeightsError, match="file on the server keeps changing"):
        fetch(server)
    assert len(server.asked) == download.ATTEMPTS and not place.exists()


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"total": 9, "validator": "x"}', '{"total": "a", "validator": 3}'])
def test_a_note_that_says_nothing_of_the_part_means_starting_again(server: Server, place: Path, note: str) -> None:
    part = part_of(place)
    part.with_name(part.name + ".json").write_text(note)
    fetch(server)
    assert place.read_bytes() == BODY and "Range" not in server.asked[0]


def test_a_server_that_hangs_up_after_each_byte_is_given_up(server: Server, place: Path) -> None:
    server.cut_after = [1] * 1000
    with pytest.raises(WeightsError, match="cut off"):
        fetch(server)
    assert len(server.asked) == download.ATTEMPTS and not place.exists()
    assert place.with_name("CricaVPR.pth.part").stat().st_size == download.ATTEMPTS


def test_a_server_that_hangs_up_at_once_is_asked_no_second_time(server: Server, place: Path) -> None:
    server.cut_after = [0] * 1000
    with pytest.raises(WeightsError, match=r"cut off \(at 0 of 3,072,000 bytes"):
        fetch(server)
    assert len(server.asked) == 1 and not place.exists()


def test_a_server_that_sends_no_body_is_given_up(server: Server, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    server.silent_s = 1.0
    with pytest.raises(WeightsError, match=r"cut off \(at 0 of .*timed out"):
        fetch(server)
    assert len(server.asked) == 1 and not place.exists()


def test_a_server_that_sends_nothing_at_all_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/file.pth"
        with pytest.raises(WeightsError, match=r"no connection to 127.0.0.1 \(timed out\)"):
            within(60.0, lambda: pull("cricavpr", progress=False, url=address))
    assert not place.exists()


def torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.rand(1000)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content", [torch_file(), save({"w": np.ones(1000), "v": np.ones(3)})], ids=["zip", "safetensors"]
)
@pytest.mark.parametrize("missing", [1, 30, 1000])
def test_a_file_that_is_short_on_the_server_is_refused(
    server: Server, place: Path, content: bytes, missing: int
) -> None:
    """Its length is what the server says, so that only the file itself tells."""
    server.body = content[:-missing]
    with pytest.raises(WeightsError, match=r"is truncated: its end is missing.*kept as .*rejected"):
        fetch(server)
    assert not place.exists()
    server.body = content
    assert fetch(server).read_bytes() == content


def test_a_header_of_safetensors_that_is_cut_is_refused(server: Server) -> None:
    server.body = save({"w": np.ones(3)})[:20]
    with pytest.raises(WeightsError, match="is truncated"):
        fetch(server)


def test_a_wrong_hash_is_refused_and_the_file_kept_aside(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, sha256="0" * 64)
    with pytest.raises(WeightsError, match=rf"expected SHA-256 0000.*, got {SHA256}.*kept as .*rejected"):
        fetch(server)
    assert left(place) == {"CricaVPR.pth.rejected"}
    assert place.with_name("CricaVPR.pth.rejected").read_bytes() == BODY


def test_the_right_hash_is_accepted_from_a_mirror(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, sha256=SHA256, size_bytes=len(BODY))
    assert fetch(server).read_bytes() == BODY


def test_a_second_download_must_bring_the_same_file_as_the_first(server: Server, place: Path) -> None:
    fetch(server)
    place.unlink()
    server.body = BODY[:-1] + b"!"
    with pytest.raises(WeightsError, match=f"expected SHA-256 {SHA256}"):
        fetch(server)
    assert not place.exists()
    server.body = BODY
    fetch(server)
    assert place.read_bytes() == BODY


def test_a_damaged_file_in_place_is_moved_aside_and_fetched_again(server: Server, place: Path) -> None:
    fetch(server)
    place.write_bytes(b"damaged")
    fetch(server)
    assert place.read_bytes() == BODY
    assert place.with_name("CricaVPR.pth.rejected").read_bytes() == b"damaged"


def test_another_size_is_refused_before_anything_is_fetched(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, size_bytes=5)
    with pytest.raises(WeightsError, match=r"cricavpr must have 5[\d,]* bytes, got 3,072,000"):
        fetch(server)
    assert not place.exists() and not place.with_name("CricaVPR.pth.part").exists()


def test_a_server_that_does_not_say_how_long_the_file_is_is_refused(server: Server, place: Path) -> None:
    server.say_length = False
    with pytest.raises(WeightsError, match="does not send the file's length"):
        fetch(server)
    assert not place.exists()


def test_a_known_size_stands_in_for_a_silent_server(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, size_bytes=len(BODY))
    server.say_length, server.cut_after = False, [100_000] + [0] * 9
    with pytest.raises(WeightsError, match="cut off"):
        fetch(server)
    assert not place.exists()
    server.cut_after = []
    assert fetch(server).read_bytes() == BODY


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_an_error_of_the_server_says_what_to_fetch_by_hand_and_where_to_put_it(
    server: Server, place: Path, status: int
) -> None:
    server.status = status
    with pytest.raises(WeightsError) as caught:
        fetch(server)
    assert f"answered {status}" in str(caught.value)
    assert f"download {KNOWN['cricavpr'].url}" in str(caught.value) and f"put it at {place}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_web_page_is_refused_by_its_kind(server: Server, place: Path) -> None:
    server.kind, server.body = "text/html; charset=utf-8", b"<html>sign in</html>"
    with pytest.raises(WeightsError, match="answered with a web page"):
        fetch(server)
    assert not place.exists()


def test_a_web_page_in_disguise_is_refused_by_its_content(server: Server, place: Path) -> None:
    server.body = b"<!DOCTYPE html><html>Google Drive can't scan this file for viruses</html>"
    with pytest.raises(WeightsError, match=r"is a web page.*kept as"):
        fetch(server)
    assert not place.exists()


def test_an_encoded_answer_is_refused(server: Server) -> None:
    server.extra = {"Content-Encoding": "gzip"}
    with pytest.raises(WeightsError, match="compresses the file"):
        fetch(server)


def test_without_a_network_one_line_says_what_to_do(place: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    with pytest.raises(WeightsError) as caught:
        pull("cricavpr", progress=False, url=address)
    assert "no connection to 127.0.0.1" in str(caught.value)
    assert str(KNOWN["cricavpr"].url) in str(caught.value) and str(place) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/x",
        "ftp://example.org/x",
        "file:///etc/passwd",
        "data:,x",
        "x",
        "http://127.0.0.1.evil/",
    ],
)
def test_only_https_is_fetched(address: str) -> None:
    with pytest.raises(WeightsError, match="over https only"):
        pull("cricavpr", progress=False, url=address)


@pytest.mark.parametrize("target", ["http://example.org/x", "file:///etc/passwd", "ftp://example.org/x"])
def test_a_redirect_does_not_lead_away_from_https(server: Server, place: Path, target: str) -> None:
    server.redirect = target
    with pytest.raises(WeightsError, match=r"over https only|is not allowed"):
        fetch(server)
    assert not place.exists()


def test_a_stranger_cannot_redirect_to_this_machine() -> None:
    import http.client
    import io
    import urllib.request

    request = urllib.request.Request("https://example.org/x")
    with pytest.raises(WeightsError, match="redirects to this machine"):
        download._CarefulRedirects().redirect_request(
            request, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), "http://127.0.0.1:80/"
        )


def test_two_pulls_do_not_write_one_file(server: Server, place: Path) -> None:
    place.parent.mkdir()
    with (
        exclusive(place.with_name("CricaVPR.pth.part.lock"), "it"),
        pytest.raises(InputError, match=f"locked by process {os.getpid()}"),
    ):
        fetch(server)
    fetch(server)


def test_a_folder_that_cannot_be_written_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CRICAVPR_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot write cricavpr to .*Set CRICAVPR_HOME"):
        fetch(server)


def test_a_full_disk_is_not_taken_for_a_broken_network(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_receive", full)
    with pytest.raises(WeightsError, match="No space left on device"):
        fetch(server)


def test_progress_goes_to_stderr_only_when_asked(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    pull("cricavpr", progress=True, url=server.address)
    told = capfd.readouterr()
    assert told.out == "" and "cricavpr" in told.err


def test_unknown_weights_are_not_pulled() -> None:
    with pytest.raises(WeightsError, match="Did you mean dinov2_vitb14"):
        pull("dinov2_vitb")
