"""Small real servers whose limit is known by construction, for the campaigns.

    python -m scripts.campaigns.small_servers pool --places 4 --mean-ms 20     exponential times, --fixed: equal ones
    python -m scripts.campaigns.small_servers cpu --mean-ms 4                   so much CPU time of one thread each
    python -m scripts.campaigns.small_servers limiter --per-s 200               429 for what finds no token
    python -m scripts.campaigns.small_servers fast                              answers at once

The first line printed is the port. HTTP/1.1 with keep-alive on 127.0.0.1. A pool's times are worked out when a request
comes and kept by the clock: an answer that leaves late makes no later one late, so its capacity is places over mean.
"""

import argparse
import asyncio
import heapq
import random
import time
from collections.abc import Callable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
REFUSED = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"

Answerer = Callable[[Callable[[bytes], None]], None]
"""Called for each request with what sends its answer, now or later."""


def pool(places: int, mean_s: float, fixed: bool, seed: int) -> Answerer:
    """First come first served, with so many places."""
    dice = random.Random(seed)
    free = [0.0] * places

    def answer(send: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        work = mean_s if fixed else dice.expovariate(1.0 / mean_s)
        end = max(heapq.heappop(free), loop.time()) + work
        heapq.heappush(free, end)
        loop.call_at(end, send, OK)

    return answer


def cpu(mean_s: float) -> Answerer:
    """Each request takes so much CPU time of the one thread."""

    def answer(send: Callable[[bytes], None]) -> None:
        until = time.thread_time() + mean_s
        while time.thread_time() < until:
            pass
        send(OK)

    return answer


def limiter(per_s: float, burst: float, service_s: float) -> Answerer:
    """A token bucket."""
    tokens, last = burst, 0.0

    def answer(send: Callable[[bytes], None]) -> None:
        nonlocal tokens, last
        loop = asyncio.get_running_loop()
        now = loop.time()
        tokens, last = min(tokens + (now - last) * per_s, burst), now
        if tokens < 1.0:
            send(REFUSED)
        else:
            tokens -= 1.0
            loop.call_later(service_s, send, OK)

    return answer


def fast() -> Answerer:
    """At once."""
    return lambda send: send(OK)


class Connection(asyncio.Protocol):
    """One connection: requests without a body, one after the other."""

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer
        self._held = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps what answers are written to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers each request whose head is complete."""
        self._held += data
        while b"\r\n\r\n" in self._held:
            _, self._held = self._held.split(b"\r\n\r\n", 1)
            self._answer(self._send)

    def _send(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


async def serve(answer: Answerer) -> None:
    """Until it is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answer), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """The server that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["pool", "cpu", "limiter", "fast"])
    parser.add_argument("--places", type=int, default=4)
    parser.add_argument("--mean-ms", type=float, default=20.0)
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--per-s", type=float, default=200.0)
    parser.add_argument("--burst", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    made = {
        "pool": lambda: pool(given.places, given.mean_ms / 1000.0, given.fixed, given.seed),
        "cpu": lambda: cpu(given.mean_ms / 1000.0),
        "limiter": lambda: limiter(given.per_s, given.burst, 0.005),
        "fast": fast,
    }[given.kind]()
    asyncio.run(serve(made))


if __name__ == "__main__":
    main()
