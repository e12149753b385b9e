"""A server that answers by the path, byte for byte, for comparing HTTP clients: `python server.py` prints its port.

Plain threads and sockets: what it sends is what is written here, misbehaviour included.
"""

import base64
import gzip
import json
import socket
import struct
import sys
import threading
import time
import zlib
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import brotli

Headers = list[tuple[str, str]]


def answer(status: str, headers: Headers, body: bytes = b"", length: bool = True) -> bytes:
    """An answer with its length."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


JSON: Headers = [("Content-Type", "application/json")]
TEXT: Headers = [("Content-Type", "text/plain; charset=utf-8")]


def reply(method: str, target: str, headers: Headers, body: bytes, said: dict[str, int]) -> bytes | None:
    """The bytes of the answer; None where the connection is to be closed without one."""
    parts = urlsplit(target)
    asked = dict(parse_qsl(parts.query))
    words = parts.path.strip("/").split("/")
    head = {name.lower(): value for name, value in headers}
    match words:
        case ["echo", *_]:
            told = {"method": method, "target": target, "headers": headers, "body": body.decode("latin-1")}
            return answer("200 OK", JSON, json.dumps(told).encode())
        case ["status", code]:
            return answer(
                f"{code} Word",
                TEXT,
                b"" if code in ("204", "304") else b"body " + code.encode(),
                code not in ("204", "304"),
            )
        case ["redirect", code]:
            return answer(f"{code} Moved", [("Location", asked.get("to", ""))], b"over there")
        case ["chain", "0"]:
            return answer("200 OK", TEXT, b"the end")
        case ["chain", left]:
            return answer(
                "302 Found", [("Location", f"/chain/{int(left) - 1}"), ("Set-Cookie", f"hop{left}=1; Path=/")]
            )
        case ["loop"]:
            return answer("302 Found", [("Location", "/loop")])
        case ["cookie", name, value]:
            more = "".join(f"; {key}={word}" for key, word in asked.items()) or "; Path=/"
            return answer("200 OK", [*TEXT, ("Set-Cookie", f"{name}={value}{more}")], b"set")
        case ["cookies"]:
            return answer("200 OK", [*TEXT, ("Set-Cookie", "one=1; Path=/"), ("Set-Cookie", "two=2; Path=/")], b"set")
        case ["gzip"]:
            return answer(
                "200 OK",
                [*JSON, ("Content-Encoding", "gzip")],
                gzip.compress(b'{"a": "gzipped gzipped gzipped"}', mtime=0),
            )
        case ["deflate"]:
            return answer("200 OK", [*TEXT, ("Content-Encoding", "deflate")], zlib.compress(b"deflated"))
        case ["rawdeflate"]:
            raw = zlib.compressobj(wbits=-15)
            return answer("200 OK", [*TEXT, ("Content-Encoding", "deflate")], raw.compress(b"deflated") + raw.flush())
        case ["br"]:
            return answer("200 OK", [*TEXT, ("Content-Encoding", "br")], brotli.compress(b"brotli brotli"))
        case ["badgzip"]:
            return answer("200 OK", [*TEXT, ("Content-Encoding", "gzip")], b"this is not gzip")
        case ["unknownencoding"]:
            return answer("200 OK", [*TEXT, ("Content-Encoding", "x-strange")], b"as it is")
        case ["chunked"]:
            return answer(
                "200 OK", [*TEXT, ("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", False
            )
        case ["toend"]:
            said["close"] = 1
            return answer("200 OK", TEXT, b"until the end", False)
        case ["old"]:
            said["close"] = 1
            return b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold"
        case ["close"]:
            said["close"] = 1
            return answer("200 OK", [*TEXT, ("Connection", "close")], b"closing")
        case ["thenclose"]:
            said["close"] = 1
            return answer("200 OK", TEXT, b"closing unsaid")
        case ["slow", seconds]:
            time.sleep(float(seconds))
            return answer("200 OK", TEXT, b"at last")
        case ["slowredirect", seconds]:
            time.sleep(float(seconds))
            return answer("302 Found", [("Location", f"/slow/{seconds}")])
        case ["hangup"]:
            return None
        case ["hanguponce"]:
            said["hung"] = said.get("hung", 0) + 1
            return None
        case ["reset"]:
            said["reset"] = 1
            return None
        case ["short"]:
            said["close"] = 1
            return answer("200 OK", [*TEXT, ("Content-Length", "20")], b"short", False)
        case ["badchunk"]:
            said["close"] = 1
            return answer("200 OK", [*TEXT, ("Transfer-Encoding", "chunked")], b"zz\r\nhello\r\n", False)
        case ["garbage"]:
            said["close"] = 1
            return b"this is not HTTP at all\r\n\r\n"
        case ["halfhead"]:
            said["close"] = 1
            return b"HTTP/1.1 200 OK\r\nContent-Ty"
        case ["big", size]:
            return answer("200 OK", TEXT, b"x" * int(size))
        case ["latin"]:
            return answer("200 OK", [("Content-Type", "text/html; charset=ISO-8859-1")], "blåbär".encode("latin-1"))
        case ["utf8"]:
            return answer("200 OK", [("Content-Type", "text/html; charset=utf-8")], "blåbär €".encode())
        case ["nocharset"]:
            return answer("200 OK", [("Content-Type", "text/html")], "blåbär €".encode())
        case ["notype"]:
            return answer("200 OK", [], "blåbär € ".encode() * 20)
        case ["binary"]:
            return answer("200 OK", [("Content-Type", "application/octet-stream")], bytes(range(256)))
        case ["complextype"]:
            return answer(
                "200 OK", [("Content-Type", 'application/json; charset="utf-8"; version=1')], '{"å": 1}'.encode()
            )
        case ["json"]:
            return answer("200 OK", JSON, b'{"items": [1, 2], "name": "x"}')
        case ["badjson"]:
            return answer("200 OK", JSON, b'{"items": ')
        case ["lines"]:
            return answer("200 OK", TEXT, b"one\ntwo\nthree")
        case ["twice"]:
            return answer("200 OK", [*TEXT, ("X-Twice", "a"), ("X-Twice", "b"), ("X-Empty", "")], b"twice")
        case ["oddheaders"]:
            return answer("200 OK", [*TEXT, ("X-Latin", "blåbär"), ("x-LOWER", "kept as it is")], b"odd")
        case ["noreason"]:
            return answer("200 ", TEXT, b"no reason")
        case ["interim"]:
            return b"HTTP/1.1 100 Continue\r\n\r\n" + answer("200 OK", TEXT, b"after")
        case ["timing"]:
            return answer("200 OK", [*TEXT, ("Server-Timing", "db;dur=5")], b"timed")
        case ["private"]:
            right = "Basic " + base64.b64encode(b"user:pa:ss").decode()
            if head.get("authorization") == right:
                return answer("200 OK", TEXT, b"let in")
            return answer("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="x"')], b"who are you")
        case ["digest"]:
            if head.get("authorization", "").startswith("Digest "):
                return answer("200 OK", TEXT, b"digested")
            challenge = 'Digest realm="x", nonce="abc", qop="auth", algorithm=MD5'
            return answer("401 Unauthorized", [("WWW-Authenticate", challenge)], b"who are you")
        case ["headlength"]:
            return answer(
                "200 OK", [*TEXT, ("Content-Length", "1234")], b"" if method == "HEAD" else b"x" * 1234, False
            )
        case _:
            return answer("404 Not Found", TEXT, f"nothing at {unquote(parts.path)}".encode())


def read_request(file: Any) -> tuple[str, str, Headers, bytes] | None:
    """One request; None at the end of the connection."""
    first = file.readline().decode("latin-1").strip()
    if not first:
        return None
    method, target, _ = first.split(" ", 2)
    headers = []
    while line := file.readline().decode("latin-1").strip():
        name, _, value = line.partition(": ")
        headers.append((name, value))
    low = {name.lower(): value for name, value in headers}
    if low.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        file.readline()
    else:
        body = file.read(int(low.get("content-length", 0)))
    return method, target, headers, body


def serve(connection: socket.socket) -> None:
    """Answers until the connection ends."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    file = connection.makefile("rb")
    try:
        while (request := read_request(file)) is not None:
            said: dict[str, int] = {}
            data = reply(*request, said)
            if data is None:
                if "reset" in said:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            if request[0] == "HEAD":
                data = data[: data.index(b"\r\n\r\n") + 4]
            connection.sendall(data)
            if "close" in said:
                return
    except (OSError, ValueError):
        pass
    finally:
        file.close()
        connection.close()


def main() -> None:
    """Prints the port, and serves until stdin ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), sys.exit()), daemon=True)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
