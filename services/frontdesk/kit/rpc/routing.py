"""Where the calls of a method go, read from the options in its proto."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from google.protobuf import descriptor_pool

from frontdesk.api.common.v1 import options_pb2
from frontdesk.kit import subjects
from frontdesk.kit.errors import InvalidArgument

# Methods no proto has: every replica of a service hears which calls their callers gave up, and which their
# callers wonder about.
_CANCEL = "_cancel"
_ALIVE = "_alive"


@dataclass(frozen=True, slots=True)
class Method:
    """One method: its names, who answers it, and whether only an account's owner or one replica may."""

    service: str
    name: str
    deployable: str
    by_account: bool = False
    by_replica: bool = False

    @property
    def path(self) -> str:
        """As gRPC writes it: `/package.Service/Method`."""
        return f"/{self.service}/{self.name}"

    @property
    def subject(self) -> str:
        """Where calls of this method go when any replica may answer."""
        return subjects.rpc(self.service, self.name)

    @property
    def cancel_subject(self) -> str:
        """Where every replica of the service hears of calls given up."""
        return subjects.rpc(self.service, _CANCEL)

    @property
    def alive_subject(self) -> str:
        """Where every replica of the service is asked whether it works on a call."""
        return subjects.rpc(self.service, _ALIVE)

    @property
    def routed(self) -> bool:
        """Whether only one replica may answer."""
        return self.by_account or self.by_replica

    def target_of(self, request: object) -> str:
        """The account or replica that a request is for; empty when it names none."""
        target: object = getattr(request, "replica" if self.by_replica else "account_id", "")
        return target if isinstance(target, str) else ""

    def target_subject(self, target: str, shards: int) -> str:
        """Where calls for an account or a replica go; raises InvalidArgument when it is empty."""
        if not target:
            field = "replica" if self.by_replica else "account_id"
            raise InvalidArgument(field, "must not be empty: it decides which replica is asked")
        if self.by_replica:
            return subjects.rpc_at(self.service, self.name, target)
        return subjects.rpc(self.service, self.name, subjects.shard_of(target, shards))


@functools.cache
def describe(path: str) -> Method:
    """The method at `/package.Service/Method`; raises ValueError for another shape.

    A service whose descriptor is not loaded, or says nothing, is answered by any replica of a deployable of
    its name.
    """
    try:
        _, service, name = path.split("/")
    except ValueError:
        raise ValueError(f"not a path of a method: {path!r}") from None
    try:
        descriptor = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return Method(service=service, name=name, deployable=service)
    deployable = descriptor.GetOptions().Extensions[options_pb2.deployable] or service
    method = descriptor.methods_by_name.get(name)
    routing = method.GetOptions().Extensions[options_pb2.routing] if method is not None else None
    return Method(
        service,
        name,
        deployable,
        by_account=routing == options_pb2.ROUTING_ACCOUNT,
        by_replica=routing == options_pb2.ROUTING_REPLICA,
    )
