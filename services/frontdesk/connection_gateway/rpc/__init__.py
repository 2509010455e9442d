"""The gateway's gRPC servicers."""
