"""More cases of the differential suite: what locustfiles do to a client beside asking it for something.

Sessions that are inherited from, changed, replaced and patched; what a client is given that it does not like; greenlets
that are thrown something while they wait.
"""

# ruff: noqa: D103
import copy
import io
import pickle
from typing import Any

import gevent
import gevent.pool
import locust.clients
import requests
from geventhttpclient.client import HTTPClientPool
from locust import HttpUser
from locust.contrib import fasthttp
from locust.event import EventHook
from tests.locust_client.cases import Case, case, case_of, event, look, request, show
from urllib3.util import Timeout
from urllib3.util.retry import Retry

# --- urls
for label, url in {
    "empty": "",
    "without a slash": "json",
    "only a query": "?a=1",
    "two slashes": "//json",
    "scheme in capitals": "HTTP://127.0.0.1:@PORT@/echo",
    "with credentials": "http://user:pa%3Ass@127.0.0.1:@PORT@/private",
    "empty query": "/echo?",
    "odd characters": '/echo?a=[1]&b={x}|y\\z^`"<>',
    "semicolons": "/echo;v=1?a;b",
    "signs in a query": "/echo?a:b,c*d!e$f'(g)@h",
    "percent signs": "/echo/%41%2f%2F%zz?a=%41%2f",
    "newline": "/echo/a\nb",
    "leading space": " /echo",
    "trailing space": "/echo ",
    "two question marks": "/echo?a=1?b=2",
    "plus": "/echo?a=1+2&b=3%2B4",
    "two dots at the end": "/echo/..",
    "hidden file": "/echo/.well-known/x",
    "slashes inside": "/echo//x",
}.items():
    request("both", f"url {label}", "GET", url)
for method in ("PROPFIND", "TRACE", "gEt", ""):
    request("both", f"method {method!r}", method, "/echo")
request("both", "name empty", "GET", "/json", name="")
request("both", "name a number", "GET", "/json", name=5)

# --- bodies and headers
for number, data in enumerate((0, 5, False, {}, {"a": [1, 2], "b": None}, (("a", "1"), ("b", "2")), b"", "\ud800")):
    request("both", f"data {number}", "POST", "/echo", data=data)
request("both", "data as lines", "POST", "/echo", data=io.StringIO("text"))
request("both", "data from a generator", "POST", "/echo", data=iter([b"a", b"b"]))
request("both", "data large", "POST", "/echo", data="x" * 300_000)
for number, value in enumerate((False, 0, "", [], 'é"', {1: 2, None: 3}, object())):
    request("both", f"json {number}", "POST", "/echo", json=value)
request("both", "json in GET", "GET", "/echo", json={"a": 1})
request("both", "json beside an empty form", "POST", "/echo", json={"a": 1}, data={})
for number, headers in enumerate(
    (
        {},
        {"X-A": 5},
        {"X-A": "é"},
        {"X-A": "€"},
        {"X A": "b"},
        {"X-A": " b "},
        {"X-A": ""},
        {b"X-A": "b"},
        [("X-A", "b")],
        {"Connection": "close"},
        {"X-A": "1", "x-a": "2"},
        {"host": "x.example"},
        {"Content-Length": "0"},
    )
):
    request("both", f"headers {number}", "GET", "/echo", headers=headers)
request("both", "headers beside auth", "GET", "/private", headers={"Authorization": "x"}, auth=("user", "pa:ss"))
for number, auth in enumerate((("usér", "pö"), [b"user", b"pa:ss"], ("€", "x"), ("a", "b", "c"), ("", ""))):
    request("both", f"auth {number}", "GET", "/private", auth=auth)

# --- other arguments
request("both", "argument unknown", "GET", "/echo", nonsense=1)
request("both", "allow_redirects 0", "GET", "/chain/2", allow_redirects=0)
request("both", "allow_redirects None", "GET", "/chain/2", allow_redirects=None)
for number, params in enumerate(([("a", 1), ("a", 2)], "a=1&b", b"a=1", {"a": None, "b": ""}, {})):
    request("http", f"params {number}", "GET", "/echo", params=params)
request("fast", "params as text", "GET", "/echo", params="a=1&b")
request("fast", "time-out as an argument", "GET", "/slow/0.3", timeout=0.05)
for number, timeout in enumerate((3, (None, 3), "x", (1, 2, 3), 0, Timeout(connect=1, read=0.05), (5, 0.05))):
    request("http", f"time-out {number}", "GET", "/slow/0.2", timeout=timeout)
request("http", "verify a file that is not there", "GET", "/json", verify="/nowhere.pem")
request("http", "cert a file that is not there", "GET", "/json", cert="/nowhere.pem")
request("http", "hook unknown", "GET", "/json", hooks={"nope": lambda r, **k: None})
request("http", "proxy refused", "GET", "/json", proxies={"http": "http://127.0.0.1:9"})
request("http", "cookies in a jar", "GET", "/echo", cookies=requests.cookies.cookiejar_from_dict({"b": "2"}))
for verb in ("PUT", "PATCH", "DELETE"):
    for code in (301, 303, 307):
        request("both", f"redirect {code} {verb}", verb, f"/redirect/{code}?to=/echo", data="x")
for code in (202, 210, 300, 305, 306, 399, 418, 599, 600):
    request("both", f"status {code}", "GET", f"/status/{code}")
for number, place in enumerate(
    ("200?to=x", "../echo", "%3Fx%3D1", "", "/echo%23frag", "/echo%20x", "/echo/%25C3%25A9")
):
    request("both", f"redirect to {number}", "GET", f"/redirect/302?to={place}")


# --- with blocks
@case_of("both")
def with_the_same_answer_twice(user: Any) -> Any:
    response = user.client.get("/json", catch_response=True)
    with response:
        response.success()
    with response:
        response.failure("x")


@case_of("both")
def with_by_hand(user: Any) -> Any:
    response = user.client.get("/json", catch_response=True)
    response.__enter__()
    response.failure("x")
    return response.__exit__(None, None, None)


for label, said in {"None": None, "False": False, "a class": ValueError, "a dictionary": {"a": 1}}.items():

    def fail(user: Any, said: Any = said) -> None:
        with user.client.get("/json", catch_response=True) as response:
            response.failure(said)

    case("both", f"failure is {label}", fail)


@case_of("both")
def what_is_reported_can_be_changed(user: Any) -> Any:
    with user.client.get("/json", catch_response=True) as response:
        response.request_meta["name"] = "other"
        response.request_meta["response_time"] = 1234.5
        response.request_meta["response_length"] = 7
        response.request_meta["request_type"] = "WS"
        response.request_meta["context"]["k"] = "v"
    return user.seen[-1]["response_time"]


@case_of("both")
def what_is_known_in_the_block(user: Any) -> Any:
    with user.client.get("/json?x=1", catch_response=True, name="m") as response:
        meta = response.request_meta
        return [sorted(meta), {k: show(v) for k, v in meta.items() if k not in ("response_time", "start_time")}]


# --- greenlets
@case_of("both")
def time_out_of_the_users_own(user: Any) -> Any:
    for path in ("/json", "/slow/0.2", "/slow/0.2"):  # what was sent before takes another way
        user.client.get(path)
    try:
        with gevent.Timeout(0.05):
            user.client.get("/slow/0.2")
    except gevent.Timeout:
        pass
    with gevent.Timeout(0.05, False):
        user.client.post("/slow/0.2", data="x")
    with gevent.Timeout(0.05, False), user.client.get("/slow/0.2", catch_response=True) as response:
        response.success()
    return look(user.client.get("/json"))


@case_of("both")
def killed_while_it_waits(user: Any) -> Any:
    for _ in "ab":
        user.client.get("/slow/0.2")
    greenlet = gevent.spawn(user.client.get, "/slow/0.2")
    gevent.sleep(0.05)
    greenlet.kill()
    return [show(greenlet.value), look(user.client.get("/json"))]


@case_of("both")
def several_greenlets_of_one_user(user: Any) -> Any:
    answers = gevent.pool.Pool(5).map(lambda n: user.client.get(f"/echo?i={n}", name="e"), range(12))
    user.seen[:] = []  # whose answer comes first is not said
    return [answer.json()["target"] for answer in answers]


# --- sessions that are changed
@case_of("both")
def session_with_a_request_of_its_own(user: Any) -> Any:
    class Mine(type(user.client)):  # type: ignore[misc]
        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            kwargs.setdefault("name", "mine")
            return super().request(method, url, *args, **kwargs)

    client = Mine(user.host, user.environment.events.request, user)
    return [look(client.get("/json")), look(client.get("/json")), look(client.post("/echo", json={}))]


@case_of("both")
def session_with_urls_of_its_own(user: Any) -> Any:
    class Mine(type(user.client)):  # type: ignore[misc]
        def _build_url(self, path: str) -> Any:
            return super()._build_url("/echo" + path)

    client = Mine(user.host, user.environment.events.request, user)
    return [look(client.get("/x")) for _ in "ab"]


@case_of("both")
def session_that_looks_on(user: Any) -> Any:
    seen = []

    class Mine(type(user.client)):  # type: ignore[misc]
        def _send_request_safe_mode(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(args)
            return super()._send_request_safe_mode(*args, **kwargs)

    client = Mine(user.host, user.environment.events.request, user)
    for _ in "ab":
        client.get("/json")
    return seen


@case_of("http")
def session_that_signs(user: Any) -> Any:
    class Mine(type(user.client)):  # type: ignore[misc]
        def send(self, request: Any, **kwargs: Any) -> Any:
            request.headers["X-Sent"] = "1"
            return super().send(request, **kwargs)

        def prepare_request(self, request: Any) -> Any:
            prepared = super().prepare_request(request)
            prepared.headers["X-Prepared"] = "1"
            return prepared

    client = Mine(user.host, user.environment.events.request, user)
    return [look(client.get("/echo")) for _ in "ab"]


@case_of("both")
def session_made_by_hand(user: Any) -> Any:
    seen: list[Any] = []

    class Event:
        def fire(self, **meta: Any) -> None:
            seen.append(meta)

    hook = EventHook()
    hook.add_listener(lambda **meta: seen.append(meta))
    told = []
    for listens, whose in ((Event(), None), (hook, user)):
        client = type(user.client)(base_url=user.host, request_event=listens, user=whose)
        told += [look(client.get("/json")) for _ in "ab"]
    return [told, [event(meta) for meta in seen]]


@case_of("both")
def request_of_one_session_is_replaced(user: Any) -> Any:
    client, seen = user.client, []
    stock = client.request

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        seen.append([args, kwargs])
        return stock(*args, **kwargs)

    client.request = wrapped
    for _ in "ab":
        client.get("/json")
        client.post("/echo", json={"a": 1})
    return seen


def patched(kind: Any, method: str) -> Case:
    """Two requests of a user whose session's class has been patched, as instrumentation does it."""

    def call(user: Any) -> Any:
        stock, seen = getattr(kind, method), []

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            seen.append(1)
            return stock(*args, **kwargs)

        setattr(kind, method, wrapped)
        try:
            client = type(user)(user.environment).client
            return [look(client.get("/json")), look(client.get("/json")), len(seen)]
        finally:
            setattr(kind, method, stock)

    return call


for part in ("request", "get", "_send_request_safe_mode"):
    case("http", f"HttpSession.{part} is patched", patched(locust.clients.HttpSession, part))
    case("fast", f"FastHttpSession.{part} is patched", patched(fasthttp.FastHttpSession, part))
for part in ("request", "send", "prepare_request"):
    case("http", f"requests.Session.{part} is patched", patched(requests.Session, part))
case("fast", "the agent's urlopen is patched", patched(fasthttp.LocustUserAgent, "urlopen"))


@case_of("http")
def headers_of_the_session_are_replaced(user: Any) -> Any:
    told = [look(user.client.get("/echo"))]
    user.client.headers = {"Z": "z"}
    return told + [look(user.client.get("/echo")) for _ in "ab"]


for name, value in {"Host": "x.example", "Cookie": "x=1", "Accept": None, "X-Bytes": b"abc", "Expect": ""}.items():

    def with_header(user: Any, name: str = name, value: Any = value) -> Any:
        user.client.headers[name] = value
        paths = ("/echo", "/cookie/a/1", "/echo", "/echo")
        return [look(user.client.get(path)) for path in paths] + [look(user.client.post("/echo", data="x"))]

    case("http", f"session has header {name}", with_header)


@case_of("http")
def cookies_of_the_session_are_changed(user: Any) -> Any:
    client, told = user.client, []
    client.cookies.update({"q": "1"})
    told.append(look(client.get("/echo")))
    client.cookies["q"] = "2"
    told.append(look(client.get("/echo")))
    del client.cookies["q"]
    told.append(look(client.get("/echo")))
    client.cookies.set("p", "1", path="/json")
    client.cookies.set("d", "1", domain="other.example")
    told += [look(client.get(path)) for path in ("/echo", "/json")]
    copied = client.cookies.copy()
    copied.set("z", "1")
    told.append([client.cookies.get_dict(), copied.get_dict(), pickle.loads(pickle.dumps(copied)).get_dict()])
    client.cookies = requests.cookies.cookiejar_from_dict({"r": "1"})
    return told + [look(client.get("/echo")) for _ in "ab"]


@case_of("both")
def cookies_changed_in_place(user: Any) -> Any:
    user.client.get("/cookie/a/1")
    user.client.get("/echo")
    for cookie in user.client.cookies if isinstance(user, HttpUser) else user.client.cookiejar:
        cookie.value = "changed"
    return look(user.client.get("/echo"))


@case_of("http")
def adapters_of_the_users_own(user: Any) -> Any:
    class Signs(requests.adapters.HTTPAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            request.headers["X-Mine"] = "1"
            return super().send(request, *args, **kwargs)

    told = [look(user.client.get("/echo/x")) for _ in "ab"]
    user.client.mount(user.host + "/echo", Signs())
    told += [look(user.client.get(path)) for path in ("/echo/x", "/json")]
    user.client.mount("http://", requests.adapters.HTTPAdapter(max_retries=Retry(2, status_forcelist=[503])))
    return [*told, look(user.client.get("/status/503"))]


@case_of("http")
def the_adapters_retries_are_set(user: Any) -> Any:
    user.client.get_adapter(user.host).max_retries = Retry(2)
    return look(user.client.get("/hangup"))


@case_of("http")
def requests_prepared_by_hand(user: Any) -> Any:
    user.client.get("/json")
    prepared = user.client.prepare_request(requests.Request("POST", user.host + "/echo", data={"a": 1}))
    response = user.client.send(prepared, timeout=3)
    return [response.status_code, response.text, len(user.seen)]


@case_of("http")
def hooks_that_meddle(user: Any) -> Any:
    def broken(response: Any, **_: Any) -> Any:
        raise requests.exceptions.RequestException("in a hook")

    def again(response: Any, **kwargs: Any) -> Any:
        if response.status_code == 401:
            response.request.headers["Authorization"] = "Basic dXNlcjpwYTpzcw=="
            another = response.connection.send(response.request, **kwargs)
            another.history.append(response)
            return another
        return response

    return [
        look(user.client.get("/json", hooks={"response": broken})),
        look(user.client.get("/private", hooks={"response": again})),
    ]


@case_of("http")
def answers_can_be_pickled_and_copied(user: Any) -> Any:
    told = []
    for path in ("/json", "/json", "/json", "/gzip"):
        response = user.client.get(path)
        for other in (pickle.loads(pickle.dumps(response)), copy.copy(response), copy.deepcopy(response)):
            told.append([other.status_code, other.text, other.url, other.request.method, type(other).__name__])
    return told


@case_of("http")
def raw_of_a_finished_answer(user: Any) -> Any:
    raw = user.client.get("/json").raw
    return [raw.status, raw.reason, raw.version, raw.headers["content-type"], raw.tell(), raw.read()]


@case_of("fast")
def agent_of_the_users_own(user: Any) -> Any:
    class Signs(fasthttp.LocustUserAgent):
        def _urlopen(self, request: Any) -> Any:
            request.headers["X-Own"] = "1"
            return super()._urlopen(request)

    user.client.get("/echo")
    user.client.client = Signs(cookiejar=user.client.cookiejar)
    return [look(user.client.get("/echo")), look(user.client.post("/echo", data="x"))]


@case_of("fast")
def statuses_that_are_fine(user: Any) -> Any:
    told = [look(user.client.get("/json")), look(user.client.get("/json"))]
    user.client.client.valid_response_codes = frozenset([302, 404])
    return told + [look(user.client.get(path)) for path in ("/json", "/nowhere", "/status/201", "/chain/1")]


@case_of("fast")
def attributes_of_the_user(user: Any) -> Any:
    told = []
    for given in (
        {"concurrency": 1},
        {"connection_timeout": 20.0, "network_timeout": None},
        {"default_headers": {}},
        {"insecure": False},
        {"client_pool": HTTPClientPool(concurrency=2)},
    ):
        client = type("Own", (type(user),), given)(user.environment).client
        told += [look(client.get("/echo")), look(client.get("/chain/1")), look(client.post("/echo", json={"a": 1}))]
    return told


@case_of("both")
def public_surface(user: Any) -> Any:
    response = user.client.get("/json")
    kind, session = (
        (locust.clients.ResponseContextManager, locust.clients.HttpSession)
        if isinstance(user, HttpUser)
        else (fasthttp.FastResponse, fasthttp.FastHttpSession)
    )
    missing = [name for name in dir(kind) if not name.startswith("_") and not hasattr(response, name)]
    return missing + [name for name in dir(session) if not name.startswith("_") and not hasattr(user.client, name)]
