"""Checks before any long work: the model's mode and device, images and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from iaside_plugins.devices import pick_device
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.spectral.partition import check_image_size

PLAIN_INTEGERS = ("integers", "manifest", "records")
"""The label spaces that do not know how many classes there are."""

FEWEST_PAIRS, MOST_PAIRS = 4, 64  # images of a batch whose pairs are judged
AS_ALIKE = 0.01  # difference of correlations that copies of an image may have

SINGLE_LOGIT = (
    "expected logits of at least 2 classes, got (N, 1): the likelihood of a single class is always "
    "1; return two logits, for example torch.cat([torch.zeros_like(z), z], dim=1)"
)


def modules_in_training(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a model that are in training mode, by name ("the model" for itself)."""
    fixed = {id(part) for one in model.modules() if has_fixed_mode(one) for part in one.modules()}
    return {
        name or "the model": part
        for name, part in model.named_modules()
        if getattr(part, "training", False) and id(part) not in fixed
    }


def has_fixed_mode(module: nn.Module) -> bool:
    """Return whether a module is that of an exported program: its mode is part of its code.

    `torch.export` replaces the methods that would change the mode; `training` says nothing there.
    """
    return isinstance(module, fx.GraphModule) and "train" in vars(module)


def check_eval_mode(model: nn.Module) -> None:
    """Raise InputError if a module, or a part of it, is in training mode."""
    training = modules_in_training(model)
    if training:
        raise InputError(
            f"expected eval mode, but {next(iter(training))} is in training mode; call "
            "model.eval() first: batch norm and dropout would make every number depend on the batch"
        )


def model_device(model: Any, device: torch.device | str | None = None) -> torch.device:
    """Return the device to run on: the model's own; the model is never moved.

    Raises:
        InputError: If `device` names none, or the weights are elsewhere, if the model is in
            training mode, or if its weights were never loaded.
    """
    wanted = None if device is None else _named(device)
    if not isinstance(model, nn.Module):
        return wanted or torch.device("cpu")
    check_eval_mode(model)
    tensors = [*model.parameters(), *model.buffers()]
    for name, one in (*model.named_parameters(), *model.named_buffers()):
        if one.device.type == "meta":
            raise InputError(
                f"expected a model with weights, but {name} is on the meta device: its weights "
                "were never loaded; call model.to_empty(device='cpu') and load_state_dict first"
            )
    own = tensors[0].device if tensors else wanted or torch.device("cpu")
    if wanted is not None and (own.type, own.index or 0) != (wanted.type, wanted.index or 0):
        raise InputError(
            f"the model is on {own} and device={wanted} was asked for: move it with "
            f"model.to('{wanted}') or leave device out"
        )
    return own


def _named(device: torch.device | str) -> torch.device:
    """Return a device by its name, or raise InputError."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device must be cpu, cuda[:i] or alike, got {device!r}") from error
    return pick_device(str(found)) if found.type == "cuda" else found


def check_images(images: Tensor, n_bands: int | None = None) -> None:
    """Raise unless images are (N, C, H, W), floating point, finite and in [0, 1].

    Raises:
        InputTypeError: For integer images.
        InputError: For another shape, for images below 2 * n_bands (if given), or for values
            outside [0, 1] by more than 1e-6 (rounding of float32 arithmetic is let through).
    """
    if not torch.is_tensor(images) or not images.is_floating_point():
        kind = images.dtype if torch.is_tensor(images) else type(images).__name__
        raise InputTypeError(
            f"expected float images in [0, 1], got {kind}; for uint8 use images.float() / 255"
        )
    if images.ndim != 4:
        raise InputError(f"expected images of shape (N, C, H, W), got {tuple(images.shape)}")
    check_range(images)
    if n_bands is not None:
        check_image_size(images.shape[2], images.shape[3], n_bands)


def check_range(images: Tensor, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
    """Raise InputError for pixels out of bounds by more than rounding, 1e-6 of their range."""
    if not images.numel():
        return
    lower, upper = bounds
    low, high = (float(end) for end in images.aminmax())
    rounding = 1e-6 * (upper - lower)
    if not (low >= lower - rounding and high <= upper + rounding):  # NaN fails too
        raise InputError(
            f"expected images in [{lower:g}, {upper:g}], got [{low:.6g}, {high:.6g}], beyond by "
            f"{max(lower - low, high - upper):.3g}; clip them; if they are already normalised, "
            "undo it and let the model normalise"
            + ("; if they are 0..255, divide by 255" if upper == 1 else "")
        )


def unpaired_warning(clean: Tensor, perturbed: Tensor, under: str = "the perturbation") -> str:
    """Return a line that says clean and perturbed images seem to be in different orders, or "".

    That is so where most perturbed images correlate more with the clean image of another one than
    with their own, by more than `AS_ALIKE`: without its sign, which a negative has. Brightness and
    contrast change no correlation.

    Args:
        clean: (N, C, H, W); the first `MOST_PAIRS` are looked at, none where N < `FEWEST_PAIRS`.
        perturbed: The same images perturbed.
        under: What the perturbation is called.
    """
    if len(clean) < FEWEST_PAIRS:
        return ""
    rows = [one[:MOST_PAIRS].detach().flatten(1).float() for one in (clean, perturbed)]
    own, other = (nn.functional.normalize(one - one.mean(1, keepdim=True)) for one in rows)
    alike = (other @ own.to(other.device).T).abs()
    n_other = int((alike.amax(dim=1) > alike.diagonal() + AS_ALIKE).sum())
    if 2 * n_other <= len(alike):
        return ""
    return (
        f"{n_other} of {len(alike)} images under {under} are more like the clean image of another "
        "one than like their own: are clean and perturbed images in the same order? They are "
        "taken as pairs"
    )


def size_clash(id_a: str, shape_a: Sequence[int], id_b: str, shape_b: Sequence[int]) -> InputError:
    """Return the error for images of two sizes (H, W, ...) in one run, given their names."""
    (height_a, width_a), (height_b, width_b) = shape_a[:2], shape_b[:2]
    return InputError(
        f"images must have one size; {id_a} is {height_a} x {width_a}, {id_b} is "
        f"{height_b} x {width_b} (height x width); give a crop"
    )


def non_finite(whose: str, what: str = "logits") -> InputError:
    """Return the error for outputs that are NaN or infinite, given what they are the outputs of."""
    return InputError(
        f"the model gives non-finite {what} (NaN or infinite) for {whose}; check the model's "
        "weights and precision"
    )


def check_labels(labels: Tensor, n_images: int, n_classes: int | None = None) -> Tensor:
    """Return the labels as int64 (N,).

    Args:
        labels: Whole numbers of any type.
        n_images: Number of images N.
        n_classes: Number of the model's outputs, once known.

    Raises:
        InputError: For another shape, negative or fractional labels, or labels that the model has
            no output for.
    """
    labels = torch.as_tensor(labels)
    if labels.shape != (n_images,):
        raise InputError(
            f"expected labels of shape ({n_images},), one an image, got {tuple(labels.shape)}"
        )
    whole = labels.to(torch.int64)
    wrong = labels[(whole.to(labels.dtype) != labels) | (whole < 0)]
    if len(wrong):
        raise InputError(
            f"expected labels that are class indices 0, 1, 2, ..., got {wrong[0].item()}"
        )
    if n_classes is not None and len(whole):
        check_in_range(int(whole.max()), n_classes)
    return whole


def check_in_range(label: int, n_classes: int) -> None:
    """Raise InputError for a label that the model has no output for."""
    if label >= n_classes:
        raise InputError(
            f"label {label} is out of range: the model has {n_classes} outputs "
            f"(labels 0 to {n_classes - 1}); check the class map of the data"
        )


@dataclass(frozen=True)
class KnownClasses:
    """The classes of labelled images, where the source of the labels knows all of them.

    Attributes:
        name: Of the label space: a known data set, "file", "model", "rank" or "names".
        n_classes: Number of its classes.
        n_found: Number of those that have an image here, or None.
    """

    name: str
    n_classes: int
    n_found: int | None = None

    @classmethod
    def of(cls, data: Any) -> KnownClasses | None:
        """Return those of data with a `label_space`; None where labels are plain integers."""
        space = getattr(data, "label_space", None)
        if space is None or space.name in PLAIN_INTEGERS:
            return None
        labels = {record.label for record in getattr(data, "records", ())}
        return cls(space.name, space.n_classes, len(labels) or None)

    def check(self, n_outputs: int) -> None:
        """Raise InputError for a model of another number of outputs."""
        if n_outputs == self.n_classes:
            return
        ways = ["give classes=FILE with the class folder of every output, in their order"]
        if n_outputs == self.n_classes + 1:
            ways.insert(0, "if one output is a background class, leave it out in the model")
        if self.name != "rank" and n_outputs == self.n_found:
            ways.append("or labels='rank' if the outputs are numbered as the sorted folders")
        read = {
            "file": "of the file of classes",
            "model": "that the model names",
            "rank": "of the sorted folders",
            "names": "that the images' file names",
        }
        of = read.get(self.name, f"of {self.name}, by the names of the folders")
        raise InputError(
            f"the model has {n_outputs} outputs, and the labels are classes {of}, "
            f"{self.n_classes} of them: {', '.join(ways)}"
        )
