"""Networks on the Hugging Face hub, `hf:OWNER/NAME`: fetched, and published (extra `hub`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simplepose.core.errors import UserError, brief, need

MODEL, CARD = "model.safetensors", "README.md"
"""Names of the files of a repository."""


def fetch(name: str) -> Path:
    """The weight file of `hf:OWNER/NAME`, in the hub's own cache on this disk.

    Raises:
        UserError: huggingface_hub is not installed, there is no such repository or file, or the
            hub does not answer and the file was never fetched.
    """
    hub = _client(name)
    try:
        return Path(hub.hf_hub_download(name.removeprefix("hf:"), MODEL))
    except Exception as error:  # the client's are of many kinds
        raise UserError(
            f"{name}: {MODEL} cannot be fetched: {brief(error).rstrip('.')}. "
            "Cure: check OWNER/NAME and the connection; what was fetched once is found without one"
        ) from error


def publish(folder: Path, repository: str, *, private: bool) -> str:
    """Uploads the files of a folder, and makes the repository where there is none.

    Returns:
        The address of the commit.

    Raises:
        UserError: huggingface_hub is not installed, nobody is logged in, or the hub refuses.
    """
    name = repository.removeprefix("hf:")
    hub = _client(f"hf:{name}")
    try:
        api = hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        message = "Published by simplepose"
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message=message))
    except Exception as error:  # the client's are of many kinds
        raise UserError(
            f"hf:{name} cannot be written: {brief(error).rstrip('.')}. "
            "Cure: check OWNER/NAME and the connection, and log in with hf auth login"
        ) from error


def _client(name: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise need("huggingface_hub", "hub", name) from error
    return huggingface_hub
