"""Answers of the Hub over HTTP: bounded in bytes, time and redirects, whatever the other side sends.

The session is that of huggingface_hub, and with it the certificates and proxies that its user has set up.
"""

from __future__ import annotations

import json
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

from huggingface_hub.utils import get_session, hf_raise_for_status

from ..errors import plain
from .faults import no_answer
from .line import Line
from .place import Place

TIMEOUT = 6.0
"""Seconds for one answer of the Hub, and from byte to byte."""
LARGEST_ANSWER = 8 * 2**20
"""Bytes of an answer that is no file."""
_LARGEST_COMPLAINT = 2**16
"""Bytes of an answer that says what is wrong."""
_MOST_REDIRECTS = 5
_PIECE = 2**20
"""Bytes to decompress at once."""
_REDIRECTS = (301, 302, 303, 307, 308)
_TAGS = ("etag", "x-linked-etag")
_PATH = re.compile(r'^(?:W/"|W/|"|)/|\.\.|\\|[^ -~]')
"""What makes a tag a path out of its folder, or no tag; others may hold a slash, as base64 does."""


def told(line: Line, place: Place, path: str) -> Any:
    """What the Hub answers in JSON.

    Raises:
        HubConnectionError: it is no JSON, longer than `LARGEST_ANSWER`, or not what a Hub sends.
        Exception: see `receive`.
    """
    content = bytearray()

    def keep(piece: bytes) -> None:
        if len(content) + len(piece) > LARGEST_ANSWER:
            raise no_answer(place, f"it sends more than {LARGEST_ANSWER} bytes")
        content.extend(piece)

    receive(line, place, path, keep)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise no_answer(place, "it sends something else than JSON") from None


def receive(
    line: Line, place: Place, path: str, keep: Callable[[bytes], Any], *, commit: str | None = None
) -> None:
    """Ask the Hub for something, and keep it piece by piece as it comes, decompressed.

    Args:
        line: of the thread.
        place: where to ask.
        path: what for, below the endpoint.
        keep: takes each piece, of a few MB at most, and raises where it has enough.
        commit: of a file: which the answer should name, where it names any.

    Raises:
        HubConnectionError: it is not what a Hub sends.
        Exception: of huggingface_hub, for a status that it knows, and of its HTTP library.
    """
    address, headers = f"{place.endpoint}/{path}", place.headers
    asked = {"accept-encoding": "identity", "connection": "close"}
    for _ in range(_MOST_REDIRECTS + 1):
        line.check()
        with get_session().stream(
            "GET",
            address,
            headers=headers | asked,
            timeout=TIMEOUT,
            follow_redirects=False,
            extensions={"trace": line.follow},
        ) as response:
            line.follow("", {"return_value": response.extensions.get("network_stream")})
            if commit is not None:
                _refuse_names(place, response.headers, commit)
            if response.status_code not in _REDIRECTS:
                return _keep_body(line, place, response, keep)
            target = urljoin(address, response.headers.get("location", ""))
        address, headers = _followed(place, address, target, headers)
    raise no_answer(place, "it redirects without end")


def _keep_body(line: Line, place: Place, response: Any, keep: Callable[[bytes], Any]) -> None:
    """Keep the body of an answer; of one that is a complaint, raise what it means."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    pieces = _decoded(place, response.iter_raw(), encoding)
    if response.status_code != 200:
        _raise_complaint(place, response, b"".join(_at_most(line, _LARGEST_COMPLAINT, pieces)))
    for piece in pieces:
        line.check()
        keep(piece)


def _raise_complaint(place: Place, response: Any, body: bytes) -> NoReturn:
    """Raise what a status other than success means."""
    # The client would read all of the body, so it gets a copy.
    kept = [(k, v) for k, v in response.headers.multi_items() if k.lower().startswith(("x-", "content-type"))]
    hf_raise_for_status(
        type(response)(
            response.status_code, headers=kept, content=body[:_LARGEST_COMPLAINT], request=response.request
        )
    )
    raise no_answer(place, f"its status is {response.status_code}")


def _at_most(line: Line, most: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces until there are so many bytes."""
    for piece in pieces:
        line.check()
        yield piece
        most -= len(piece)
        if most <= 0:
            return


def _decoded(place: Place, raw: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The pieces of a body, decompressed a bounded piece at a time."""
    if encoding in ("", "identity"):
        yield from raw
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise no_answer(place, f"it sends {plain(encoding, 40)}, which was not asked for")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # of either header
    try:
        for piece in raw:
            rest = piece
            while rest and not inflate.eof:
                yield inflate.decompress(rest, _PIECE)
                rest = inflate.unconsumed_tail
    except zlib.error:
        raise no_answer(place, "what it sends cannot be decompressed") from None


def _followed(
    place: Place, address: str, target: str, headers: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """Where a redirect leads, and what is said there: nobody else learns the token."""
    try:
        before, after = urlsplit(address), urlsplit(target)
        same = (before.scheme, before.hostname, before.port) == (after.scheme, after.hostname, after.port)
    except ValueError:
        raise no_answer(place, "it redirects to no address") from None
    if after.scheme not in ("http", "https") or (before.scheme, after.scheme) == ("https", "http"):
        raise no_answer(place, "it redirects to an address that is not safe")
    if after.username is not None:
        raise no_answer(place, "it redirects to an address with a user")
    return target, {key: value for key, value in headers.items() if same or key != "authorization"}


def _refuse_names(place: Place, headers: Mapping[str, str], commit: str) -> None:
    """Refuse a file whose tag is a path, though no path is made of it here, or that is of another commit."""
    for key in _TAGS:
        if _PATH.search(headers.get(key, "")):
            raise no_answer(place, f"its {key} is {plain(headers[key], 40)!r}")
    said = headers.get("x-repo-commit", commit)
    if said != commit:
        raise no_answer(place, f"its commit is {plain(said, 60)!r}")


@contextmanager
def attended(line: Line) -> Iterator[None]:
    """Let the client's own requests of this thread follow a line, and bound what is answered to them."""
    session, thread = get_session(), threading.get_ident()
    # Of httpx, or of what the client has in its stead.
    stream_type: Any = import_module(type(session).__module__.partition(".")[0]).SyncByteStream

    class Bounded(stream_type):
        """The body of an answer, up to a bound; compressed answers are not asked for, and refused."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __iter__(self) -> Iterator[bytes]:
            left = LARGEST_ANSWER
            for piece in self.stream:
                line.check()
                left -= len(piece)
                if left < 0:
                    raise ValueError("it sends more than anyone would read")
                yield piece

        def close(self) -> None:
            self.stream.close()

    def before(request: Any) -> None:
        if threading.get_ident() == thread:
            line.check()
            request.extensions = {**request.extensions, "trace": line.follow}
            request.headers["accept-encoding"] = "identity"

    def after(response: Any) -> None:
        if threading.get_ident() == thread:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ValueError("it sends compressed what was not asked for so")
            response.stream = Bounded(response.stream)

    hooks = session.event_hooks
    hooks["request"].append(before)
    hooks["response"].append(after)
    try:
        yield
    finally:
        hooks["request"].remove(before)
        hooks["response"].remove(after)
