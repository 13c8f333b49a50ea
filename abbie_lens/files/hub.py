"""The Hugging Face hub: fetch the files of a model, or put them there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from huggingface_hub import HfApi, get_safetensors_metadata, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    NotASafetensorsRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)

from abbie_lens.errors import CheckpointError
from abbie_lens.files.layout import MODEL_FILES
from abbie_lens.files.weights import CONVERT, INDEX

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# never a pickled file, whatever the repository offers
FETCHED = (*MODEL_FILES, INDEX, "*.safetensors")
SMALL = tuple(name for name in MODEL_FILES if not name.endswith(".safetensors"))
"""Config and tokenizer alone."""
HTTPError = cast(type[Exception], HfHubHTTPError.__mro__[1])
"""Whatever goes wrong with a connection, in the HTTP library that huggingface_hub uses (which it has changed)."""
LONGEST = 200
"""Characters of the hub's own words in an error."""


def is_hub_id(name: str) -> bool:
    """Whether `name` looks like `organisation/model`."""
    return HUB_ID.fullmatch(name) is not None


def fetch(
    repo_id: str,
    revision: str | None = None,
    token: str | None = None,
    files: Sequence[str] = FETCHED,
) -> Path:
    """Folder with those of the repository's files that match, downloaded or from the local hub cache.

    Errors: CheckpointError if it doesn't exist, is closed to this account, or can't be reached.
    """
    with _explained(repo_id, revision):
        return Path(
            snapshot_download(repo_id, revision=revision, token=token, allow_patterns=list(files))
        )


def cached(repo_id: str) -> Path | None:
    """Folder of the repository's files in the local hub cache; None where it was not fetched. Asks no network."""
    try:
        return Path(snapshot_download(repo_id, allow_patterns=list(FETCHED), local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


def fetched_bytes(repo_id: str) -> int:
    """Bytes of the repository in the local hub cache so far, a download that goes on included."""
    blobs = Path(HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}" / "blobs"
    return sum(file.stat().st_size for file in blobs.iterdir()) if blobs.is_dir() else 0


def fetch_small(repo_id: str, revision: str | None = None, token: str | None = None) -> Path:
    """Folder with config and tokenizer alone. Errors: as `fetch`."""
    return fetch(repo_id, revision, token, SMALL)


def headers(
    repo_id: str, revision: str | None = None, token: str | None = None
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Shapes by name of all weights, and their bytes by name, from the headers of the files alone. Errors: as `fetch`."""
    with _explained(repo_id, revision):
        try:
            files = get_safetensors_metadata(repo_id, revision=revision, token=token)
        except NotASafetensorsRepoError as error:
            # Said of a repository that isn't there, too: ask for that first.
            HfApi(token=token).model_info(repo_id, revision=revision)
            raise CheckpointError(f"{repo_id}: has no .safetensors weights. {CONVERT}") from error
    tensors = [t for file in files.files_metadata.values() for t in file.tensors.items()]
    sizes = {name: info.data_offsets[1] - info.data_offsets[0] for name, info in tensors}
    return {name: tuple(info.shape) for name, info in tensors}, sizes


@contextmanager
def _explained(repo_id: str, revision: str | None) -> Iterator[None]:
    """The hub's errors as ours, in one line each."""
    try:
        yield
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        reason = "the hub can't be reached, or HF_HUB_OFFLINE is set, and it isn't in the hub cache"
        what = "whole on this machine" if "is incomplete" in str(error) else "on this machine"
        raise CheckpointError(
            f"{repo_id}: not {what}: {reason}. Try again with a connection."
        ) from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repo_id}: closed to this account: ask for access there, then give token= or set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{repo_id}: no such model on the hub, or it is private and token= doesn't open it."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{repo_id}: has no revision {revision!r}.") from error
    # OSError: the connection, a time-out, a status; HTTPError: a transfer cut short
    except (HFValidationError, SafetensorsParsingError, HTTPError, OSError) as error:
        raise CheckpointError(
            f"{repo_id}: can't be fetched ({_line(error)}). Try again: files that arrived whole are kept."
        ) from error


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}…"


def upload(folder: Path, repo_id: str, *, private: bool, token: str | None, message: str) -> str:
    """Create the repository if need be and upload the folder in one commit; its address.

    Errors: CheckpointError if the hub refuses or can't be reached.
    """
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    except (OfflineModeIsEnabled, HFValidationError, HTTPError, OSError, ValueError) as error:
        raise CheckpointError(f"{repo_id}: not uploaded ({_line(error)}).") from error
    return str(commit.repo_url)
