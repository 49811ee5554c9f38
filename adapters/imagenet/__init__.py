"""Image folders, manifests and ImageNet-C trees as streams of batches."""

from iaside_plugins.adapters.imagenet.corrupted import CorruptedData
from iaside_plugins.adapters.imagenet.folders import ImageFolderData, ImageNetC
from iaside_plugins.adapters.imagenet.labels import LabelSpace
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.imagenet.records import find_records, select
from iaside_plugins.storage.provenance import ids_digest as image_ids_digest

__all__ = [
    "CorruptedData",
    "ImageFolderData",
    "ImageNetC",
    "ImageRecord",
    "LabelSpace",
    "Preprocessing",
    "find_records",
    "image_ids_digest",
    "select",
]
