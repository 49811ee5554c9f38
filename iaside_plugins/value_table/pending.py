"""What a group of images gave, on its way from the device to the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.shapley.coalitions import BoolMatrix
from iaside_plugins.tensors import to_host


@dataclass(frozen=True)
class Launched:
    """Passes that were begun.

    Attributes:
        run: Which of the coalitions went through the model, (R,) indices.
        values: Their log-likelihoods (G, R), nats.
        finite: Whether their logits are finite (G, R).
        hits: Whether the grand coalition is right (G,).
        empty: Log-likelihoods of the black image (G,) for the coalitions that did not run, or None.
    """

    run: npt.NDArray[np.int64]
    values: Tensor
    finite: Tensor
    hits: Tensor
    empty: Tensor | None
    coalitions: BoolMatrix | None = None
    names: Sequence[str] = ()
    event: Any = None

    @classmethod
    def of(
        cls, parts: Sequence[Launched], coalitions: BoolMatrix, names: Sequence[str]
    ) -> Launched:
        """Several groups over the same coalitions as one, its copy to the host begun."""
        empties = [part.empty for part in parts if part.empty is not None]
        launched = cls(
            run=parts[0].run,
            values=to_host(torch.cat([part.values for part in parts])),
            finite=to_host(torch.cat([part.finite for part in parts])),
            hits=to_host(torch.cat([part.hits for part in parts])),
            empty=to_host(torch.cat(empties)) if empties else None,
            coalitions=coalitions,
            names=names,
        )
        if parts[0].values.device.type != "cuda":
            return launched
        return replace(launched, event=torch.cuda.current_stream().record_event())

    def finish(self) -> tuple[Tensor, Tensor]:
        """Log-likelihoods (G, R) float64 of all coalitions and hits (G,), once they are here.

        Raises:
            InputError: For non-finite logits; says which image and coalition.
        """
        assert self.coalitions is not None
        if self.event is not None:
            self.event.synchronize()
        if not bool(self.finite.all()):
            image, row = (int(k) for k in torch.nonzero(~self.finite)[0])
            bands = np.flatnonzero(self.coalitions[self.run[row]]).tolist()
            raise InputError(
                "the model gives non-finite logits (NaN or infinite) for image "
                f"{self.names[image]}, coalition of bands {bands}; check the model's weights and "
                "precision"
            )
        table = torch.zeros(len(self.values), len(self.coalitions), dtype=torch.float64)
        if self.empty is not None:
            table[:] = self.empty.double()[:, None]
        table[:, torch.from_numpy(self.run)] = self.values.double()
        return table, self.hits
