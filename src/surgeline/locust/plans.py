"""A plan that stock Locust was given where its locustfiles are named: read once, made ready for each test.

What comes in is the file and what Locust was told (its host, which scenarios); what leaves is the plan in the engine's
terms, for the load that Locust decides. That load has one stage without an end, at the level of one user:

    closed          one of Locust's users is one virtual user
    open            one of Locust's users is one request per second
    partly open     one of Locust's users is one session per second

Nothing here imports Locust.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from surgeline import datafiles, environment, preflight
from surgeline.engines import Settings
from surgeline.engines.native import compile_plan
from surgeline.plan import evaluate
from surgeline.plan.feed import Feed
from surgeline.plan.model import Plan
from surgeline.plan.text import decode, parse_plan, plan_from_data
from surgeline.plan.upload import SentFile
from surgeline.workload import Model, Stage, Workload

AUTHORIZED = "SURGELINE_AUTHORIZED"
"""Environment variable: `1` where whoever started Locust has the consent of the target's owner."""
SUFFIXES = (".yaml", ".yml", ".json", ".toml")
ENDLESS_NS = 365 * 86_400 * 1_000_000_000
"""As long as the engine lets a stage be, nearly; Locust ends the test."""
MEANS: Mapping[Model, str] = {
    "closed": "one of its users is one virtual user of the plan",
    "open": "one of its users is one request per second, whatever the answers take",
    "partly-open": "one of its users is one session per second, whatever the answers take",
}


def among(names: Sequence[str]) -> tuple[str | None, list[str]]:
    """The plan among Locust's files, and the others. ValueError with a sentence where there are several."""
    plans = [name for name in names if name.lower().endswith(SUFFIXES) and "://" not in name]
    if len(plans) > 1:
        raise ValueError(f"{' and '.join(plans)}: one Locust runs one plan; start one for each")
    return (plans[0] if plans else None), [name for name in names if name not in plans]


@dataclass(frozen=True, slots=True)
class Readied:
    """A plan as one test of Locust's sends it."""

    plan: Plan
    compiled: Mapping[str, Any]
    """As `engines.native.compile_plan` makes it; without times, ids and limits of the process that sends."""
    addresses: tuple[str, ...]
    authorized: str

    @property
    def per_user_per_s(self) -> float | None:
        """Requests that each of Locust's users stands for in a second; None where users wait for answers."""
        model = self.plan.load().model
        if model == "closed":
            return None
        return 1.0 if model == "open" else self.plan.requests_per_iteration

    @property
    def means(self) -> str:
        """What Locust's users are, as a sentence."""
        return f"Locust decides the load, not the plan: {MEANS[self.plan.load().model]}"

    def described(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """What the run's description says of this test, in the place of what `raw` says."""
        settings = {"target": self.plan.target, "addresses": list(self.addresses), "authorized": self.authorized}
        shared = self.plan.connection.unix_socket is not None or environment.shares_machine(self.addresses)
        return {
            "subject": {"kind": "plan", "plan": self.plan.dump(), "hash": self.plan.hash},
            "settings": {**raw["settings"], **settings},
            "environment": {**raw["environment"], "generator_shares_machine": shared},
        }


@dataclass(frozen=True, slots=True)
class HostedPlan:
    """The file, with all that belongs to it."""

    path: Path
    plan: Plan
    data: Mapping[str, Feed]
    sent_files: Mapping[str, SentFile]
    files: Mapping[str, str]
    secrets: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> "HostedPlan":
        """Raises ValueError (a PlanError is one) with a sentence where it cannot be sent."""
        where = str(path)
        try:
            content = decode(path.read_bytes(), where)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
        plan = parse_plan(content, where)
        plan, data = datafiles.attach(plan, path.parent, where)
        plan, sent = datafiles.attach_sent(plan, path.parent, where)
        files = datafiles.tls_files(plan, path.parent, where, {})
        names = evaluate.environment_names(plan)
        missing = sorted(name for name in names if name not in os.environ)
        if missing:
            shown = ", ".join("{{env." + name + "}}" for name in missing)
            raise ValueError(
                f"the plan uses {shown}, which the environment does not have; "
                f"set it as in {missing[0]}=… surgeline locust …"
            )
        return cls(path, plan, data, sent, files, {name: os.environ[name] for name in names})

    @property
    def described(self) -> dict[str, Any]:
        """What `run.json` says of a run of this plan, beyond what it says of one of Locust's."""
        load = self.plan.load()
        rows = [
            {"name": name, "path": self.plan.data[name].file, "sha256": feed.sha256, "rows": len(feed.rows)}
            | {"order": self.plan.data[name].order}
            for name, feed in self.data.items()
        ]
        return {
            "sender": "native",
            "due_known": True,
            "subject": {"kind": "plan", "plan": self.plan.dump(), "hash": self.plan.hash},
            "source": {"kind": "plan", "location": str(self.path)},
            "settings": {
                "target": self.plan.target,
                "model": load.model,
                "arrivals": load.arrivals if load.arrives else None,
                "seed": load.seed,
                "max_in_flight": None,
                "workers": 1,
                "grace_ns": 0,
                "abort": False,
                "addresses": [],
                "authorized": "",
                "slo": list(self.plan.slo),
                "data": rows,
            },
        }

    def ready(
        self, host: str | None, scenarios: Sequence[str], run_id: str, agent: str, header: tuple[str, str]
    ) -> Readied:
        """The plan against `host`, or its own target, with these of its scenarios.

        Raises ValueError with a sentence where there are none, where the host is none, and where load on it needs a
        consent that nobody gave.
        """
        plan = self._narrowed(host, scenarios)
        addresses, proxies, authorized = self._agree(plan)
        load = plan.load()
        endless = Workload(load.model, (Stage("Locust's load", ENDLESS_NS, 1.0, 1.0),), load.arrivals, load.seed)
        settings = Settings(
            run_id=run_id,
            monotonic_ns=0,
            workload=endless,
            user_agent=agent,
            headers=(header,),
            environment=self.secrets,
            data=self.data,
            sent_files=self.sent_files,
            addresses=addresses,
            proxy_addresses=proxies,
            files=self.files,
        )
        return Readied(plan, compile_plan(plan, settings), addresses, authorized)

    def _narrowed(self, host: str | None, scenarios: Sequence[str]) -> Plan:
        kept = {name: part for name, part in self.plan.scenarios.items() if name in scenarios}
        if not kept:
            names = ", ".join(self.plan.scenarios)
            raise ValueError(f"no scenario of {names} is left; the tags and tasks of a plan are its scenarios' names")
        plan = self.plan.model_copy(update={"scenarios": kept})
        if host and host.rstrip("/") != plan.target.rstrip("/"):
            plan = plan_from_data({**plan.dump(), "target": host}, "the host that Locust was given")
        return plan

    def _agree(self, plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...], str]:
        """Addresses of target and proxy, and why load may be put there."""
        if plan.connection.unix_socket is not None:
            return (), (), "own socket"
        allowed = os.environ.get(AUTHORIZED) == "1"
        proxies: tuple[str, ...] = ()
        try:
            proxy = None
            if plan.connection.proxy is not None:
                proxy = evaluate.proxy_of(plan, evaluate.constants(plan, self.secrets))
            if proxy is not None:
                proxies = preflight.resolve(f"http://{proxy.shown}", plan.connection.ip)
                _demand(proxy.shown, proxies, allowed)
            addresses = preflight.resolve(plan.target, plan.connection.ip if proxy is None else None)
        except preflight.Unreachable as error:
            if not proxies:
                raise ValueError(str(error)) from error
            addresses = ()  # only the proxy knows, so nobody here can tell whether it is the user's own
        _demand(urlsplit(plan.target).hostname or plan.target, addresses, allowed)
        strange = not addresses or preflight.foreign((*addresses, *proxies))
        return addresses, proxies, "--authorized" if strange else "own address"


def _demand(host: str, addresses: Sequence[str], allowed: bool) -> None:
    strange = preflight.foreign(addresses)
    if allowed or (addresses and not strange):
        return
    shown = f"{host} ({strange[0]}) is neither on this machine nor in a private network" if strange else host
    if not strange:
        shown += ", whose address only the proxy knows, may be anybody's"
    raise ValueError(f"{shown}; load on it needs its owner's consent: if you have that, add --authorized")
