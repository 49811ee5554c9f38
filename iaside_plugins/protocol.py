"""Protocol: every choice that changes a number, and a stable id made from them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from typing import Any

from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.integers import as_integer
from iaside_plugins.shapley.score import BETA
from iaside_plugins.spectral.absence import ABSENCES
from iaside_plugins.spectral.partition import BAND_NORMS
from iaside_plugins.spectral.range_handling import RANGE_HANDLINGS

METHOD_VERSION = 1  # raised whenever the same protocol would give another number
MAX_EXACT_BANDS = 12
MAX_BANDS = 32
MANY_IMAGES = 300  # for which chains in place of all coalitions know the scores as well
CHOICES = {
    "band_norm": (*BAND_NORMS, "boxes"),
    "absence": tuple(ABSENCES),
    "range_handling": tuple(RANGE_HANDLINGS),
    "estimator": ("exact", "permutation", "regression", "gaussian_process"),
    "forwards": ("plain", "fast", "compiled"),
}
OF_PAIRS = ("regression", "gaussian_process")
"""Estimators that evaluate `n_coalitions` coalitions, in pairs of complements."""


def method_identity() -> dict[str, Any]:
    """Return what the identity of a run says of `METHOD_VERSION`: nothing for the first one."""
    return {} if METHOD_VERSION == 1 else {"method_version": METHOD_VERSION}


def _digest(fields: dict[str, Any]) -> str:
    """Return the SHA-256 of fields of a protocol."""
    text = json.dumps(
        {"method_version": METHOD_VERSION, **fields}, sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Protocol:
    """Every choice that changes a spectral importance.

    Attributes:
        n_bands: Number of bands M; 2 to 12 for the exact estimator, to 32 for the others.
        band_norm: "chebyshev" (square rings) or "euclidean" (round rings); "boxes" are the
            released script's, not symmetric under k -> -k for even sides.
        absence: What stands in for a missing band, of `spectral.absence.ABSENCES`: "zero";
            "gaussian", white noise of standard deviation `absence_std` in pixels;
            "replacement", the spectrum of another image of the data set. The script's:
            "gaussian_bins" (N(0, 0.5^2) real and imaginary parts per bin, not Hermitian) and
            "batch_replacement" (another image of the same batch, possibly itself).
        range_handling: What is done with coalition images outside [0, 1]: "none", "clip",
            "rescale" (minimum and maximum of each image to 0 and 1); the script's
            "batch_modulus" (modulus, then minimum and maximum of the whole batch).
        estimator: "exact" (all 2**n_bands coalitions), "permutation", "regression" or
            "gaussian_process" (some, drawn anew for every image; see `sampling`). The last two
            evaluate the same coalitions; a Gaussian process makes more of them, in more time.
        n_permutations: Antithetic pairs of chains an image, for the permutation estimator. One
            pair passes 2 (n_bands - 1) coalitions between the empty and the grand one, n of
            them n times as many less those they share: with 8 bands and the zero absence 15
            passes an image, 4 pairs 45 and n_bands pairs, a full cycle and the best use of
            passes, 57, where the exact estimator makes 255.
        n_coalitions: Coalitions an image for the regression and gaussian_process estimators, the
            empty and the grand one and complements among them: an even number from 8 n_bands to
            2**n_bands.
        beta: Weight ratio of neighbouring bands in the score, in (0, 1).
        temperature: Divides the logits before the softmax, above 0.
        seed: Seeds whatever is random (absence, permutations, shuffling).
        absence_std: Pixel standard deviation of the "gaussian" absence, images in [0, 1].
        black_empty: Whether the empty coalition is a black image whatever the absence.
        image_batch: Images that "batch_modulus" rescales together.
        shuffled: Whether every coalition sees the images batched in another order.
        forwards: "plain" runs the model as it is; "fast" folds batch norms, puts channels last,
            picks the number of threads, runs onnxruntime on a CPU where that is installed, or
            replays CUDA graphs, each where the log-probabilities stay within 1e-3 nats (see
            `inference.forward`); "compiled" adds torch.compile instead of the last two. Like device
            and batch size it is no part of the id: what was in use is recorded with each result.

    Raises:
        InputError: For a value out of range; the message says what was expected.
    """

    n_bands: int = 8
    band_norm: str = "chebyshev"
    absence: str = "zero"
    range_handling: str = "none"
    estimator: str = "exact"
    n_permutations: int = 1
    n_coalitions: int = 256
    beta: float = BETA
    temperature: float = 1.0
    seed: int = 0
    absence_std: float = 0.5
    black_empty: bool = False
    image_batch: int = 10
    shuffled: bool = False
    forwards: str = "plain"

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}"
                )
        for name, least in (
            ("n_bands", 2),
            ("n_permutations", 1),
            ("n_coalitions", 4),
            ("image_batch", 1),
            ("seed", 0),
        ):
            object.__setattr__(self, name, as_integer(name, getattr(self, name), least))
        for name in ("black_empty", "shuffled"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be true or false, got {getattr(self, name)!r}")
        for name, greatest in (("beta", 1.0), ("temperature", inf), ("absence_std", inf)):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not 0 < value < greatest:
                raise InputError(f"{name} must be a number in (0, {greatest}), got {value!r}")
            object.__setattr__(self, name, float(value))  # 1 and 1.0 are one protocol
        if self.n_bands > MAX_BANDS:
            raise InputError(f"n_bands must be at most {MAX_BANDS}, got {self.n_bands}")
        if self.estimator == "exact" and self.n_bands > MAX_EXACT_BANDS:
            raise InputError(
                f"n_bands={self.n_bands} would cost 2**{self.n_bands} = {2**self.n_bands:,} forward"
                f" passes an image with the exact estimator; use n_bands <= {MAX_EXACT_BANDS} or "
                "estimator='permutation', 'regression' or 'gaussian_process'"
            )
        self._check_coalitions()
        self._check_script_flags()

    def _check_coalitions(self) -> None:
        """Raise unless the number of coalitions is even and large enough.

        Coalitions come in pairs of complements; with fewer, a size might have fewer pairs than
        there are folds.
        """
        most = 2**self.n_bands
        least = min(8 * self.n_bands, most)
        n = self.n_coalitions
        if self.estimator in OF_PAIRS and (n % 2 or not least <= n <= most):
            raise InputError(
                f"n_coalitions must be an even number from {least} to {most} with "
                f"n_bands={self.n_bands}, got {n}"
            )

    def _check_script_flags(self) -> None:
        """Raise unless the released script's own choices come together, and no others with them."""
        absence = ABSENCES[self.absence]
        if not self.is_script:
            if self.band_norm == "boxes" or absence.script_only:
                scripts = [name for name, one in ABSENCES.items() if one.script_only]
                own = ["band_norm='boxes'", *(f"absence={name!r}" for name in scripts)]
                raise InputError(
                    f"{', '.join(own[:-1])} and {own[-1]} make complex images and need "
                    "range_handling='batch_modulus' (see Protocol.reference)"
                )
            if self.shuffled:
                raise InputError("shuffled=True needs range_handling='batch_modulus'")
            return
        if absence.spectrum is None:
            known = [repr(name) for name, one in ABSENCES.items() if one.spectrum is not None]
            raise InputError(
                f"range_handling={self.range_handling!r} takes absence="
                f"{', '.join(known[:-1])} or {known[-1]}, not {self.absence!r}"
            )
        for name, needed in (("forwards", "plain"), ("estimator", "exact")):
            if getattr(self, name) != needed:
                raise InputError(f"range_handling={self.range_handling!r} needs {name}={needed!r}")

    @classmethod
    def reference(cls, n_bands: int = 8, **flags: Any) -> Protocol:
        """Return the protocol of the authors' released script, deterministic with zero absence.

        Boxes of side int(n i / M) on the shifted spectrum, modulus, minimum and maximum of a
        batch of 10 images, black empty coalition. `flags` override single choices, for example
        ``absence="gaussian_bins"``, ``absence="batch_replacement"``, ``shuffled=True`` (as the
        script runs by default), ``image_batch=32`` or ``band_norm="chebyshev"``.
        """
        flags = {
            "band_norm": "boxes",
            "range_handling": "batch_modulus",
            "black_empty": True,
            **flags,
        }
        return cls(n_bands=n_bands, **flags)

    def for_images(self, n_images: int) -> Protocol:
        """Return this protocol with the estimator that knows the scores with the fewest passes.

        From `MANY_IMAGES` images on that is a full cycle of antithetic chains, M (M - 1) + 1 passes
        an image, where the exact estimator makes at least twice as many: the passes saved go to
        other images, which is where most of the variance is. With fewer images, and for what needs
        every coalition, it is the exact one.

        Args:
            n_images: Images that there are.
        """
        passes = self.n_bands * (self.n_bands - 1) + 1
        if self.estimator != "exact" or self.is_script or n_images < MANY_IMAGES:
            return self
        if 2 * passes > 2**self.n_bands:
            return self
        return replace(self, estimator="permutation", n_permutations=self.n_bands)

    @property
    def is_script(self) -> bool:
        """Whether images are rescaled together, as the released script does."""
        return RANGE_HANDLINGS[self.range_handling].whole_batch

    @property
    def needs_all_images(self) -> bool:
        """Whether the first row needs the whole data set, which is then held in memory."""
        return self.shuffled or ABSENCES[self.absence].donors is not None

    @property
    def protocol_id(self) -> str:
        """Short stable id for show: equal for equal numbers, whatever the unused fields hold.

        Its 32 bits can be made to agree on purpose; `digest` and `same` tell protocols apart.
        """
        return self._id(self.digest)

    def _id(self, digest: str) -> str:
        return f"m{self.n_bands}-{self.band_norm}-{self.absence}-{self.estimator}-{digest[:8]}"

    @property
    def digest(self) -> str:
        """SHA-256 of the fields that change a number: no two protocols have one, see `same`."""
        return _digest(self.used())

    def same(self, other: Protocol) -> bool:
        """Return whether both give equal numbers: by all used fields, not by the short id."""
        return self.used() == other.used()

    def used(self) -> dict[str, Any]:
        """Return the fields that change a number under this protocol; the others are left out."""
        used, absence = asdict(self), ABSENCES[self.absence].fields
        if self.estimator != "permutation":
            del used["n_permutations"]
        if self.estimator not in OF_PAIRS:
            del used["n_coalitions"]
        if not self.is_script:
            del used["image_batch"]
        del used["forwards"]
        if self.estimator == "exact" and not self.shuffled and "seed" not in absence:
            del used["seed"]
        for name in ("absence_std", "black_empty"):
            if name not in absence:
                del used[name]
        return used

    def run_choices(self) -> dict[str, Any]:
        """Return what all parts of a run share: `used` and, unless they are plain, ``forwards``."""
        return self.used() | ({} if self.forwards == "plain" else {"forwards": self.forwards})

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and ``protocol_id``, as JSON values."""
        return {**asdict(self), "protocol_id": self.protocol_id}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Protocol:
        """Return the protocol that `to_dict` described.

        Raises:
            InputError: For an unknown field, or an id that the fields do not give.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known - {"protocol_id"})
        if unknown:
            raise InputError(f"unknown protocol field {unknown[0]!r}; known: {sorted(known)}")
        protocol = cls(**{key: value for key, value in data.items() if key in known})
        declared = data.get("protocol_id", protocol.protocol_id)
        with_forwards = protocol._id(
            _digest(protocol.run_choices())
        )  # in files of earlier versions
        if declared not in (protocol.protocol_id, with_forwards):
            raise InputError(
                f"protocol_id {declared!r} does not belong to these fields, which give "
                f"{protocol.protocol_id!r}"
            )
        return protocol


def protocol_or(given: object, default: Protocol) -> Protocol:
    """Return the protocol that was given, or a default for None.

    Raises:
        InputTypeError: For anything else.
    """
    if given is None:
        return default
    if not isinstance(given, Protocol):
        raise InputTypeError(
            f"expected a Protocol, such as Protocol(estimator='permutation'), got "
            f"{type(given).__name__}; images and labels are one argument, (images, labels)"
        )
    return given
