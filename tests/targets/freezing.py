"""A server that answers at once, and freezes for one second in every five: it reads and writes nothing meanwhile.

Run as `python freezing.py LOG`. Prints its port, serves until its standard input ends, and appends one line per freeze
to LOG: begin and end in ns of CLOCK_MONOTONIC. At its end it writes LOG.answers: the path of each request, and when its
answer was handed to the system.
"""

import asyncio
import contextlib
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n" + b'{"status":"ok"}'
PERIOD_S, FREEZE_S = 5.0, 1.0


answered: list[tuple[bytes, int]] = []


class Frozen(asyncio.Protocol):
    """One connection. Requests have no body, so an empty line ends each."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the way back."""
        self.transport = transport
        self.pending = b""

    def data_received(self, data: bytes) -> None:
        """Answers every whole request."""
        self.pending += data
        *heads, self.pending = self.pending.split(b"\r\n\r\n")
        if heads:
            self.transport.write(ANSWER * len(heads))  # type: ignore[attr-defined]
            now = time.monotonic_ns()
            answered.extend((head.split(b" ", 2)[1], now) for head in heads)


async def freeze_now_and_then(log: str) -> None:
    """Blocks the whole loop, which is what a stop-the-world pause does."""
    begin = time.monotonic()
    turn = 0
    with open(log, "w", buffering=1) as file:
        while True:
            turn += 1
            await asyncio.sleep(max(begin + turn * PERIOD_S - FREEZE_S - time.monotonic(), 0))
            frozen = time.monotonic_ns()
            time.sleep(FREEZE_S)
            file.write(f"{frozen} {time.monotonic_ns()}\n")


async def main(log: str) -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Frozen, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, lambda: ended.set() if not sys.stdin.buffer.read1(1024) else None)
    freezing = asyncio.create_task(freeze_now_and_then(log))
    await ended.wait()
    freezing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await freezing
    with open(f"{log}.answers", "wb") as file:
        file.writelines(b"%s %d\n" % one for one in answered)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
