"""Infers by KServe's client; a program of its own, since its messages clash with Triton's.

python kserve_client.py ADDRESS FRAMES.npy OUTPUTS.npy
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


async def main(address: str, frames: np.ndarray) -> np.ndarray:
    client = InferenceGRPCClient(address)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("drive")
    outputs = []
    for index, frame in enumerate(frames):
        tensor = InferInput("frames", [1, len(frame)], "FP32")
        # Typed contents and raw ones, by turns.
        tensor.set_data_from_numpy(frame[np.newaxis], binary_data=index % 2 == 0)
        flags = {
            "sequence_id": "kserve",
            "sequence_start": index == 0,
            "sequence_end": index == len(frames) - 1,
        }
        response = await client.infer(InferRequest("drive", [tensor], parameters=flags))
        outputs.append(response.outputs[0].as_numpy())
    ended = InferRequest("drive", [tensor], parameters={"sequence_id": "kserve"})
    refused = ""
    try:
        await client.infer(ended)
    except grpc.RpcError as error:
        refused = str(error.details())
    assert "must specify the START flag" in refused
    await client.close()
    return np.concatenate(outputs)


if __name__ == "__main__":
    np.save(sys.argv[3], asyncio.run(main(sys.argv[1], np.load(sys.argv[2]))))
