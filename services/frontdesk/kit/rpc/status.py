"""FrontdeskError and gRPC status, both ways, in this place only.

The code is the error's own `code`. Details carry google.rpc.ErrorInfo (reason = code, domain `frontdesk`,
metadata = the error's facts as text) and, for InvalidArgument, google.rpc.BadRequest with the field.
"""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError
from opentelemetry import trace

from frontdesk.kit import errors
from frontdesk.kit.rpc.metadata import DETAILS, MetadataLike

_log = logging.getLogger(__name__)

DOMAIN = "frontdesk"
MOST_FACT_CHARS = 256

_KINDS: dict[StatusCode, type[errors.FrontdeskError]] = {
    StatusCode.NOT_FOUND: errors.NotFound,
    StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    StatusCode.UNAVAILABLE: errors.Unavailable,
    StatusCode.ABORTED: errors.Unavailable,
    StatusCode.CANCELLED: errors.Unavailable,
    StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    StatusCode.DATA_LOSS: errors.Poison,
}

Outcome = tuple[StatusCode, str, MetadataLike]


def to_outcome(error: errors.FrontdeskError) -> Outcome:
    """Code, details and trailing metadata for `error`."""
    code = StatusCode[error.code]
    status = status_pb2.Status(code=code.value[0], message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN)
    for key, value in error.facts.items():
        info.metadata[key] = str(value)[:MOST_FACT_CHARS]
    status.details.add().Pack(info)
    if isinstance(error, errors.InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.problem)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return code, error.message, ((DETAILS, status.SerializeToString()),)


def outcome_of(error: Exception, method: str, set_code: StatusCode | None, set_details: str) -> Outcome:
    """What a servicer's exception means to the caller.

    Anything unexpected is INTERNAL with a generic text, and is
    logged with the trace id the text names.
    """
    if isinstance(error, errors.FrontdeskError):
        return to_outcome(error)
    if isinstance(error, AioRpcError):  # a call the servicer made failed: pass its status on
        return error.code(), error.details() or "", details_of(error)
    if isinstance(error, NotImplementedError):  # what generated base methods raise
        return set_code or StatusCode.UNIMPLEMENTED, set_details or "Method not implemented!", ()
    trace_id = trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
    _log.error("servicer failed", exc_info=error, extra={"rpc_method": method, "trace_id": trace_id})
    return StatusCode.INTERNAL, f"internal error, trace {trace_id}", ()


def details_of(error: AioRpcError) -> tuple[tuple[str, str | bytes], ...]:
    """The part of a failed call's trailing metadata that a forwarder passes on: the status details."""
    return tuple((key, value) for key, value in error.trailing_metadata() or () if key == DETAILS)


def from_rpc_error(error: AioRpcError) -> errors.FrontdeskError:
    """The FrontdeskError a servicer raised, as the caller of a stub sees it; facts come back as text."""
    code = error.code()
    message = error.details() or code.name
    facts: dict[str, object] = {}
    field, problem = "", message
    for detail in _details(error):
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(info):
            facts.update(info.metadata)
        elif detail.Unpack(bad) and bad.field_violations:
            field, problem = bad.field_violations[0].field, bad.field_violations[0].description
    if code is StatusCode.INVALID_ARGUMENT:
        facts.pop("field", None)
        return errors.InvalidArgument(field or "request", problem, **facts)
    kind = _KINDS.get(code)
    if kind is None:
        return errors.FrontdeskError(message, **facts)
    return kind(message, **facts)


def _details(error: AioRpcError) -> list[status_pb2.any__pb2.Any]:
    for _, value in details_of(error):
        if isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []
