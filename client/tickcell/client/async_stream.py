"""The outputs of a stream of frames, awaited one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.client import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from tickcell.client.async_pipeline import AsyncPipeline
    from tickcell.client.drawing import Drawing
    from tickcell.client.kept_frames import KeptFrames
    from tickcell.client.session_core import SessionCore


class AsyncStream:
    """Gives each frame's output, in order: an asynchronous iterator.

    It ends where the loop over it is left: by `break`, by an exception, by a task that is
    cancelled. An asynchronous generator would end some time later.
    """

    def __init__(
        self,
        core: SessionCore,
        begin: Callable[[], tuple[Drawing | KeptFrames, AsyncPipeline]],
        end: Callable[[AsyncPipeline], None],
    ) -> None:
        """Begins with the first output that is asked for.

        Args:
          core: the session's.
          begin: opens the pipeline, and begins to draw for it.
          end: ends the pipeline.
        """
        self._core = core
        self._begin = begin
        self._end = end
        self._drawing: Drawing | KeptFrames | None = None
        self._pipeline: AsyncPipeline | None = None
        self._is_over = False
        # Those that came together and are not given yet.
        self._outputs: Iterator[NDArray[np.float32]] = iter(())

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> NDArray[np.float32]:
        try:
            output = next(self._outputs, None)
            if output is None and await self._take():
                output = next(self._outputs)
        except BaseException as failure:
            if isinstance(failure, errors.RefusedError) and self._pipeline is not None:
                self._pipeline.drop_refused()
            self._leave()
            raise
        if output is None:
            self._leave()
            raise StopAsyncIteration
        assert self._pipeline is not None
        self._pipeline.release()
        return output

    async def aclose(self) -> None:
        """Leaves the stream, and waits until nothing of it is left."""
        pipeline = self._pipeline
        self._leave()
        if pipeline is not None:
            await pipeline.closed()

    def __del__(self) -> None:
        self._leave()

    async def _take(self) -> bool:
        """Takes the next outputs; false if no more come."""
        if self._is_over:
            return False
        if self._pipeline is None:
            self._drawing, self._pipeline = self._begin()
        assert self._drawing is not None
        self._drawing.fill()
        outputs = await self._pipeline.take()
        if outputs is None:
            self._drawing.check()
            return False
        self._outputs = iter(self._core.shapes.outputs(outputs.data))
        return True

    def _leave(self) -> None:
        self._is_over = True
        self._outputs = iter(())
        if self._pipeline is not None:
            self._end(self._pipeline)
