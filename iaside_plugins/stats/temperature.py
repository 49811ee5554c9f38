"""The temperature that fits logits best."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import InputError, MissingExtraError

RANGE = (0.1, 10.0)  # of a fitted temperature
DIGITS = 4  # significant ones of a fitted temperature: more would differ between processors


def negative_log_likelihood(
    logits: npt.ArrayLike, labels: npt.ArrayLike, temperature: float
) -> float:
    """Return the mean of ``-log softmax(logits / temperature)[label]`` over images, in nats.

    Args:
        logits: (K, n_classes).
        labels: (K,) class indices.
        temperature: Above 0.
    """
    z = np.asarray(logits, dtype=np.float64) / temperature
    z = z - z.max(axis=1, keepdims=True)
    own = np.take_along_axis(z, np.asarray(labels, dtype=np.int64)[:, None], axis=1)[:, 0]
    return float((np.log(np.exp(z).sum(axis=1)) - own).mean())


def fitted_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the temperature of least negative log-likelihood on clean images, within `RANGE`.

    In 1 / temperature the negative log-likelihood is convex, so that the minimum found is the
    only one. A model that is right on every image has none: it gets a small temperature, where
    the likelihood is 1 to rounding. A model at chance gets the upper end of the range.
    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Args:
        logits: (K, n_classes) of clean images.
        labels: (K,) class indices.

    Returns:
        The temperature, to `DIGITS` significant digits.

    Raises:
        InputError: For fewer than two images, or logits and labels that do not fit.
        MissingExtraError: Without scipy.
    """
    try:
        from scipy.optimize import minimize_scalar
    except ImportError as error:
        raise MissingExtraError.of("a fitted temperature needs scipy", "imagenet") from error
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if z.ndim != 2 or len(z) < 2 or y.shape != (len(z),):
        raise InputError(
            "a temperature is fitted to logits (K, n_classes) and labels (K,) of at least two "
            f"images, got {z.shape} and {y.shape}"
        )
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(z, y, float(np.exp(log_t))),
        bounds=tuple(np.log(RANGE)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return float(f"{np.exp(found.x):.{DIGITS}g}")
