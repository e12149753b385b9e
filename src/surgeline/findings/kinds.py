"""The kinds of what went wrong with a request, as rows and pages name them: what happened, by whom, and what to do.

An answer with a wrong status is `status 503`, one that a check found wrong `check …`; everything else has one of these
words. A test holds the list against the engine's own.
"""

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind: its outcome, what happened, who did it (server, network, generator, plan), and what to do."""

    outcome: str
    what: str
    whose: str
    advice: str


_LISTEN = "See that the server listens there, and that nothing between closes the way."
_QUEUE = "Look at the server's accept queue, and at firewalls that drop silently."
_PROTOCOL = "Send this request by hand and look at the bytes; a proxy in between may have changed them."
_RESTART = "Look at the server's log at that moment: a crash, a restart, a limit of connections."
_IDLE = "Let the server keep idle connections longer than users think, or lower `keep_alive`."
_SLOW = "Look at what the server waited for then; raise `timeout` only where users would wait as long."
_OURS = "Use more machines or workers, more descriptors (`ulimit -n`), or a lower load."
_HTTP2 = "Look at the server's or proxy's HTTP/2; with `http: \"1.1\"` it can be gone round."

KINDS: dict[str, Kind] = {
    "dns": Kind(
        "error", "the name could not be looked up", "network",
        "Look at the resolver. Plans look names up once before the run, which does not begin without.",
    ),
    "connect_refused": Kind("error", "nothing listens there, or the way is closed", "server", _LISTEN),
    "connect_timeout": Kind("timeout", "no connection, or no TLS session, in time", "server", _QUEUE),
    "connect_reset": Kind("error", "the connection was reset while it came about", "server", _RESTART),
    "client_ports": Kind("not_sent", "the generator has no local port left for this target", "generator", _OURS),
    "client_fds": Kind("not_sent", "the generator has no descriptor left", "generator", _OURS),
    "in_flight_limit": Kind(
        "not_sent", "due while as many requests were in flight as are allowed", "server",
        "Answers come more slowly than requests are due; raise `--max-in-flight` only to see how far it goes.",
    ),
    "proxy_refused": Kind("error", "the proxy did not open the way to the target", "network", "Look at its rules."),
    "tls_handshake": Kind(
        "error", "the TLS handshake broke off", "server", "Compare versions; the server may want a certificate."
    ),
    "tls_certificate": Kind(
        "error", "the certificate is not trusted", "server", "Name its CA under `tls`, or take it as it is with -k."
    ),
    "write_failed": Kind("error", "the request could not be written to a new connection", "server", _RESTART),
    "stale_connection": Kind(
        "error", "a kept connection was gone before the first byte of the answer", "server", _IDLE
    ),
    "reset_before_headers": Kind(
        "error", "the connection was reset before the end of the answer's head, or closed before its first byte",
        "server", _RESTART,
    ),
    "short_head": Kind("error", "the connection was closed within the answer's head", "server", _RESTART),
    "reset_mid_body": Kind("error", "the connection was reset within the body", "server", _RESTART),
    "short_body": Kind("error", "the body ended before its announced length", "server", _RESTART),
    "header_timeout": Kind("timeout", "no whole head of an answer in time", "server", _SLOW),
    "body_timeout": Kind("timeout", "no whole body in time", "server", _SLOW),
    "total_timeout": Kind("timeout", "time ran out after a redirect", "server", _SLOW),
    "invalid_http": Kind("error", "what came is not HTTP/1", "server", _PROTOCOL),
    "surplus": Kind(
        "error", "on a kept connection, bytes that begin no answer: left over from the one before, or no HTTP",
        "server", "Compare Content-Length and body of the answer before (HEAD, 204, 304: none), or send this by hand.",
    ),
    "header_too_large": Kind(
        "error", "the answer's head is longer than 256 kB, or has more than 4,096 lines", "server", _PROTOCOL
    ),
    "body_too_large": Kind(
        "error", "the body is longer than `max_body` (64 MiB)", "plan", "Raise `max_body` where that is right."
    ),
    "body_not_kept": Kind(
        "error", "a check could not see the whole body, so whether the answer was right is not known", "plan",
        "Checks see 16 MiB of a body, of all at once 128 MiB; check `size` or a header, or ask fewer at once.",
    ),
    "bad_chunk": Kind("error", "the chunks of the body are broken, or end before the last", "server", _PROTOCOL),
    "bad_encoding": Kind(
        "failure", "the body's content coding is unknown, broken, or unpacks to more than 16 MiB", "server", _PROTOCOL
    ),
    "body_unread": Kind(
        "error", "a file that is sent could not be read to its end", "generator", "Leave the file alone during the run."
    ),
    "no_http2": Kind("error", "the server does not speak HTTP/2", "server", "Leave `http: \"2\"` out."),
    "http2_protocol": Kind("error", "frames that HTTP/2 does not allow, or not there", "server", _HTTP2),
    "http2_frame_size": Kind("error", "a frame of a size that HTTP/2 does not allow", "server", _HTTP2),
    "http2_compression": Kind("error", "fields that cannot be read (HPACK)", "server", _HTTP2),
    "http2_flow_control": Kind("error", "more bytes than there was room for", "server", _HTTP2),
    "http2_flood": Kind("error", "frames without end that no answer needs", "server", _HTTP2),
    "http2_goaway": Kind("error", "the server gave the connection up and left this request undone", "server", _RESTART),
    "http2_refused": Kind(
        "error", "the server refused the stream before it did anything", "server", "Lower `streams`."
    ),
    "http2_reset": Kind("error", "the server reset the stream", "server", _RESTART),
    "redirect_loop": Kind("failure", "more redirects than `redirects` allows", "server", "Follow them by hand."),
    "redirect_refused": Kind(
        "failure", "a redirect to another origin, or to none", "plan", "Give the other origin a plan of its own."
    ),
    "extract_missing": Kind(
        "failure", "a later step needs what this answer did not contain", "server",
        "Look at the example on the page: a changed answer, or a refused login.",
    ),
    "bad_upgrade": Kind("error", "the answer does not agree to speak WebSocket", "server", _PROTOCOL),
    "not_events": Kind("failure", "the answer is no stream of events", "server", "See that it is text/event-stream."),
    "bad_frame": Kind("error", "a frame that WebSocket does not allow", "server", _PROTOCOL),
    "bad_utf8": Kind("error", "a WebSocket's message of text that is not UTF-8", "server", _PROTOCOL),
    "message_too_large": Kind("error", "a message longer than 1 MiB", "server", "Ask for smaller messages."),
    "closed_early": Kind("error", "the server ended a conversation that was not over", "server", _RESTART),
    "message_timeout": Kind("timeout", "a message that was waited for has not come in time", "server", _SLOW),
    "close_timeout": Kind("timeout", "the closing of a WebSocket was not answered in time", "server", _SLOW),
    "engine_fault": Kind(
        "error", "a fault of the engine's own", "generator", "Please report it, with the run's `journal` directory."
    ),
}  # fmt: skip
"""Every word, in the order in which a request goes wrong. `dns` comes from Locust's clients only."""
