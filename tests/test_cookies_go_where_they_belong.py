"""A user's cookies where no native engine sends: kept, sent and forgotten by its rules."""

import pytest

from surgeline.plan.jar import LONGEST_COOKIES, Jar

NOW_S = 1_700_000_000.0


def sent(lines: list[str], path: str, origin: str = "http://shop.test:81") -> str:
    """What goes to `path` after answers that set each of these, asked for under `/app/login?x=/y`."""
    jar = Jar(origin)
    for line in lines:
        jar.update([("X-Other", "z=1"), ("set-cookie", line)], "/app/login?x=/y", NOW_S)
    return jar.header(path, NOW_S + 1)


@pytest.mark.parametrize(
    ("lines", "header"),
    [
        (["a=1; Path=/", "b=2; Path=/", "a=3; Path=/"], "a=3; b=2"),
        (["a=1; Path=/", "a=; Path=/; Max-Age=0"], ""),
        (["a=1; Path=/", "a=; Path=/; max-age=-5; Expires=Wed, 21 Oct 2099 07:28:00 GMT"], ""),
        (["a=1; Path=/", "a=x; Path=/; expires=Wed, 21-Oct-2015 07:28:00 GMT"], ""),
        (["a=1; Path=/; Max-Age=99999999999999999999999; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "a=1"),
        (["a=1; Path=/; Max-Age=soon; Expires=soon"], "a=1"),
        (["a=1; Path=/", "a=2; Path=/app; Max-Age=0"], "a=1"),
        (["a=1; Path=/; Max-Age=1"], ""),
        (["=1; Path=/", "nothing", ";", "a=b=c ; Path=/"], "a=b=c"),
    ],
)
def test_the_last_value_of_a_name_is_kept_until_it_ends(lines: list[str], header: str) -> None:
    """Max-Age goes before Expires, and what makes no sense is passed over."""
    assert sent(lines, "/app/x") == header


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/app/login?q", "c=3; b=2; e=5; a=1"),
        ("/app/login/x", "c=3; b=2; e=5; a=1"),
        ("/app/loginx", "b=2; e=5; a=1"),
        ("/app", "b=2; e=5; a=1"),
        ("/?/app/login", "a=1"),
        ("/z", "a=1"),
        ("/z/y", "f=6; a=1"),
    ],
)
def test_a_cookie_goes_to_the_paths_it_was_set_for(path: str, header: str) -> None:
    """Longer paths first; one without a path goes to the folder of what set it."""
    lines = ["a=1; Path=/", "b=2", "c=3; Path=/app/login", "d=4; Path=/ap", "e=5; Path=no; x", "f=6; Path=/z/"]
    assert sent(lines, path) == header


NAME, NUMBER, SECURE = "http://A.shop.test", "http://127.0.0.1:8001", "https://[::1]"


@pytest.mark.parametrize(
    ("origin", "line", "header"),
    [
        (NAME, "a=2; Path=/; Domain=.SHOP.test", "a=1; a=2"),
        (NAME, "a=2; Path=/; Domain=a.shop.test", "a=2"),
        (NAME, "a=2; Path=/; Domain=", "a=2"),
        (NAME, "a=2; Path=/; Domain=b.shop.test", "a=1"),
        (NAME, "a=2; Path=/; Domain=hop.test", "a=1"),
        (NAME, "a=2; Path=/; Domain=test", "a=1"),
        (NAME, "a=2; Path=/; Domain=x.a.shop.test", "a=1"),
        (NAME, "a=2; Path=/; Domain=example.com", "a=1"),
        (NUMBER, "a=2; Path=/; Domain=127.0.0.1", "a=2"),
        (NUMBER, "a=2; Path=/; Domain=0.0.1", "a=1"),
        (NAME, "a=2; Path=/; Secure; Max-Age=0", "a=1"),
        (NAME, "a=2; Path=/; secure ", "a=1"),
        (SECURE, "a=2; Path=/; Secure", "a=2"),
    ],
)
def test_cookies_of_others_are_not_kept(origin: str, line: str, header: str) -> None:
    """Of another domain, or Secure where the target is http: they are not sent, and do not touch those that are."""
    assert sent(["a=1; Path=/", line], "/", origin) == header


def test_the_oldest_cookies_go() -> None:
    """However many and long, 50 cookies or 16 KiB are kept, the newest."""
    header = sent([f"c{number}=v; Path=/" for number in range(60)], "/")
    assert header.startswith("c10=v; c11=v") and header.endswith("c59=v")
    header = sent([f"c{number}={'v' * 4000}; Path=/" for number in range(10)], "/")
    assert len(header) <= LONGEST_COOKIES and header.startswith("c6=v") and "c9=" in header
    assert sent(["c0=v; Path=/", "d=1; Path=/", f"c0={'v' * 5000}; Path=/"], "/") == "d=1"
