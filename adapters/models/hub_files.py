"""Files of a Hugging Face repository, downloaded once, or of a folder that holds the same files."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.models.downloads import cause, quiet_download, unreachable
from iaside_plugins.errors import InputError, MissingExtraError

PREFIX = "hf:"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of a repository, in the order of preference
_REFERENCE = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/(.+))?")


@dataclass
class Repository:
    """A repository `owner/name` of Hugging Face at one revision, or a local folder.

    The revision of the first file that is found, a commit, is that of all others.

    Attributes:
        text: As it was given, for messages.
        name: `owner/name`, or the name of the folder.
        revision: Branch, tag or commit; None for the newest.
        file: The file that the reference names, or "".
        folder: The local folder, or None.
    """

    text: str
    name: str
    revision: str | None = None
    file: str = ""
    folder: Path | None = None

    @classmethod
    def of(cls, text: str) -> Repository:
        """Return that of `owner/name[@REVISION][/FILE]`, or of a path on this computer.

        Raises:
            InputError: Another form.
        """
        path = Path(text)
        if path.is_dir():
            return cls(text, path.resolve().name, folder=path)
        if path.is_file():
            return cls(text, path.name, file=path.name, folder=path.parent)
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise InputError(
                f"expected {PREFIX}OWNER/NAME[@REVISION][/FILE] or {PREFIX}FOLDER, "
                f"got {PREFIX}{text}"
            )
        name, revision, file = found.groups(default="")
        return cls(text, name, revision or None, file)

    def get(self, file: str) -> Path | None:
        """Return a file, downloaded or from the cache; None if the repository has no such file.

        Raises:
            InputError: It can be neither downloaded nor found in the cache.
            MissingExtraError: The library huggingface_hub is not installed.
        """
        if self.folder is not None:
            path = self.folder / file
            return path if path.is_file() else None
        found = _downloaded(self, file)
        if found is not None:
            self.revision = _commit(found) or self.revision
        return found

    @property
    def public_name(self) -> str:
        """The reference for others: never a path."""
        return self.text if self.folder is None else self.name

    def origin(self, file: str = "") -> str:
        """Return where a file comes from, for the record: never a path."""
        if self.folder is not None:
            return file or self.name
        at = f"@{self.revision[:12]}" if self.revision else ""
        return f"{PREFIX}{self.name}{at}" + (f"/{file}" if file else "")


def local_file(given: str | Path) -> tuple[Path, str]:
    """Return a file on this computer, and where it is from: a name, or `hf:REPO@COMMIT/FILE`.

    Args:
        given: A path, or `hf:REPO[@REVISION]/FILE`, which is downloaded.

    Raises:
        InputError: It cannot be had, or names a repository without a file.
    """
    text = str(given)
    if not text.startswith(PREFIX):
        return Path(given), Path(given).name
    repository = Repository.of(text.removeprefix(PREFIX))
    if not repository.file:
        raise InputError(f"{text} names no file; give {text}/FILE")
    file = repository.get(repository.file)
    if file is None:
        raise InputError(f"{repository.name} at Hugging Face has no file {repository.file}")
    return file, repository.origin(repository.file)


def _commit(file: Path) -> str | None:
    """Return the commit in the path of a file of the cache, `models--X/snapshots/COMMIT/...`."""
    found = re.search(r"models--[^/]*/snapshots/([^/]+)/", file.as_posix())
    return found[1] if found else None


def _downloaded(repository: Repository, file: str) -> Path | None:
    """Return a file of the hub, or of its cache where the hub cannot be reached."""
    hub = _hub()
    errors = importlib.import_module("huggingface_hub.errors")
    constants = importlib.import_module("huggingface_hub.constants")
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else None
    reason = reason or unreachable(constants.ENDPOINT)
    try:
        with quiet_download(), _without_bars(hub):
            return Path(
                hub.hf_hub_download(
                    repository.name,
                    file,
                    revision=repository.revision,
                    local_files_only=reason is not None,
                )
            )
    except errors.LocalEntryNotFoundError as error:
        if reason and repository.revision and _commit_is_cached(hub, repository):
            return None  # others of its files are there
        raise _not_had(repository, reason or error) from error
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError as error:
        why = "its terms have to be accepted on its page, and 'hf auth login' done here"
        raise _not_had(repository, why) from error
    except errors.RepositoryNotFoundError as error:
        why = "no such repository, or a private one, which needs 'hf auth login'"
        raise _not_had(repository, why) from error
    except errors.RevisionNotFoundError as error:
        raise _not_had(repository, f"it has no revision {repository.revision!r}") from error
    except Exception as error:  # network, disk and server errors alike
        raise _not_had(repository, error) from error


def _commit_is_cached(hub: Any, repository: Repository) -> bool:
    """Return whether a file of the same commit was found in the cache before."""
    found = hub.try_to_load_from_cache(repository.name, "config.json", revision=repository.revision)
    return isinstance(found, str)


def _not_had(repository: Repository, error: Exception | str) -> InputError:
    """Return the error for a repository that could not be had, with the cause in one line."""
    return InputError(
        f"{PREFIX}{repository.text} could not be had ({cause(error)}); where there is a network, "
        f"'hf download {repository.name} --local-dir FOLDER' gets it, and {PREFIX}FOLDER uses it"
    )


def _hub() -> Any:
    """Import huggingface_hub."""
    try:
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "huggingface_hub is not installed; models of Hugging Face need it: "
            "pip install huggingface_hub"
        ) from error


@contextlib.contextmanager
def _without_bars(hub: Any) -> Iterator[None]:
    """Switch the download bars off, and back on where they were."""
    utils = hub.utils
    if utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
