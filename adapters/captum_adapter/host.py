"""Captum as it is installed: the public names that we use, from one place."""

from __future__ import annotations

from typing import Any

from iaside_plugins.errors import MissingExtraError

try:
    import captum
    import captum.attr
    import captum.metrics
    from captum.log import log_usage
except ImportError as error:
    raise MissingExtraError.of(
        f"this needs Captum, which cannot be imported ({error})", "captum"
    ) from error

attr: Any = captum.attr
metrics: Any = captum.metrics
VERSION = str(captum.__version__)

__all__ = ["VERSION", "attr", "log_usage", "metrics"]
