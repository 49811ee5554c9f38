"""The types that an entry's fields are made of: text, counts, proportions, with their limits."""

from __future__ import annotations

from typing import Annotated

from iaside_plugins.errors import MissingExtraError

try:
    from pydantic import BaseModel, ConfigDict
    from pydantic import Field as Field  # for entry
    from pydantic import ValidationError as ValidationError  # for schema
except ImportError as error:
    raise MissingExtraError(
        "the leaderboard needs pydantic: pip install 'iaside-plugins[leaderboard]'"
    ) from error

LARGEST = 2**53  # whole numbers that every reader of JSON holds exactly
GREATEST = 1e6  # of any number: far above what is measured, and sums of squares stay finite
MANY = 1000  # attacks, conditions and the like: a list of millions is no entry

Text = Annotated[str, Field(min_length=1, max_length=200)]
LongText = Annotated[str, Field(min_length=1, max_length=2000)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-GREATEST, le=GREATEST)]
Size = Annotated[float, Field(ge=0, le=GREATEST)]
AboveZero = Annotated[float, Field(gt=0, le=GREATEST)]
Nats = Annotated[float, Field(ge=-GREATEST, le=0)]  # a log-likelihood
Bounds = tuple[Number | None, Number | None]  # null where one image leaves it undefined
ShareBounds = tuple[Share | None, Share | None]
OfBands = Field(max_length=32)
OfCoalitions = Field(max_length=2**12)
Some = Field(max_length=MANY)
OneOrMore = Field(min_length=1, max_length=MANY)


class Model(BaseModel):
    """What all groups share: exact types, no unknown fields, finite numbers, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Proportion(Model):
    """k of n images, with Wilson's 95 % interval."""

    value: Share
    interval: tuple[Share, Share]
    n: Positive


class Mean(Model):
    """Mean of per-image values in [0, 1], with a 95 % interval that may leave that range."""

    value: Share
    interval: Bounds
    n: Positive


class MeanError(Mean):
    """Mean error over corruptions and severities; n is images."""

    n_corruptions: Positive
