"""What a body was before its content coding (RFC 9110 section 8.4): gzip, deflate, br and zstd, alone or in a row.

The same rules as in the engine in Rust: nothing becomes longer than a limit on the way, no more than three codings are
undone, and what is not exactly one whole stream is refused. Pure: bytes in, bytes out.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

MOST_CODINGS = 3
_PIECE = 128 * 1024
_ZSTD_WINDOW_LOG = 24
"""The largest window that is given to zstd: 16 MiB, as much as is decoded; RFC 9659 asks for half of it."""


class BadEncoding(ValueError):
    """The body cannot be brought back: its coding is unknown or broken, or what it stands for is too large."""


def undo(headers: Sequence[tuple[str, str]], body: bytes, most: int) -> bytes:
    """The body without the codings that the headers name; longer than `most` on the way, or broken: BadEncoding."""
    codings = [
        word.strip().lower()
        for name, value in headers
        if name.lower() == "content-encoding"
        for word in value.split(",")
        if word.strip().lower() not in ("", "identity")
    ]
    if not body or not codings:
        return body
    if len(codings) > MOST_CODINGS or any(coding not in _UNDOING for coding in codings):
        raise BadEncoding(", ".join(codings))
    for coding in reversed(codings):
        try:
            body = _UNDOING[coding](body, most)
        except BadEncoding:
            raise
        except Exception as error:  # each library has an exception of its own for broken data
            raise BadEncoding(str(error)) from error
    return body


def _gzip(body: bytes, most: int) -> bytes:
    made = b""
    while body:
        member, body = _inflated(body, 31, most - len(made))
        made += member
    return made


def _deflate(body: bytes, most: int) -> bytes:
    """With the wrapping of zlib, as it should be, or without it, as some servers send it."""
    wrapped = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    made, rest = _inflated(body, 15 if wrapped else -15, most)
    if rest:
        raise BadEncoding("something follows the body")
    return made


def _inflated(body: bytes, window: int, most: int) -> tuple[bytes, bytes]:
    state = zlib.decompressobj(window)
    made = state.decompress(body, most + 1)
    if len(made) > most or not state.eof:
        raise BadEncoding("cut, or too large")
    return made, state.unused_data


def _brotli(body: bytes, most: int) -> bytes:
    import brotli

    state = brotli.Decompressor()
    made = state.process(body, output_buffer_limit=_PIECE)
    parts, size = [made], len(made)
    while not state.is_finished():
        made = state.process(b"", output_buffer_limit=_PIECE)
        size += len(made)
        if not made and not state.is_finished():
            raise BadEncoding("cut")
        if size > most:
            raise BadEncoding("too large")
        parts.append(made)
    return b"".join(parts)


def _zstd(body: bytes, most: int) -> bytes:
    zstd = _zstd_module()
    made = b""
    while body:
        if body[1:4] == b"\x2a\x4d\x18" and body[0] >> 4 == 5:
            length = int.from_bytes(body[4:8], "little")
            if len(body) < 8 + length:
                raise BadEncoding("cut")
            body = body[8 + length :]
            continue
        options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        state = zstd.ZstdDecompressor(options=options)
        made += state.decompress(body, most - len(made) + 1)
        if len(made) > most or not state.eof:
            raise BadEncoding("cut, or too large")
        body = state.unused_data
    return made


def _zstd_module() -> Any:
    """Python's own from 3.14 on, its backport before."""
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd


_UNDOING: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
