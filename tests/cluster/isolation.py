"""Who reaches whom, proven by trying from pods of the cluster: network, NATS users and PostgreSQL roles.

What must work is tried beside what must not, so a network without a way anywhere proves nothing. What the
policies can't keep out, and nobody tries here: the node itself, and the first moment of a new pod.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.kube import Kube
from cluster.models import MODELS
from cluster.models import PORT as MODELS_PORT
from cluster.release import AI, ENGINE, GATEWAY, NAME, Release
from cluster.tracing import COLLECTOR
from frontdesk.kit import subjects

SCRIPT = Path(__file__).with_name("attempts.py")
COMPONENT = "app.kubernetes.io/component"
OPEN = 8443
# A pod's first moment, in which its policies are not there yet.
SETTLE_S = 3.0
PORTS = {
    "nats": (4222, 8222),
    "postgresql": (5432,),
    GATEWAY: (8000, 50051, 9464),
    ENGINE: (8000, 50051, 9464),
    AI: (8000, 50051, 9464),
    "simulator": (8080, 8081),
    COLLECTOR: (4318,),
}
_STORES = {("nats", 4222), ("postgresql", 5432)}
_NEEDS = {*_STORES, (COLLECTOR, 4318)}
_API = ("api-server", 0)
_DOORS = {(service, port) for service in (GATEWAY, ENGINE, AI) for port in (8000, 50051)}
# Any pod's, as it has no policy of its own.
_MODELS = (MODELS, MODELS_PORT)
# Where each may connect to; everything else is refused. `open` is a pod without any policy.
MAY: Mapping[str, set[tuple[str, int]]] = {
    "outside": {("open", OPEN), _API, _MODELS},
    "open": {("outside", OPEN), _API, _MODELS},
    "test": _DOORS,
    "provision": _STORES,
    GATEWAY: {*_NEEDS, ("simulator", 8080), ("simulator", 8081), _API},
    ENGINE: _NEEDS,
    AI: {*_NEEDS, _MODELS},
    "simulator": set(),
}

# Who reads, by consumers of its own, and who writes a stream, besides what all may: tell events, bury, wake.
READS = {
    subjects.INBOUND: (ENGINE,),
    subjects.TIMERS: (ENGINE,),
    subjects.EVENTS: (ENGINE, AI),
    subjects.OUTBOUND: (GATEWAY,),
}
# Whose consumers are one for all replicas, of the service's name.
DURABLE = (ENGINE, AI)
WRITES = {
    subjects.INBOUND: (GATEWAY, subjects.inbound("a", "c")),
    subjects.OUTBOUND: (ENGINE, subjects.outbound(0, "a")),
    subjects.TIMERS: (ENGINE, subjects.timer("chat", "c")),
    subjects.NOTIFY: ("notifier", subjects.notify("mail")),
}
# Who answers calls of a package, and who may make calls of a service.
ANSWERS = {
    "accounts": GATEWAY,
    "fleet": GATEWAY,
    "clients": GATEWAY,
    "replies": ENGINE,
    "chats": ENGINE,
    "ai": AI,
}
CALLS = {
    "frontdesk.api.ai.v1.AiService": (GATEWAY, ENGINE),
    "frontdesk.api.ai.v1.ProviderService": (),
    "frontdesk.api.ai.v1.BudgetService": (),
    "frontdesk.api.replies.v1.RuleService": (),
    "frontdesk.api.clients.v1.ClientService": (GATEWAY,),
}


@dataclass
class Count:
    """What was tried, and what went against the rules."""

    refused: int = 0
    allowed: int = 0
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str, answer: list[Any], *, expected: bool) -> None:
        """One attempt: whether it was allowed, as `expected` or not."""
        allowed, said = answer
        if allowed:
            self.allowed += 1
        else:
            self.refused += 1
        if allowed != expected:
            self.wrong.append(f"{what}: {'allowed' if allowed else 'refused'} ({said})")

    def figures(self) -> dict[str, object]:
        return {"refused": self.refused, "allowed": self.allowed, "wrong": self.wrong}


async def isolated(release: Release) -> dict[str, object]:
    """Everything that is tried; figures of a step."""
    outside = Kube(f"{release.kube.namespace}-outside")
    async with _visitors(release, outside):
        network = await _network(release, outside)
        users = await _nats(release)
        roles = await _postgresql(release)
    wrong = [*network.wrong, *users.wrong, *roles.wrong]
    parts = {"network": network, "nats": users, "postgresql": roles}
    counts = {
        f"{name}_{what}": getattr(part, what)
        for name, part in parts.items()
        for what in ("refused", "allowed")
    }
    return {"step": "isolated", **counts, "wrong": wrong}


# Pods to try from.


@asynccontextmanager
async def _visitors(release: Release, outside: Kube) -> AsyncIterator[None]:
    """A pod in another namespace, and in the release's one without labels and two with components' labels."""
    labels = {"app.kubernetes.io/name": "frontdesk", "app.kubernetes.io/instance": NAME}
    own: dict[str, dict[str, str]] = {"open": {}} | {
        name: {**labels, COMPONENT: name} for name in ("test", "provision")
    }
    await outside("create", "namespace", outside.namespace)
    try:
        await outside.apply(_pod(release.image, "outside", {}))
        await release.kube.apply(*(_pod(release.image, name, those) for name, those in own.items()))
        for kube, names in ((outside, ["outside"]), (release.kube, list(own))):
            words = ("--for=condition=Ready", "--timeout=60s")
            await kube("wait", *words, *(f"pod/try-{name}" for name in names))
        await asyncio.sleep(SETTLE_S)
        yield
    finally:
        await outside("delete", "namespace", outside.namespace, "--wait=false")
        await release.kube("delete", "pod", *(f"try-{name}" for name in own), "--now", "--ignore-not-found")


def _pod(image: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    container = {
        "name": "try",
        "image": image,
        "command": ["python3", "-m", "http.server", str(OPEN)],
        "readinessProbe": {"tcpSocket": {"port": OPEN}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
    }
    metadata = {"name": f"try-{name}", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def _try(kube: Kube, pod: str, plan: dict[str, Any]) -> dict[str, Any]:
    """What a plan came to in a pod."""
    words = ("exec", "-i", pod, "--", "python3", "-c", SCRIPT.read_text())
    answers: dict[str, Any] = json.loads(await kube(*words, stdin=json.dumps(plan)))
    return answers


# The network.


async def _network(release: Release, outside: Kube) -> Count:
    count = Count()
    targets = [target async for target in _targets(release, outside)]
    sources = {name: (release.kube, f"try-{name}") for name in ("open", "test", "provision")}
    sources["outside"] = (outside, "try-outside")
    for component in (GATEWAY, ENGINE, AI, "simulator"):
        sources[component] = (release.kube, str((await release.pods(component))[0]["metadata"]["name"]))
    for source, (kube, pod) in sources.items():
        (own,) = await kube.get("pod", name=pod)
        tried = [one for one in targets if one[1] != own["status"]["podIP"]]
        answers = await _try(kube, pod, {"tcp": [[host, port] for _, host, port in tried]})
        for (target, host, port), answer in zip(tried, answers["tcp"], strict=True):
            expected = (target, 0 if target == _API[0] else port) in MAY[source]
            count.note(f"{source} to {target} at {host}:{port}", answer, expected=expected)
    return count


async def _targets(release: Release, outside: Kube) -> AsyncIterator[tuple[str, str, int]]:
    """Component, address and port of all that listens: pods, and the Services before them."""
    for component, ports in PORTS.items():
        for pod in await release.pods(component):
            for port in ports:
                yield component, pod["status"]["podIP"], port
        host = f"{release.name(component)}.{release.kube.namespace}.svc"
        (service,) = await release.kube.get("service", name=release.name(component))
        for port in service["spec"]["ports"]:
            yield component, host, port["port"]
    (pod,) = await release.kube.get("pod", name=MODELS)
    for host in (pod["status"]["podIP"], f"{MODELS}.{release.kube.namespace}.svc"):
        yield MODELS, host, MODELS_PORT
    for name, kube in (("open", release.kube), ("outside", outside)):
        (pod,) = await kube.get("pod", name=f"try-{name}")
        yield name, pod["status"]["podIP"], OPEN
    for part in await Kube("default").get("endpointslice", "kubernetes.io/service-name=kubernetes"):
        for endpoint in part["endpoints"]:
            yield _API[0], endpoint["addresses"][0], part["ports"][0]["port"]


# NATS: every user against every stream.


async def _nats(release: Release) -> Count:
    count = Count()
    url = f"nats://{release.name('nats')}:4222"
    passwords = await release.kube.secret(release.name("nats"))
    users = [name for name in passwords if name not in ("cluster", "provision")]
    tries: list[tuple[str, str, str, bool]] = []
    for user in users:
        tries += [(user, "publish", subject, may) for subject, may in _spoken(user)]
        tries += [(user, "subscribe", subject, False) for subject in _heard(user, [*users, "provision"])]
        tries += [(user, "request", f"$JS.API.STREAM.INFO.{stream}", True) for stream in subjects.WILDCARDS]
    for stream, readers in READS.items():
        for reader in readers:
            if reader in DURABLE:
                tries.append((reader, "request", f"$JS.API.CONSUMER.INFO.{stream}.{reader}", True))
    tries += [("provision", "subscribe", subject, False) for subject in _heard("provision", users)]
    tries += [("provision", "publish", subject, False) for _, subject in WRITES.values()]
    answers = await _as_users(release, url, passwords, tries)
    for (user, verb, subject, expected), answer in zip(tries, answers, strict=True):
        count.note(f"NATS user {user}: {verb} {subject}", answer, expected=expected)
    strangers = [
        [url, *who, "_INBOX", "publish", ["wake.a"]] for who in (("", ""), (ENGINE, passwords[GATEWAY]))
    ]
    for answer in (await _try(release.kube, "try-provision", {"nats": strangers}))["nats"]:
        count.note("NATS without a user's password", answer[0], expected=False)
    return count


async def _as_users(
    release: Release, url: str, passwords: Mapping[str, str], tries: list[tuple[str, str, str, bool]]
) -> list[list[Any]]:
    """An answer for each attempt, in their order; a connection for each user and verb."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number, (user, verb, *_) in enumerate(tries):
        groups.setdefault((user, verb), []).append(number)
    plan = [
        [url, user, passwords[user], subjects.inbox(user), verb, [tries[number][2] for number in numbers]]
        for (user, verb), numbers in groups.items()
    ]
    answers = (await _try(release.kube, "try-provision", {"nats": plan}))["nats"]
    found: dict[int, list[Any]] = {}
    for numbers, group in zip(groups.values(), answers, strict=True):
        found.update(zip(numbers, group, strict=True))
    return [found[number] for number in range(len(tries))]


def _spoken(user: str) -> Iterator[tuple[str, bool]]:
    """Subjects that a user may not publish, and some that it may and that do no harm."""
    for stream in subjects.WILDCARDS:
        for name in {*READS.get(stream, ("anybody",)), "spy"}:
            # The gateway's are named by shard: it may read any of OUTBOUND.
            if user != name and (stream, user) != (subjects.OUTBOUND, GATEWAY):
                yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", False
                yield f"$JS.ACK.{stream}.{name}.1.1.1.1.1", False
        own_shards = stream == subjects.OUTBOUND and user == GATEWAY
        for verb in (
            f"CONSUMER.CREATE.{stream}",
            f"CONSUMER.CREATE.{stream}.spy.>",
            *(
                ()
                if own_shards
                else (f"CONSUMER.DURABLE.CREATE.{stream}.spy", f"CONSUMER.DELETE.{stream}.spy")
            ),
            f"STREAM.MSG.GET.{stream}",
            f"DIRECT.GET.{stream}",
            f"STREAM.MSG.DELETE.{stream}",
            *(() if (stream, user) == (subjects.TIMERS, ENGINE) else (f"STREAM.PURGE.{stream}",)),
            f"STREAM.UPDATE.{stream}",
            f"STREAM.DELETE.{stream}",
        ):
            yield f"$JS.API.{verb}", False
    for writer, subject in WRITES.values():
        if user != writer:
            yield subject, False
    yield "$JS.API.STREAM.CREATE.MINE", False
    yield "$SYS.REQ.SERVER.PING", False
    for service, callers in CALLS.items():
        if user not in callers:
            yield subjects.rpc(service, "List"), False
    yield subjects.event("usage", "nobody"), True


def _heard(user: str, users: list[str]) -> Iterator[str]:
    """Subjects that a user may not subscribe to."""
    yield from (">", "_INBOX.>", "$JS.>", "$KV.>", "$SYS.>")
    for stream, wildcards in subjects.WILDCARDS.items():
        if stream != subjects.EVENTS:
            yield from wildcards
    yield from (f"{subjects.inbox(other)}.>" for other in users if other != user)
    for package, service in ANSWERS.items():
        if user != service:
            yield f"rpc.frontdesk.api.{package}.>"


# PostgreSQL: every role against every schema.


async def _postgresql(release: Release) -> Count:
    count = Count()
    passwords = await release.kube.secret(release.name("postgresql"))
    services = [name for name in passwords if name != "admin"]
    schemas = {name: name.replace("-", "_") for name in services}
    at = f"{release.name('postgresql')}:5432/frontdesk"
    tries = []
    for service in services:
        url = f"postgresql://{schemas[service]}:{passwords[service]}@{at}"
        others = [schema for name, schema in schemas.items() if name != service]
        statements = [*_own(schemas[service]), *(one for other in others for one in _foreign(other))]
        tries.append((service, url, statements))
    first, second = services[:2]
    for role, password in ((schemas[first], passwords[second]), ("postgres", passwords[first])):
        tries.append(
            (f"{role} with another's password", f"postgresql://{role}:{password}@{at}", [("SELECT 1", False)])
        )
    plan = [[url, [statement for statement, _ in statements]] for _, url, statements in tries]
    answers = (await _try(release.kube, "try-provision", {"sql": plan}))["sql"]
    for (role, _, statements), group in zip(tries, answers, strict=True):
        for (statement, expected), answer in zip(statements, group, strict=True):
            count.note(f"PostgreSQL role {role}: {statement}", answer, expected=expected)
    return count


def _own(schema: str) -> Iterator[tuple[str, bool]]:
    """What a role does at home, and what it must not do at large."""
    yield f"SELECT * FROM {schema}.alembic_version", True
    yield f"CREATE TABLE {schema}.tried (id int)", True
    yield "CREATE SCHEMA tried", False
    yield "CREATE TABLE public.tried (id int)", False
    yield "CREATE ROLE tried", False
    yield "CREATE DATABASE tried", False
    yield "SELECT rolpassword FROM pg_authid", False
    yield "SELECT pg_read_file('/etc/passwd')", False
    yield "COPY (SELECT 1) TO PROGRAM 'true'", False
    yield "SET ROLE postgres", False


def _foreign(schema: str) -> Iterator[tuple[str, bool]]:
    """What it must not do to another one's."""
    yield f"SELECT * FROM {schema}.alembic_version", False
    yield f"INSERT INTO {schema}.alembic_version VALUES ('tried')", False
    yield f"UPDATE {schema}.alembic_version SET version_num = 'tried'", False
    yield f"DELETE FROM {schema}.alembic_version", False
    yield f"DROP TABLE {schema}.alembic_version", False
    yield f"CREATE TABLE {schema}.tried (id int)", False
    yield f"DROP SCHEMA {schema} CASCADE", False
    yield f"GRANT USAGE ON SCHEMA {schema} TO CURRENT_USER", False
    yield f"SET ROLE {schema}", False
    yield f"ALTER ROLE {schema} PASSWORD 'tried'", False
