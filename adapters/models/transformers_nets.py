"""Image classifiers of the library transformers, with its own preprocessing as far as it goes."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.compat import import_torchvision
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.classifier import LoadedNetwork, Logits
from iaside_plugins.adapters.models.hub_files import PREFIX, WEIGHTS, Repository
from iaside_plugins.adapters.models.processors import PROCESSOR_FILE, measured
from iaside_plugins.errors import InputError, MissingExtraError, error_text
from iaside_plugins.storage.files import read_json

_log = logging.getLogger(__name__)
_LACKING = ("missing_keys", "mismatched_keys")


def from_transformers(
    repository: Repository, config: Mapping[str, Any], folder: Path
) -> LoadedNetwork:
    """Load the image classifier of a repository whose config.json is in `folder`.

    Raises:
        InputError: Weights are missing or do not fit, or the library does not know the network.
        MissingExtraError: transformers is not installed.
    """
    library = _transformers()
    file, safe = _weights(repository)
    _check_attention(repository, config)
    repository.get(PROCESSOR_FILE)
    try:
        with _quiet(library):
            net, found = library.AutoModelForImageClassification.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=safe,
                output_loading_info=True,
            )
    except Exception as error:  # unknown kinds, damaged files, packages that are missing
        reason = error_text(error, 300)
        raise InputError(
            f"{PREFIX}{repository.text}: transformers {library.__version__} cannot load it "
            f"({type(error).__name__}: {reason})"
        ) from error
    absent = sorted({str(one) for kind in _LACKING for one in found.get(kind, ())})
    if absent:
        raise InputError(
            f"{PREFIX}{repository.text}: {len(absent)} tensors of the network are not in its "
            f"weights ({', '.join(absent[:5])}), and would stay random; it is no trained classifier"
        )
    with _quiet(library):
        preprocessing = measured(library, folder, repository.name)
    return LoadedNetwork(
        net=Logits(net.float().eval(), net.config.num_labels),
        name=repository.name,
        architecture=type(net).__name__,
        preprocessing=preprocessing or _of_size(config.get("image_size")),
        weights=repository.origin(),
        dataset=_dataset(config),
        class_names=_class_names(config),
        file=file,
        public_name=repository.public_name,
        says_preprocessing=preprocessing is not None,
    )


def _weights(repository: Repository) -> tuple[Path | None, bool]:
    """Get the weights; return their file (None where there are several), and whether it is safe.

    Raises:
        InputError: The repository has none for PyTorch.
    """
    for name in WEIGHTS:
        safe = name.endswith(".safetensors")
        if (file := repository.get(name)) is not None:
            return file, safe
        if (index := repository.get(f"{name}.index.json")) is not None:
            for part in _parts(index, repository):
                repository.get(part)
            return None, safe
    raise InputError(
        f"{PREFIX}{repository.text} has no weights for PyTorch ({' or '.join(WEIGHTS)})"
    )


def _parts(index: Path, repository: Repository) -> list[str]:
    """Return the files that an index of weights lists.

    Raises:
        InputError: It lists none, or paths, which may lead out of the repository.
    """
    held = read_json(index)
    listed = held.get("weight_map") if isinstance(held, dict) else None
    parts = {str(part) for part in listed.values()} if isinstance(listed, dict) else set()
    if not parts or any(Path(part).name != part for part in parts):
        raise InputError(
            f"{PREFIX}{repository.text}: {index.name} does not list the files of weights"
        )
    return sorted(parts)


def _check_attention(repository: Repository, config: Mapping[str, Any]) -> None:
    """Raise InputError for a network that asks for code of another repository."""
    asked = [value for key, value in config.items() if key.endswith("attn_implementation")]
    if any("/" in str(value) for value in asked):
        raise InputError(
            f"{PREFIX}{repository.text} asks for code of another repository ({asked[0]}), which is "
            "not run"
        )


def _of_size(size: Any) -> Preprocessing:
    """Return the preprocessing to the size of a network's images, without a normalisation."""
    side = size if isinstance(size, int) else None
    return Preprocessing(resize=side, crop=side)


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the outputs in their order; nothing where two have one name."""
    named = config.get("id2label")
    if not isinstance(named, Mapping) or set(named) != {str(k) for k in range(len(named))}:
        return ()
    names = tuple(str(named[str(k)]) for k in range(len(named)))
    return names if len(set(names)) == len(names) else ()


def _dataset(config: Mapping[str, Any]) -> str | None:
    """Return "imagenet" where the names of the classes are those of ImageNet in its order."""
    names = config.get("id2label")
    if not isinstance(names, Mapping) or len(names) != 1000:
        return None
    first, last = str(names.get("0")), str(names.get("999"))
    return "imagenet" if first.startswith("tench") and last.startswith("toilet t") else None


def _transformers() -> Any:
    """Import transformers, with torchvision repaired before."""
    import_torchvision()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise MissingExtraError(
            "transformers is not installed; this model needs it: pip install transformers"
        ) from error


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Silence the library's bars, warnings and messages, and put them back."""
    talk = library.utils.logging
    level, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        talk.set_verbosity(level)
        if bars:
            talk.enable_progress_bar()
