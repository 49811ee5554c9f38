"""RobustBench's zoo, by the names RobustBench gives: data sets, threats, models, preprocessing."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.compat import import_robustbench
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.classifier import LoadedNetwork, unknown_name
from iaside_plugins.adapters.models.file_kinds import check_is_weights
from iaside_plugins.corruptions.error_rates import CORRUPTIONS_3DCC
from iaside_plugins.errors import InputError, first_line

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
TRAINING = {
    "Linf": "robust to Linf attacks",
    "L2": "robust to L2 attacks",
    "corruptions": "robust to common corruptions",
}
MODEL_DIR = Path("models")  # RobustBench's default, below the current directory
_log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class Geometry:
    """How a decoded image is resized and cropped.

    Attributes:
        name: Name for people and entries: RobustBench's key, or where the geometry comes from.
        preprocessing: Resize of the short side, centre crop, interpolation. As in torchvision, a
            crop larger than the image pads it with black.
        square: Side in pixels that both sides are resized to afterwards, with the interpolation
            of `preprocessing` and without keeping the aspect ratio; None for no such resize.
        transform: The caller's own function, PIL image -> (C, H, W) float tensor in [0, 1], used
            instead of the steps above.
        note: Where and why this departs from RobustBench; None if it does not.
    """

    name: str
    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    square: int | None = None
    transform: Callable[[Any], torch.Tensor] | None = None
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the ``preprocessing`` group of an entry's model, as JSON values."""
        entry = self.preprocessing.to_dict()
        if self.transform is not None:
            return {**entry, "interpolation": "the caller's own function"}
        if self.square is not None:
            how = f"{self.preprocessing.interpolation}, aspect ratio not kept"
            return {**entry, "resize": self.square, "crop": self.square, "interpolation": how}
        return entry

    def same_pixels(self, other: Geometry) -> bool:
        """Return whether both make the same pixels of every image."""
        plain = [dataclasses.replace(g, name="", note=None) for g in (self, other)]
        return plain[0] == plain[1]


KEYS = {
    "Res256Crop224": Geometry("Res256Crop224", Preprocessing(256, 224)),
    "Crop288": Geometry("Crop288", Preprocessing(None, 288)),
    None: Geometry("as the files are"),
    "Res224": Geometry("Res224", square=224),
    "BicubicRes256Crop224": Geometry("BicubicRes256Crop224", Preprocessing(256, 224, "bicubic")),
}
STANDARD = KEYS["Res256Crop224"]  # the geometry in which ImageNet-C was made


def of_zoo(threat: Threat, model_name: str) -> Geometry:
    """Return the geometry of a model of RobustBench's zoo.

    Raises:
        InputError: The zoo has no such model; nearest names are suggested.
        MissingExtraError: RobustBench is not installed.
    """
    check_zoo_name(threat.dataset, threat.folder, model_name)
    registered = timm_name(threat.dataset, threat.folder, model_name)
    entry = zoo(threat.dataset, threat.folder).get(model_name, {})
    listed = KEYS.get(entry.get("preprocessing"), KEYS[None])
    if registered is None:
        return listed
    own = _of_timm(registered)
    if threat.model != threat.folder and not own.same_pixels(listed):
        note = (
            f"RobustBench prepares the clean images of {model_name} for {threat.model} by "
            f"{listed.name} and for {threat.folder} by {own.name}; here {own.name} for both"
        )
        _log.warning("%s", note)
        return dataclasses.replace(own, note=note)
    return own


def _of_timm(registered: str) -> Geometry:
    """Return the geometry that RobustBench reads from a model's configuration in timm."""
    import_robustbench()
    from robustbench.data import get_timm_model_preprocessing

    with torch.random.fork_rng(devices=()):  # RobustBench builds the whole network for it
        resize, crop, _ = get_timm_model_preprocessing(registered).transforms
    size, side = int(resize.size), int(crop.size[0])
    own = Preprocessing(size, side, resize.interpolation.value)
    return Geometry(f"Resize {size}, CenterCrop {side}, {own.interpolation}", own)


def from_robustbench(
    path: str, *, pretrained: bool, model_dir: Path | str | None = None
) -> LoadedNetwork:
    """Load a model of the zoo, with its weights from `model_dir/<dataset>/<threat>/<name>.pt`.

    RobustBench downloads a file that is not there. Files are read with torch's ``weights_only``.

    Args:
        path: DATASET/THREAT/NAME, such as imagenet/Linf/Salman2020Do_R18.
        pretrained: Whether to load the weights.
        model_dir: Folder of the weights; `MODEL_DIR` by default.

    Raises:
        InputError: Another form, unknown names (the nearest are suggested), or weights that
            cannot be downloaded or read.
        MissingExtraError: RobustBench is not installed.
    """
    parts = path.split("/")
    if len(parts) != 3 or parts[0] not in DATASETS or parts[1] not in THREAT_MODELS:
        raise InputError(
            f"expected robustbench:DATASET/THREAT/NAME with one of {', '.join(DATASETS)} and one "
            f"of {', '.join(THREAT_MODELS)}, got robustbench:{path}"
        )
    dataset, threat, name = parts[0], parts[1].removesuffix("_3d"), parts[2]
    check_zoo_name(dataset, threat, name)
    file = Path(model_dir or MODEL_DIR) / dataset / threat / f"{name}.pt"
    net = _loaded(file) if pretrained else _untrained(dataset, threat, name)
    resized = Preprocessing()
    if dataset == "imagenet":
        resized = of_zoo(Threat(dataset, threat), name).preprocessing
    return LoadedNetwork(
        net=net,
        name=name,
        architecture=type(getattr(net, "model", net)).__name__,
        preprocessing=resized,
        weights=f"RobustBench {dataset}/{threat}/{name}",
        dataset=dataset,
        training=TRAINING[threat],
        file=file if pretrained and file.is_file() else None,
    )


def _untrained(dataset: str, threat: str, name: str) -> nn.Module:
    """Build the network of a model without its weights."""
    registered = timm_name(dataset, threat, name)
    net: nn.Module
    try:
        if registered is None:
            net = zoo(dataset, threat)[name]["model"]()
        else:
            import timm

            net = timm.create_model(registered, num_classes=N_CLASSES[dataset])
    except Exception as error:  # some networks of the zoo download their weights as they are built
        raise InputError(
            f"RobustBench cannot build {name} without its own weights ({type(error).__name__}); "
            "leave out the weights file"
        ) from error
    return net


def _loaded(file: Path) -> nn.Module:
    """Load the model of a weights file, `.../<dataset>/<threat>/<name>.pt`, as RobustBench does.

    Raises:
        InputError: RobustBench's loader fails, whatever it raises.
    """
    import_robustbench()
    from robustbench.utils import load_model as load

    dataset, threat, name = file.parts[-3], file.parts[-2], file.stem
    was_there = file.is_file()
    printed = io.StringIO()
    if was_there:
        check_is_weights(file)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            net: nn.Module = load(name, str(file.parents[2]), dataset, threat)
    except Exception as error:  # download, disk and file format errors alike
        reason = first_line(error, type(error).__name__)
        if file.is_file() and not was_there:
            file.unlink()  # an error page or half a file would be taken for the weights next time
        hint = f"put the checkpoint at {dataset}/{threat}/{name}.pt in the model folder"
        if was_there:
            hint = f"{file.name} in the model folder may be damaged or hold Python objects"
        raise InputError(
            f"no weights for robustbench:{dataset}/{threat}/{name}: "
            f"{re.sub(r'(/[^ ]+)+', '...', reason)[:200]}; {hint}"
        ) from error
    return net
