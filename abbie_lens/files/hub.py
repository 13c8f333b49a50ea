"""The Hugging Face hub: fetch the files of a model, or put them there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, get_safetensors_metadata, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    NotASafetensorsRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from abbie_lens.errors import CheckpointError
from abbie_lens.files.layout import MODEL_FILES
from abbie_lens.files.weights import CONVERT, INDEX

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# never a pickled file, whatever the repository offers
FETCHED = [*MODEL_FILES, INDEX, "*.safetensors"]


def is_hub_id(name: str) -> bool:
    """Whether `name` looks like `organisation/model`."""
    return HUB_ID.fullmatch(name) is not None


def fetch(repo_id: str, revision: str | None = None, token: str | None = None) -> Path:
    """Folder with the repository's model files, downloaded or from the local hub cache.

    Errors: CheckpointError if it doesn't exist, is closed to this account, or can't be reached.
    """
    with _explained(repo_id, revision):
        return Path(
            snapshot_download(repo_id, revision=revision, token=token, allow_patterns=FETCHED)
        )


def cached(repo_id: str) -> Path | None:
    """Folder of the repository's files in the local hub cache; None where it was not fetched. Asks no network."""
    try:
        return Path(snapshot_download(repo_id, allow_patterns=FETCHED, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


def fetched_bytes(repo_id: str) -> int:
    """Bytes of the repository in the local hub cache so far, a download that goes on included."""
    blobs = Path(HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}" / "blobs"
    return sum(file.stat().st_size for file in blobs.iterdir()) if blobs.is_dir() else 0


def fetch_small(repo_id: str, revision: str | None = None, token: str | None = None) -> Path:
    """Folder with config and tokenizer alone. Errors: as `fetch`."""
    small = [name for name in MODEL_FILES if not name.endswith(".safetensors")]
    with _explained(repo_id, revision):
        return Path(
            snapshot_download(repo_id, revision=revision, token=token, allow_patterns=small)
        )


def headers(
    repo_id: str, revision: str | None = None, token: str | None = None
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Shapes by name of all weights, and their bytes by name, from the headers of the files alone. Errors: as `fetch`."""
    with _explained(repo_id, revision):
        try:
            files = get_safetensors_metadata(repo_id, revision=revision, token=token)
        except NotASafetensorsRepoError as error:
            raise CheckpointError(f"{repo_id}: has no .safetensors weights. {CONVERT}") from error
    tensors = [t for file in files.files_metadata.values() for t in file.tensors.items()]
    sizes = {name: info.data_offsets[1] - info.data_offsets[0] for name, info in tensors}
    return {name: tuple(info.shape) for name, info in tensors}, sizes


@contextmanager
def _explained(repo_id: str, revision: str | None) -> Iterator[None]:
    """The hub's errors as ours."""
    try:
        yield
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        reason = "the hub can't be reached, or HF_HUB_OFFLINE is set, and it isn't in the hub cache"
        raise CheckpointError(f"{repo_id}: not on this machine: {reason}.") from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repo_id}: closed to this account: ask for access there."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{repo_id}: no such model on the hub, or it is private and token= doesn't open it."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{repo_id}: has no revision {revision!r}.") from error
    except (HFValidationError, OSError) as error:  # OSError: the connection, a time-out, a status
        raise CheckpointError(f"{repo_id}: can't be fetched ({error}).") from error


def upload(folder: Path, repo_id: str, *, private: bool, token: str | None, message: str) -> str:
    """Create the repository if need be and upload the folder in one commit; its address.

    Errors: CheckpointError if the hub refuses or can't be reached.
    """
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    except (OfflineModeIsEnabled, HFValidationError, OSError, ValueError) as error:
        raise CheckpointError(f"{repo_id}: not uploaded ({error}).") from error
    return str(commit.repo_url)
