"""The Open Inference Protocol v2, with Triton's extensions, as an adapter over the engine.

A sequence of its clients is a session of ours; docs/triton.md says which request does
what. No other service knows of this one. It needs the extra "triton", which brings the
protocol's messages.
"""
