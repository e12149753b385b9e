"""The cases of the differential suite: `python -m tests.locust_client CLIENT PORT` prints what each one shows.

CLIENT is one of stock-http, native-http, stock-fast, native-fast. Each case gets a new user and does something with its
client; shown are what it returned, the answers it looked at, every field of every event, and Locust's statistics.
"""

# ruff: noqa: D103
import io
import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import locust.clients
import locust.exception
from locust import HttpUser, constant
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment

Case = Callable[[Any], Any]
CASES: dict[str, tuple[str, Case]] = {}


def case(clients: str, name: str, call: Case) -> None:
    """Adds a case for `http`, `fast` or `both` clients."""
    assert name not in CASES, name
    CASES[name] = (clients, call)


def case_of(clients: str) -> Callable[[Case], Case]:
    """The same for a function, by its name."""

    def add(function: Case) -> Case:
        case(clients, function.__name__, function)
        return function

    return add


def look(response: Any) -> dict[str, Any]:
    """Everything that can be asked of an answer."""
    told: dict[str, Any] = {}
    questions: dict[str, Callable[[], Any]] = {
        "status_code": lambda: response.status_code,
        "ok": lambda: response.ok,
        "content": lambda: response.content,
        "text": lambda: response.text,
        "encoding": lambda: response.encoding,
        "headers": lambda: sorted(response.headers.items()),
        "url": lambda: response.url,
        "reason": lambda: response.reason,
        "history": lambda: [(hop.status_code, hop.url, sorted(hop.headers.items())) for hop in response.history],
        "cookies": lambda: sorted((c.name, c.value, c.path) for c in response.cookies),
        "elapsed": lambda: type(response.elapsed).__name__,
        "json": lambda: response.json(),
        "raise_for_status": lambda: response.raise_for_status(),
        "request.method": lambda: response.request.method,
        "request.url": lambda: response.request.url,
        "request.headers": lambda: sorted(response.request.headers.items()),
        "request.body": lambda: response.request.body,
        "error": lambda: response.error,
        "is_redirect": lambda: response.is_redirect,
        "links": lambda: response.links,
        "apparent_encoding": lambda: response.apparent_encoding,
        "raw.status": lambda: response.raw.status,
        "status_message": lambda: response._response.status_message,
        "bool": lambda: bool(response),
    }
    for name, question in questions.items():
        try:
            told[name] = question()
        except Exception as error:
            told[name] = error
    return told


def show(value: Any) -> Any:
    """A value in a form that can be compared: exceptions by type and text."""
    if isinstance(value, BaseException):
        return {
            "exception": type(value).__name__,
            "text": str(value),
            "bases": [c.__name__ for c in type(value).__mro__],
        }
    if isinstance(value, bytes):
        return "bytes:" + value.decode("latin-1")
    if isinstance(value, dict):
        return {str(key): show(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [show(part) for part in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return f"<{type(value).__name__}>"


def request(clients: str, label: str, method: str, url: str, /, **kwargs: Any) -> None:
    """A case that is one request, looked at closely; sent twice, because what is sent again takes a shorter way."""

    def call(user: Any) -> Any:
        return [look(user.client.request(method, placed(url, user), **kwargs)) for _ in range(2)]

    case(clients, label, call)


def placed(url: str, user: Any) -> str:
    """A URL with the server's port in it."""
    return url.replace("@PORT@", str(user.host).rpartition(":")[2])


# --- verbs, bodies, headers
for verb in ("get", "options", "delete", "head", "patch", "put", "post"):
    case("both", f"verb {verb}", lambda user, verb=verb: [look(getattr(user.client, verb)("/echo")) for _ in "ab"])
    case("both", f"verb {verb} unknown path", lambda user, verb=verb: look(getattr(user.client, verb)("/nowhere")))
request("both", "method in lower case", "get", "/echo")
request("both", "query", "GET", "/echo?a=1&b=2")
request("both", "query to be quoted", "GET", "/echo?a=ü b&c=%zz%7E")
request("both", "path to be quoted", "GET", "/echo/ü b")
request("both", "dots in the path", "GET", "/echo/../echo/./x")
request("both", "fragment", "GET", "/echo#there")
request("both", "params", "GET", "/echo", params={"a": "1 2", "b": ["x", "y"]})
request("both", "params beside a query", "GET", "/echo?z=0", params={"a": 1})
request("both", "data as text", "POST", "/echo", data="some text")
request("both", "data as unicode text", "POST", "/echo", data="blåbär")
request("both", "data as bytes", "POST", "/echo", data=b"\x00\x01bytes")
request("both", "data as a form", "POST", "/echo", data={"a": "1 2", "b": "ü"})
request("both", "data empty", "POST", "/echo", data="")
request("both", "data in GET", "GET", "/echo", data="text")
request("both", "data and content type", "POST", "/echo", data='{"a":1}', headers={"Content-Type": "application/json"})
request("both", "json", "POST", "/echo", json={"a": [1, None, "ü"]})
request("both", "json empty", "POST", "/echo", json={})
request("both", "json null", "POST", "/echo", json=None)
request("both", "json beside data", "POST", "/echo", json={"a": 1}, data="b")
request("both", "json and headers", "POST", "/echo", json={"a": 1}, headers={"content-type": "x/y", "accept": "z"})
request("both", "json PUT", "PUT", "/echo", json=[1, 2])
request("both", "headers", "GET", "/echo", headers={"X-A": "1", "user-agent": "mine"})
request("both", "header host", "GET", "/echo", headers={"Host": "other.example"})
request("both", "header accept-encoding", "GET", "/echo", headers={"Accept-Encoding": "identity"})
request("both", "header cookie", "GET", "/echo", headers={"Cookie": "a=1"})
request("both", "header content-length", "POST", "/echo", data="abc", headers={"Content-Length": "3"})
request("both", "header broken", "GET", "/echo", headers={"X-A": "1\r\nX-B: 2"})
request("http", "header None", "GET", "/echo", headers={"User-Agent": None})
request("http", "header bytes", "GET", "/echo", headers={"X-A": b"1"})
request("both", "auth", "GET", "/private", auth=("user", "pa:ss"))
request("both", "auth wrong", "GET", "/private", auth=("user", "no"))
request("both", "absolute url", "GET", "http://127.0.0.1:@PORT@/echo")
request("http", "cookies given", "GET", "/echo", cookies={"a": "1"})
request("http", "data as list", "POST", "/echo", data=[("a", "1"), ("a", "2")])
request("http", "data as a file", "POST", "/echo", data=io.BytesIO(b"from a file"))
request("http", "json not serialisable as JSON", "POST", "/echo", json=float("nan"))


@case_of("both")
def upload(user: Any) -> Any:
    response = user.client.post("/echo", files={"file": ("a.txt", b"content", "text/plain")})
    body = re.sub(r"[0-9a-f]{32}", "BOUNDARY", response.json()["body"])
    return [response.status_code, body]


@case_of("both")
def positional_arguments(user: Any) -> Any:
    return [
        look(user.client.post("/echo", "text")),
        look(user.client.put("/echo", "text")),
        look(user.client.patch("/echo", "t")),
    ]


@case_of("both")
def headers_of_the_session(user: Any) -> Any:
    holder = user.client.headers if hasattr(user.client, "headers") else user.client.client.default_headers
    first = look(user.client.get("/echo"))
    holder["X-Session"] = "1"
    second = look(user.client.get("/echo"))
    holder["X-Session"] = "2"
    return [first, second, look(user.client.get("/echo")), look(user.client.post("/echo", json={"a": 1}))]


# --- answers
ANSWERS = """
    gzip deflate rawdeflate br badgzip unknownencoding chunked toend old close latin utf8 nocharset notype binary
    complextype json badjson lines twice oddheaders noreason interim timing status/204 status/304 status/400
    status/401 status/404 status/500 status/503 status/299 status/226 big/100000 big/3000000 headlength
    redirect/302?to=/json
"""
for path in ANSWERS.split():
    request("both", f"answer {path}", "GET", f"/{path}")
request("both", "answer headlength HEAD", "HEAD", "/headlength")
request("both", "answer 404 HEAD", "HEAD", "/nowhere")
request("both", "answer status POST 201", "POST", "/status/201", data="x")

# --- redirects
for code in (301, 302, 303, 307, 308):
    request("both", f"redirect {code} GET", "GET", f"/redirect/{code}?to=/echo")
    request("both", f"redirect {code} POST", "POST", f"/redirect/{code}?to=/echo", data="text")
request("both", "redirect chain", "GET", "/chain/3")
request("both", "redirect chain named", "GET", "/chain/3", name="chain")
request("both", "redirect loop", "GET", "/loop")
request("both", "redirect not followed", "GET", "/chain/3", allow_redirects=False)
request("both", "redirect HEAD", "HEAD", "/chain/2")
request("both", "redirect to another scheme", "GET", "/redirect/302?to=ftp://127.0.0.1/x")
request("both", "redirect to an absolute url", "GET", "/redirect/302?to=http://127.0.0.1:@PORT@/json")
request("both", "redirect to a failure", "GET", "/redirect/302?to=/status/500")
request("both", "redirect with authorization", "GET", "/redirect/302?to=/private", auth=("user", "pa:ss"))
case("http", "redirect by head method", lambda user: look(user.client.head("/chain/2", allow_redirects=True)))


@case_of("both")
def redirect_time_is_that_of_the_chain(user: Any) -> Any:
    user.client.get("/slowredirect/0.15")
    return user.seen[-1]["response_time"] >= 300.0


# --- names, context, groups
request("both", "name", "GET", "/echo?id=1", name="echo by id")
request("both", "context", "GET", "/echo", context={"a": 1})
case(
    "both",
    "request_name",
    lambda user: (setattr(user.client, "request_name", "group"), look(user.client.get("/json")))[1],
)


@case_of("both")
def rename_request(user: Any) -> Any:
    with user.client.rename_request("renamed"):
        user.client.get("/json")
        user.client.get("/json", name="own")
    user.client.get("/json")


# --- state
@case_of("both")
def cookies_are_kept(user: Any) -> Any:
    return [
        look(user.client.get(path))
        for path in (
            "/cookie/a/1",
            "/echo",
            "/cookie/a/2",
            "/cookies",
            "/echo/x",
            "/cookie/b/3?Path=/json",
            "/echo",
            "/json",
        )
    ]


@case_of("both")
def cookies_expire(user: Any) -> Any:
    return [look(user.client.get(path)) for path in ("/cookie/a/1", "/echo", "/cookie/a/1?Path=/&Max-Age=0", "/echo")]


@case_of("both")
def cookies_of_redirects(user: Any) -> Any:
    return [look(user.client.get(path)) for path in ("/chain/2", "/echo")]


@case_of("both")
def cookies_secure(user: Any) -> Any:
    return [look(user.client.get(path)) for path in ("/cookie/a/1?Path=/&Secure=1", "/echo")]


@case_of("both")
def cookies_by_hand(user: Any) -> Any:
    jar = getattr(user.client, "cookies", None)
    user.client.get("/cookie/a/1")
    (jar if jar is not None else user.client.cookiejar).clear()
    return look(user.client.get("/echo"))


@case_of("http")
def cookies_set_in_the_session(user: Any) -> Any:
    user.client.cookies.set("x", "y")
    return [look(user.client.get("/echo")), dict(user.client.cookies), user.client.cookies.get("x")]


@case_of("both")
def users_do_not_share_cookies(user: Any) -> Any:
    other = type(user)(user.environment)
    user.client.get("/cookie/a/1")
    return look(other.client.get("/echo"))


@case_of("both")
def credentials_in_the_host(user: Any) -> Any:
    kind = type("Private", (type(user),), {"host": user.host.replace("http://", "http://user:pa%3Ass@")})
    private = kind(user.environment)
    return [private.client.base_url, look(private.client.get("/private")), look(private.client.get("/echo"))]


@case_of("both")
def host_with_a_path(user: Any) -> Any:
    kind = type("Deep", (type(user),), {"host": user.host + "/echo"})
    return look(kind(user.environment).client.get("/deeper"))


@case_of("both")
def host_with_a_slash(user: Any) -> Any:
    kind = type("Slash", (type(user),), {"host": user.host + "/"})
    return look(kind(user.environment).client.get("/echo"))


@case_of("both")
def host_missing(user: Any) -> Any:
    return type("Nowhere", (type(user),), {"host": None})(user.environment)


@case_of("both")
def host_by_name(user: Any) -> Any:
    kind = type("Named", (type(user),), {"host": user.host.replace("127.0.0.1", "localhost")})
    return look(kind(user.environment).client.get("/echo"))


@case_of("both")
def context_of_the_user(user: Any) -> Any:
    kind = type("Told", (type(user),), {"context": lambda self: {"u": 1, "a": 0}})
    kind(user.environment).client.get("/json", context={"a": 1})


@case_of("both")
def closed_connections(user: Any) -> Any:
    answers = []
    for path in ("/thenclose", "/json", "/close", "/json"):
        answers.append(look(user.client.get(path)))
        time.sleep(0.05)
    return answers


# --- catch_response
def caught(label: str, path: str, inside: Callable[[Any], Any], /, **kwargs: Any) -> None:
    """A case of a with block."""

    def call(user: Any) -> Any:
        if path.startswith("/"):
            user.client.get(path)
        with user.client.get(path, catch_response=True, **kwargs) as response:
            told = inside(response)
        return [show(told), look(response)]

    case("both", f"with: {label}", call)


def raising(error: BaseException) -> Callable[[Any], Any]:
    def call(response: Any) -> Any:
        raise error

    return call


def both(response: Any) -> Any:
    response.failure("no")
    response.success()


caught("nothing said, good", "/json", lambda r: None)
caught("nothing said, bad", "/status/500", lambda r: None)
caught("success on bad", "/status/404", lambda r: r.success())
caught("failure on good", "/json", lambda r: r.failure("wrong"))
caught("failure with an exception", "/json", lambda r: r.failure(ValueError("own")))
caught("failure with a number", "/json", lambda r: r.failure(12))
caught("failure, then success", "/json", both)
caught("success, then failure", "/json", lambda r: (r.success(), r.failure("after all"))[1])
caught("ResponseError", "/json", raising(locust.exception.ResponseError("mine")))
caught("CatchResponseError", "/json", raising(locust.exception.CatchResponseError("mine")))
caught("another exception", "/json", raising(KeyError("bug")))
caught("another exception after failure", "/json", lambda r: (r.failure("f"), raising(KeyError("bug"))(r)))
caught("InterruptTaskSet", "/json", raising(locust.exception.InterruptTaskSet()))
caught("RescheduleTask after success", "/json", lambda r: (r.success(), raising(locust.exception.RescheduleTask())(r)))
caught("raise_for_status", "/status/500", lambda r: r.raise_for_status())
caught("raise_for_status after failure", "/json", lambda r: (r.failure("f"), r.raise_for_status()))
caught("named", "/status/500", lambda r: None, name="named")
caught("redirect", "/chain/2", lambda r: r.success())
caught("refused, nothing said", "http://127.0.0.1:9/x", lambda r: r.status_code)
caught("refused, success", "http://127.0.0.1:9/x", lambda r: r.success())
caught("refused, failure", "http://127.0.0.1:9/x", lambda r: r.failure("f"))
caught("cookies", "/cookies", lambda r: r.success())
caught("gzip", "/gzip", lambda r: r.json())
caught("broken body", "/short", lambda r: None)
caught("url inside", "/json?a=1", lambda r: r.url, name="n")


@case_of("both")
def with_without_catch_response(user: Any) -> Any:
    with user.client.get("/json") as response:
        return response.status_code


@case_of("both")
def with_without_catch_response_marks(user: Any) -> Any:
    user.client.get("/json").success()


@case_of("both")
def failure_without_catch_response(user: Any) -> Any:
    user.client.get("/json").failure("x")


@case_of("both")
def catch_response_without_with(user: Any) -> Any:
    response = user.client.get("/json", catch_response=True)
    response.success()


@case_of("both")
def catch_response_forgotten(user: Any) -> Any:
    return look(user.client.get("/json", catch_response=True))


# --- streams
@case_of("both")
def stream(user: Any) -> Any:
    response = user.client.get("/lines", stream=True)
    return [response.status_code, b"".join(c.encode() if isinstance(c, str) else c for c in response.iter_content(4))]


@case_of("both")
def stream_caught(user: Any) -> Any:
    with user.client.get("/chunked", stream=True, catch_response=True) as response:
        response.success()
    return response.content


@case_of("http")
def stream_lines(user: Any) -> Any:
    return list(user.client.get("/lines", stream=True).iter_lines())


@case_of("http")
def lines_without_stream(user: Any) -> Any:
    response = user.client.get("/lines")
    return [list(response.iter_lines()), list(response.iter_content(5)), response.raw.read()]


@case_of("fast")
def iter_lines(user: Any) -> Any:
    return list(user.client.iter_lines("/lines"))


@case_of("fast")
def content_in_pieces(user: Any) -> Any:
    response = user.client.get("/lines", stream=True)
    return [response.stream.read(4), list(response.iter_content(3)), response.content]


@case_of("fast")
def stream_after_the_body_was_read(user: Any) -> Any:
    response = user.client.get("/lines")
    return [list(response.iter_content()), response.stream.read(), response.content]


@case_of("fast")
def geventhttpclient_surface(user: Any) -> Any:
    response = user.client.get("/twice")
    raw = response._response
    return [
        raw.version,
        raw.status_code,
        response.info()["x-twice"],
        len(response),
        response.status,
        response.isclosed(),
    ]


# --- rest
def rest(label: str, path: str, inside: Callable[[Any], Any], /, **kwargs: Any) -> None:
    """A case of `rest`."""

    def call(user: Any) -> Any:
        with user.rest("GET", path, **kwargs) as response:
            told = inside(response)
        return [show(told), response.js]

    case("both", f"rest: {label}", call)


def asserting(message: str | None) -> Callable[[Any], Any]:
    def call(response: Any) -> Any:
        raise AssertionError(message) if message else AssertionError

    return call


rest("good", "/json", lambda r: r.js["name"])
rest("not JSON", "/badjson", lambda r: None)
rest("assertion", "/json", asserting("wrong"))
rest("assertion with body", "/json", asserting("wrong,"))
rest("assertion without text", "/json", asserting(None))
rest("no answer", "/hangup", lambda r: r.js)
rest("failing status", "/status/500", lambda r: None)


@case_of("both")
def rest_post(user: Any) -> Any:
    with user.rest("POST", "/echo", json={"a": 1}, headers={"X-A": "1"}) as response:
        return response.js


@case_of("both")
def rest_with_a_bug(user: Any) -> Any:
    with user.rest("GET", "/json") as response:
        response.js["missing"]
    return re.sub(r"line \d+|\w*:\d+", "LINE", str(user.seen[-1]["exception"]))[:60]


@case_of("both")
def rest_underscore(user: Any) -> Any:
    with user.rest_("GET", "/json?x=1") as response:
        return response.js


# --- what goes wrong
request("both", "refused", "GET", "http://127.0.0.1:9/x")
request("both", "refused POST", "POST", "http://127.0.0.1:9/x", data="y")
request("both", "refused named", "GET", "http://127.0.0.1:9/x", name="n")
request("both", "unknown name", "GET", "http://name.invalid/x")
for path in ("hangup", "reset", "short", "badchunk", "garbage", "halfhead"):
    request("both", f"broken {path}", "GET", f"/{path}")
    request("both", f"broken {path} POST", "POST", f"/{path}", data="x")
request("http", "timeout", "GET", "/slow/1", timeout=0.1)
request("http", "timeout pair", "GET", "/slow/1", timeout=(1, 0.1))
request("http", "timeout long enough", "GET", "/slow/0.1", timeout=5)
for number, wrong in enumerate(("http://", "http:///x", "http://[::1/x", "htp://x", "http://127.0.0.1:port/")):
    request("http", f"wrong url {number}", "GET", wrong)


@case_of("fast")
def network_timeout(user: Any) -> Any:
    kind = type("Hasty", (type(user),), {"network_timeout": 0.1})
    hasty = kind(user.environment)
    return [look(hasty.client.get("/slow/1")), look(hasty.client.post("/slow/1", data="x"))]


@case_of("fast")
def max_redirects(user: Any) -> Any:
    answers = []
    for most in (0, 1, 2):
        kind = type("Short", (type(user),), {"max_redirects": most})
        answers.append(look(kind(user.environment).client.get("/chain/2")))
    return answers


@case_of("fast")
def max_retries(user: Any) -> Any:
    kind = type("Again", (type(user),), {"max_retries": 2, "network_timeout": 0.05})
    return look(kind(user.environment).client.get("/slow/0.3"))


@case_of("fast")
def default_headers(user: Any) -> Any:
    kind = type("Own", (type(user),), {"default_headers": {"X-Own": "1", "User-Agent": "own"}})
    own = kind(user.environment)
    return [look(own.client.get("/echo")), look(own.client.post("/echo", json=1, headers={"x-own": "2"}))]


@case_of("http")
def redirects_limited_by_the_session(user: Any) -> Any:
    user.client.max_redirects = 1
    return look(user.client.get("/chain/3"))


@case_of("http")
def hooks(user: Any) -> Any:
    seen: list[Any] = []
    user.client.get("/json", hooks={"response": lambda r, **kw: seen.append(r.status_code)})
    user.client.hooks["response"].append(lambda r, **kw: seen.append(r.url))
    user.client.get("/chain/1")
    return seen


@case_of("both")
def repeats(user: Any) -> Any:
    client = user.client
    told = [look(client.get("/echo?x=1")) for _ in range(3)]
    for _ in "ab":
        told += [look(client.get("/echo?x=1", name="named")), look(client.get(url="/echo?x=1"))]
        with client.rename_request("renamed"):
            client.get("/echo?x=1")
        with client.get("/echo?x=1", catch_response=True) as caught:
            caught.failure("marked")
        client.get("/echo?x=1", context={"a": 1})
        told.append(look(client.get("/chain/1", allow_redirects=False)))
        told.append(look(client.get("/status/404")))
    return told


@case_of("both")
def repeats_of_a_session_that_changes(user: Any) -> Any:
    client = user.client
    sent = client.headers if isinstance(user, HttpUser) else client.client.default_headers
    told = [look(client.get("/echo")) for _ in range(3)]
    sent["X-A"] = "1"
    told += [look(client.get("/echo")) for _ in range(2)]
    sent["X-A"] = "2"
    told += [look(client.get("/echo")) for _ in range(2)]
    client.base_url = f"{user.host}/echo"
    told += [look(client.get("/echo")) for _ in range(2)]
    client.base_url = user.host
    told += [look(client.get("/echo")) for _ in range(2)]
    seen: list[Any] = []
    stock = client.request

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        seen.append([args, kwargs])
        return stock(*args, **kwargs)

    client.request = wrapped
    told.append(look(client.get("/echo")))
    del client.request
    told.append(look(client.get("/echo")))
    return [told, seen]


@case_of("http")
def repeats_after_a_hook_was_added(user: Any) -> Any:
    seen: list[Any] = []
    told = [look(user.client.get("/json")) for _ in range(2)]
    user.client.hooks["response"].append(lambda r, **kw: seen.append(r.url))
    told += [look(user.client.get("/json")) for _ in range(2)]
    user.client.hooks["response"].clear()
    user.client.auth = ("user", "pa:ss")
    told += [look(user.client.get("/echo")) for _ in range(2)]
    user.client.auth = None
    user.client.params["key"] = "1"
    told += [look(user.client.get("/echo")) for _ in range(2)]
    return [told, seen]


@case_of("http")
def digest(user: Any) -> Any:
    from requests.auth import HTTPDigestAuth

    response = user.client.get("/digest", auth=HTTPDigestAuth("u", "p"))
    return [response.status_code, response.text, [hop.status_code for hop in response.history]]


@case_of("http")
def auth_of_the_session(user: Any) -> Any:
    user.client.auth = ("user", "pa:ss")
    first = look(user.client.get("/private"))
    user.client.auth = None
    return [first, look(user.client.get("/private"))]


@case_of("http")
def auth_function(user: Any) -> Any:
    def sign(prepared: Any) -> Any:
        prepared.headers["X-Signed"] = "yes"
        return prepared

    return look(user.client.get("/echo", auth=sign))


@case_of("http")
def params_of_the_session(user: Any) -> Any:
    user.client.params = {"key": "1"}
    return look(user.client.get("/echo"))


@case_of("http")
def proxy(user: Any) -> Any:
    response = user.client.get("http://somewhere.invalid/echo", proxies={"http": user.host})
    return [response.status_code, response.json()["target"]]


@case_of("fast")
def proxy_of_the_user(user: Any) -> Any:
    kind = type(
        "Behind",
        (type(user),),
        {
            "proxy_host": "127.0.0.1",
            "proxy_port": int(user.host.rpartition(":")[2]),
            "host": "http://somewhere.invalid",
        },
    )
    response = kind(user.environment).client.get("/echo")
    return [response.status_code, response.json()["target"]]


@case_of("both")
def listener_that_raises(user: Any) -> Any:
    calls = []

    def broken(**_: Any) -> None:
        calls.append(1)
        raise ValueError("in a listener")

    user.environment.events.request.add_listener(broken)
    try:
        return [user.client.get("/json").status_code, calls]
    finally:
        user.environment.events.request.remove_listener(broken)


@case_of("both")
def listener_that_stops_the_user(user: Any) -> Any:
    def stop(**_: Any) -> None:
        raise locust.exception.StopUser

    user.environment.events.request.add_listener(stop)
    try:
        return user.client.get("/json").status_code
    finally:
        user.environment.events.request.remove_listener(stop)


@case_of("both")
def statistics_without_other_listeners(user: Any) -> Any:
    handlers = user.environment.events.request._handlers
    kept = handlers.copy()
    entry = user.environment.stats.get("/json", "GET")
    del handlers[1:]
    try:
        counts = []
        for _ in range(3):
            user.client.get("/json")
            counts.append((entry.num_requests, user.environment.stats.total.num_requests))
        user.client.get("/status/500")
        total = user.environment.stats.total
        sums = sum(total.response_times.values()), sum(total.num_reqs_per_sec.values())
        return [counts, total.num_failures, total.total_content_length, sums, total.min_response_time > 0]
    finally:
        handlers[:] = kept


@case_of("both")
def reading_a_finished_answer_again(user: Any) -> Any:
    response = user.client.get("/json")
    return [response.text, response.text, response.content, response.json(), response.content]


@case_of("http")
def answers_can_be_pickled(user: Any) -> Any:
    import pickle

    response = user.client.get("/json")
    state = response.__getstate__()
    pickle.dumps({name: value for name, value in state.items() if name != "request"})
    return sorted(state)


@case_of("both")
def instance_checks(user: Any) -> Any:
    import requests
    from locust.contrib.fasthttp import FastHttpSession, FastResponse

    response = user.client.get("/json")
    return [
        isinstance(response, requests.Response),
        isinstance(response, FastResponse),
        isinstance(user.client, locust.clients.HttpSession),
        isinstance(user.client, FastHttpSession),
        isinstance(user, HttpUser),
        isinstance(user, FastHttpUser),
    ]


def client_class(name: str) -> type:
    """The class of users to compare."""
    if name.startswith("native"):
        import surgeline.locust as ours

        return ours.HttpUser if name.endswith("http") else ours.FastHttpUser
    return HttpUser if name.endswith("http") else FastHttpUser


def run(name: str, port: int) -> dict[str, Any]:
    """What each case shows."""
    base = client_class(name)
    told = {}
    for label, (clients, call) in CASES.items():
        if clients not in ("both", name.rpartition("-")[2]):
            continue
        environment = Environment()
        seen: list[dict[str, Any]] = []
        environment.create_local_runner()
        environment.events.request.add_listener(lambda seen=seen, **meta: seen.append(meta))
        kind: Any = type(
            "User", (base,), {"host": f"http://127.0.0.1:{port}", "abstract": True, "wait_time": constant(0)}
        )
        user = kind(environment)
        user.seen = seen
        shown: dict[str, Any] = {}
        try:
            shown["returned"] = show(call(user))
        except BaseException as error:
            shown["raised"] = show(error)
        shown["events"] = [event(meta) for meta in seen]
        total = environment.stats.total
        shown["statistics"] = {
            "total": [total.num_requests, total.num_failures, total.total_content_length],
            "entries": sorted(
                (*key, e.num_requests, e.num_failures, e.total_content_length)
                for key, e in environment.stats.entries.items()
                if e.num_requests
            ),
            "errors": sorted(
                (e.method, e.name, str(e.error), e.occurrences) for e in environment.stats.errors.values()
            ),
        }
        told[label] = shown
    return told


def event(meta: dict[str, Any]) -> dict[str, Any]:
    """Every field of an event; times by what can be said of them."""
    shown = {
        name: show(value) for name, value in meta.items() if name not in ("response", "response_time", "start_time")
    }
    shown["response_time"] = [type(meta["response_time"]).__name__, 0 < meta["response_time"] < 20_000]
    shown["start_time"] = [type(meta["start_time"]).__name__, abs(time.time() - meta["start_time"]) < 60]
    response = meta["response"]
    shown["response"] = [getattr(response, "status_code", None), show(getattr(response, "error", None))]
    return shown


def main() -> None:
    """Prints the observations, with the port and addresses in memory made the same everywhere."""
    name, port = sys.argv[1], int(sys.argv[2])
    text = json.dumps(run(name, port), ensure_ascii=False)
    text = text.replace(str(port), "PORT")
    text = re.sub(r"_=\d{13}", "_=NOW", text)
    print(re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", text))
