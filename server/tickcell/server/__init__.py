"""Sessions over gRPC: a durable recurrent state each, advanced one step per frame."""
