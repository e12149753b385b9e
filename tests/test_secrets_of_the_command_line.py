"""Headers that prove who sends, given with -H, reach the target and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ways import Seen, serving

from surgeline.cli import withheld

TOKENS = ("hunter-2222-hunter-2222", "rabbit-3333-rabbit-3333")


def _run(seen: Seen, place: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    load = ["-u", "1", "-t", "300ms", "--ui", "none"]
    command = [sys.executable, "-m", "surgeline", "run", f"http://127.0.0.1:{seen.port}/x", *load, *more]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60, check=False)


def test_tokens_reach_the_target_and_no_file(tmp_path: Path) -> None:
    """However the option is written; runs with different tokens are runs of one plan, and other headers are kept."""
    with serving() as seen:
        first = _run(seen, tmp_path, "-H", f"Authorization: Bearer {TOKENS[0]}", f"--header=X-Api-Key:{TOKENS[0]}")
        assert first.returncode == 0, first.stderr
        assert {headers["authorization"] for headers in seen.headers} == {f"Bearer {TOKENS[0]}"}
        assert {headers["x-api-key"] for headers in seen.headers} == {TOKENS[0]}
        seen.headers.clear()
        more = ["-H", f"X-Api-Key: {TOKENS[1]}", "-H", "Accept-Language: de"]
        second = _run(seen, tmp_path, f"-HAuthorization: Bearer {TOKENS[1]}", *more[:2])
        assert second.returncode == 0, second.stderr
        assert {headers["authorization"] for headers in seen.headers} == {f"Bearer {TOKENS[1]}"}
        third = _run(seen, tmp_path, *more)
        assert third.returncode == 0, third.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for token in TOKENS:
        assert token not in first.stdout + first.stderr + second.stdout + second.stderr
        assert not [path for path in files if token.encode() in path.read_bytes()]
    runs = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("run.json"))]
    plans = {run["subject"]["hash"] for run in runs}
    assert len(runs) == 3 and len(plans) == 2
    kept = [run for run in runs if "Accept-Language" in run["subject"]["plan"].get("headers", {})]
    assert [run["subject"]["plan"]["headers"] for run in kept] == [
        {"X-Api-Key": "{{env.SURGELINE_X_API_KEY}}", "Accept-Language": "de"}
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["-H", "Authorization: Bearer a"], ["-H", "Authorization: ***"]),
        (["-HCookie:a=b"], ["-HCookie: ***"]),
        (["--header=x-auth-token: a: b"], ["--header=x-auth-token: ***"]),
        (["-H", "Authorization: {{env.TOKEN}}"], ["-H", "Authorization: {{env.TOKEN}}"]),
        (["-H", "Accept: text/html"], ["-H", "Accept: text/html"]),
        (["run", "http://token:1/", "Authorization: here"], ["run", "http://token:1/", "Authorization: here"]),
        (["-x", "http://me:pw@h:1"], ["-x", "http://***@h:1"]),
    ],
)
def test_the_command_is_kept_without_them(given: list[str], kept: list[str]) -> None:
    """The option's name and the header's stay; what is no secret, or names one, stays as it was typed."""
    assert list(withheld.command(given)) == kept
