"""The names of RobustBench: data sets, threats, corruptions, and the models of its zoo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iaside_plugins.adapters.compat import import_robustbench
from iaside_plugins.adapters.models.classifier import unknown_name
from iaside_plugins.corruptions.error_rates import CORRUPTIONS_3DCC
from iaside_plugins.errors import InputError

DATASETS = ("cifar10", "cifar100", "imagenet")
THREAT_MODELS = ("Linf", "L2", "corruptions", "corruptions_3d")
N_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
# In the order of RobustBench's loops and of the columns of its tables.
ORDER_2D = (
    "shot_noise",
    "motion_blur",
    "snow",
    "pixelate",
    "gaussian_noise",
    "defocus_blur",
    "brightness",
    "fog",
    "zoom_blur",
    "frost",
    "glass_blur",
    "impulse_noise",
    "contrast",
    "jpeg_compression",
    "elastic_transform",
)
ORDER = {"corruptions": ORDER_2D, "corruptions_3d": CORRUPTIONS_3DCC}


@dataclass(frozen=True)
class Threat:
    """A data set and a threat model that go together.

    Attributes:
        dataset: One of `DATASETS`.
        model: One of `THREAT_MODELS`.
    """

    dataset: str
    model: str

    @classmethod
    def of(cls, dataset: Any, threat_model: Any) -> Threat:
        """Return the threat of RobustBench's enums or their strings.

        Raises:
            InputError: Other names, or 3D corruptions of a data set other than ImageNet.
        """
        found = []
        for what, given, known in (
            ("dataset", dataset, DATASETS),
            ("threat_model", threat_model, THREAT_MODELS),
        ):
            value = getattr(given, "value", given)
            if value not in known:
                raise InputError(f"{what} must be one of {', '.join(known)}, got {value!r}")
            found.append(str(value))
        threat = cls(*found)
        if threat.suffix and threat.dataset != "imagenet":
            raise InputError(f"corruptions_3d are of imagenet only, got dataset {threat.dataset!r}")
        return threat

    @property
    def is_attack(self) -> bool:
        """Whether the images are attacked rather than corrupted."""
        return self.model in ("Linf", "L2")

    @property
    def folder(self) -> str:
        """Threat model by which zoo and tables are sorted: that of 3D corruptions is the 2D one."""
        return self.model.removesuffix("_3d")

    @property
    def suffix(self) -> str:
        """End of the names of RobustBench's numbers and tables: "_3d" of 3D corruptions."""
        return self.model.removeprefix(self.folder)

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Corruptions in RobustBench's order; empty for attacks."""
        return ORDER.get(self.model, ())


def zoo(dataset: str, folder: str) -> dict[str, Any]:
    """Return RobustBench's models of a data set and a threat model (without "_3d"), by name.

    Raises:
        InputError: RobustBench has none.
        MissingExtraError: RobustBench is not installed.
    """
    import_robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    models = model_dicts[BenchmarkDataset(dataset)].get(ThreatModel(folder))
    if not models:
        raise InputError(f"RobustBench has no models of {dataset} for {folder}")
    return dict(models)


def timm_name(dataset: str, folder: str, name: str) -> str | None:
    """Return the name by which RobustBench registers a model with timm, or None if it does not."""
    import_robustbench()
    import timm

    spelled = f"{name.lower().replace('-', '_')}_{dataset}_{folder.lower()}"
    return spelled if timm.is_model(spelled) else None


def in_zoo(dataset: str, folder: str, name: str) -> bool:
    """Return whether RobustBench has a model, in its own list or registered with timm."""
    return name in zoo(dataset, folder) or timm_name(dataset, folder, name) is not None


def check_zoo_name(dataset: str, folder: str, name: str) -> None:
    """Raise InputError, with the nearest names, unless the zoo has the model."""
    if not in_zoo(dataset, folder, name):
        raise unknown_name(f"RobustBench {dataset}/{folder}", name, zoo(dataset, folder))
