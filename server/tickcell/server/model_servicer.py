"""The methods of ModelService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.server import calls, messages
from tickcell.v1 import model_service_pb2 as pb

if TYPE_CHECKING:
    from tickcell.model import Card
    from tickcell.server.caller import Caller
    from tickcell.server.catalogue import Catalogue


class ModelServicer:
    """Shows the models that are served."""

    def __init__(self, gate: calls.Gate, catalogue: Catalogue) -> None:
        self._gate = gate
        self._catalogue = catalogue

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {
            "ListModels": calls.unary(self._gate, pb.ListModelsRequest, self._list),
            "GetModel": calls.unary(self._gate, pb.GetModelRequest, self._get),
        }

    async def _list(self, _: Caller, request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        after, size = messages.page(request)
        models = [model for model in self._catalogue if _place(model.card) > after]
        last = models[size - 1].card if len(models) > size else None
        return pb.ListModelsResponse(
            models=[messages.model(model) for model in models[:size]],
            next_page_token=messages.page_token(_place(last) if last else ""),
        )

    async def _get(self, _: Caller, request: pb.GetModelRequest) -> pb.GetModelResponse:
        found = self._catalogue.find(request.name, request.version)
        return pb.GetModelResponse(model=messages.model(found))


def _place(card: Card) -> str:
    """Returns what orders the models; the separator sorts before all that names may hold."""
    return f"{card.name} {card.version}"
