"""The 15 ImageNet-C corruptions, and the errors that are measured under them."""

from iaside_plugins.corruptions.apply import (
    CORRUPTION_GROUPS,
    CORRUPTIONS,
    corrupt,
    corruption_seed,
)
from iaside_plugins.corruptions.frost import find_frost_textures, load_frost_textures
from iaside_plugins.corruptions.functions import constants_size

__all__ = [
    "CORRUPTIONS",
    "CORRUPTION_GROUPS",
    "constants_size",
    "corrupt",
    "corruption_seed",
    "find_frost_textures",
    "load_frost_textures",
]
