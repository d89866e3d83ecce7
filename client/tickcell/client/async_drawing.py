"""Frames drawn from an asynchronous iterator, by a task."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from tickcell.client.drawing import Drawing

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

    from tickcell.client.async_pipeline import AsyncPipeline
    from tickcell.client.frames import Encoder


class AsyncDrawing(Drawing):
    """An asynchronous iterator, drawn from by a task.

    A task could be cancelled amid a draw, but what becomes of a source then is not known: a
    frame may be lost, and a generator ends. So it never is, and a draw that is open stays
    open, as in a thread.
    """

    def __init__(
        self, source: AsyncIterable[Any], encoder: Encoder, keep: Callable[[bytes], None]
    ) -> None:
        """Begins with nothing drawn from a source; the rest is as for `Drawing`."""
        super().__init__(aiter(source), encoder, keep)

    def _is_running(self) -> bool:
        return self._runner is not None and not self._runner.done()

    def _new_runner(self) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._run(), name="tickcell-frames")

    def _start(self) -> None:
        """Needs to do nothing: a task runs once this one waits."""

    async def _run(self) -> None:
        me = asyncio.current_task()
        while (pipeline := cast("AsyncPipeline | None", self._next_pipeline(me))) is not None:
            # Room comes first: a frame that is drawn is one that can be kept.
            if not (await pipeline.room_came() if self._can_wait else pipeline.needs_frames):
                if self._is_through_with(pipeline):
                    return
                continue
            if self._open_draw(pipeline):
                await self._draw()

    async def _draw(self) -> None:
        try:
            encoded = self._encoder.one(await anext(self.iterator))
        except StopAsyncIteration:
            self._close_draw()
        except asyncio.CancelledError as cancelled:
            # The event loop ends.
            self._close_draw(failure=cancelled)
            raise
        except BaseException as failure:  # noqa: BLE001 - raised where outputs are awaited
            self._close_draw(failure=failure)
        else:
            self._close_draw(encoded)
