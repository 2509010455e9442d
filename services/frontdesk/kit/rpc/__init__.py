"""Calls between services: one servicer, two transports.

`channel.NatsChannel` and `server.RpcServer` carry generated stubs and servicers over NATS;
`grpc_door.GrpcServer` opens the same servicers to the outside; `status` maps FrontdeskError to gRPC status
and back, for all three.
"""
