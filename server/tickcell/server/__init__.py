"""Sessions over gRPC: a durable recurrent state each, advanced one time step per frame."""
