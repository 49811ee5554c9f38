"""Models by a short text (`load_model`), and what is known of them."""

from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.classifier import Classifier, ModelInfo, describe
from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.storage.provenance import state_digest

__all__ = [
    "Classifier",
    "ModelInfo",
    "Preprocessing",
    "describe",
    "load_model",
    "state_digest",
]
