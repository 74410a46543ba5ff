"""A corpus's audio files as a listing of what is known about them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from s3prl_aalbert.pretrain.manifest import Listing
from s3prl_aalbert.speech.finding import existing_folders, find_files

__all__ = ["existing_folders", "find_audio"]


def find_audio(folders: Sequence[str]) -> Listing:
    """List every audio file below the folders, in the order of their path components, each once.

    Linked folders are followed, under the path they lead to, and never twice.

    Raises:
        AalbertError: there is no audio in one of them.
    """
    found = find_files(folders, links_keep_their_name=False)
    files = sorted(found.files, key=lambda file: file.path.replace(os.sep, "\0"))
    paths, sizes, mtimes = zip(*files, strict=True)
    listing = Listing.of(list(paths), sizes, mtimes)
    listing.missing = found.missing
    return listing
