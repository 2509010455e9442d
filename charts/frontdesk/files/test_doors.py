"""Asks the doors of the services named as arguments: ready over HTTP, serving over gRPC, shut without a token."""

import sys
import time
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 10
PATIENCE = 30


def problem(host):
    with urllib.request.urlopen(f"http://{host}:8000/readyz", timeout=SECONDS) as answer:
        answer.read()
    try:
        urllib.request.urlopen(f"http://{host}:8000/cookies/list", timeout=SECONDS)
        return "a door opens without a token"
    except urllib.error.HTTPError as refused:
        if refused.code not in (401, 404):
            return f"a door without a token says {refused.code}"
    with grpc.insecure_channel(f"{host}:50051") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    return None if answer.status == health_pb2.HealthCheckResponse.SERVING else "gRPC does not serve"


def settled(host):
    """The problem that is left after a while: networks need a moment until a new pod may speak."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            found = problem(host)
        except (OSError, grpc.RpcError) as error:
            found = str(error)
        if found is None or time.monotonic() > end:
            return found
        time.sleep(1)


def main(hosts):
    failed = False
    for host in hosts:
        found = settled(host)
        print(f"{host}: {found or 'well'}", flush=True)
        failed = failed or found is not None
    return failed


sys.exit(main(sys.argv[1:]))
