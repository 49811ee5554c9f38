"""I-ASIDE in a training with Lightning (extra `lightning`): a callback that records by epoch.

It works with both names of the library, `lightning` and `pytorch_lightning`, and does no arithmetic
of its own: `training.SpectralHistory` does.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from iaside_plugins.adapters.compat import with_torchvision
from iaside_plugins.errors import InputError, MissingExtraError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.protocol import Protocol
from iaside_plugins.training import SpectralHistory

HOSTS = ("lightning.pytorch", "pytorch_lightning")
SHARDED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


def _bases() -> tuple[Any, ...]:
    """Return the `Callback` of each name that is imported, else of the first that is installed.

    Raises:
        MissingExtraError: If neither is.
    """
    names = [name for name in HOSTS if name in sys.modules]
    names = names or [n for n in HOSTS if importlib.util.find_spec(n.partition(".")[0])][:1]
    if not names:
        raise MissingExtraError.of("SpectralCallback needs Lightning", "lightning")
    # Its torchmetrics imports torchvision.
    hosts = [with_torchvision(partial(importlib.import_module, name)) for name in names]
    return tuple(host.Callback for host in hosts)


class SpectralCallback(*_bases()):  # type: ignore[misc]  # no types
    """Records a `SpectralHistory` at the end of training epochs, and logs it.

    ``Trainer(callbacks=[SpectralCallback((images, labels))])``. The module's own `forward` is
    measured, or what `wrap` makes of the module. Logged are `iaside/signed_score`,
    `iaside/clean_accuracy` and, for each band, `iaside/nats_band_i`: at the end of the training
    epoch, where a `ModelCheckpoint` or an `EarlyStopping` sees them. Checkpoints hold the history,
    so that a training that is resumed goes on with it. Of several processes the first one records,
    the others wait and log what it found. A second callback, of other images, needs a `name`.

    Args:
        data: As for `SpectralHistory`; the same images at every record.
        protocol: As for `SpectralHistory`.
        pairs: As for `SpectralHistory`.
        every: As for `SpectralHistory`; epochs are Lightning's, from 0 on.
        wrap: As for `SpectralHistory`: ``lambda module: module.net``, say.
        batch_size: As for `SpectralHistory`.
        precision: As for `SpectralHistory`.
        max_images: As for `SpectralHistory`.
        name: Tells this one from others of the same training, in what is logged
            (`iaside/NAME/signed_score`) and in checkpoints.

    Attributes:
        history: What was recorded.

    Raises:
        InputError: As `SpectralHistory`; and at the start of a training whose weights are split
            over processes, none of which can run the model alone.
        MissingExtraError: On import, if Lightning is not installed.
    """

    def __init__(  # noqa: PLR0913  the public signature
        self,
        data: Any,
        protocol: Protocol | None = None,
        *,
        pairs: Any = None,
        every: int = 1,
        wrap: Callable[[Any], Any] | None = None,
        batch_size: int | str = 64,
        precision: str = "float32",
        max_images: int | None = None,
        name: str = "",
    ) -> None:
        self.name = name
        self.history = SpectralHistory(
            data,
            protocol,
            pairs=pairs,
            every=every,
            wrap=wrap,
            batch_size=batch_size,
            precision=precision,
            max_images=max_images,
        )

    @property
    def state_key(self) -> str:
        """Key of the history in a checkpoint."""
        own: str = super().state_key
        return f"{own}/{self.name}" if self.name else own

    def on_fit_start(self, trainer: Any, _pl_module: Any) -> None:
        """Refuse what cannot be recorded."""
        strategy = type(trainer.strategy).__name__
        if strategy in SHARDED:
            raise InputError(
                f"SpectralCallback cannot run a model whose weights are split over processes "
                f"({strategy}): use the strategy 'ddp', or record a checkpoint afterwards"
            )

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Record in the first process; log in all, where callbacks look for it together."""
        found = None
        if trainer.is_global_zero:
            found = self.history.record(pl_module, trainer.current_epoch)
        logged = trainer.strategy.broadcast(None if found is None else self._logged(found))
        if logged is not None:
            pl_module.log_dict(logged, sync_dist=True)  # the same in all: their mean is it

    def state_dict(self) -> dict[str, Tensor]:
        """Return the history for a checkpoint."""
        return self.history.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the history of a checkpoint."""
        self.history.load_state_dict(state_dict)

    def _logged(self, found: SpectralImportance) -> dict[str, float]:
        group = f"iaside/{self.name}" if self.name else "iaside"
        return {
            f"{group}/signed_score": found.signed_score,
            f"{group}/clean_accuracy": found.clean_accuracy,
            **{f"{group}/nats_band_{i}": float(v) for i, v in enumerate(found.shapley_values)},
        }
