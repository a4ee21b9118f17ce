"""The store: a folder with one small .npz a run, named by the spec's key.

A file is written beside its final name, forced to the disk and put into place in one move, so a reader sees a
whole file or none. A checksum over its content tells a damaged one; nothing in it is ever unpickled. Merging two
stores is copying files; of two histories of one run the longer stays.
"""

import dataclasses
import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np

from grok_lib import paths
from grok_lib.history import History
from grok_lib.specs import SCHEMA, RunSpec


class BrokenFile(ValueError):
    """A file in the store that is not a whole history; the text names the file and what is wrong."""


def folders(store=None):
    """The folders to read, the one to write first: `store` alone, or this checkout's own runs, then the shipped ones."""
    return [Path(store)] if store is not None else [paths.build() / "results", paths.RESULTS]


def path(folder, spec):
    """Where a store keeps the run of that spec."""
    return Path(folder) / f"{spec.key}.npz"


def save(history, folder):
    """Write a finished history; returns its path. Of two histories of one run the longer stays, with all kept weights."""
    target = path(folder, history.spec)
    target.parent.mkdir(parents=True, exist_ok=True)
    stored = _read_or_set_aside(target)
    if stored is not None:
        if stored.last_step >= history.last_step and set(history.kept) <= set(stored.kept):
            return target
        longer = max(history, stored, key=lambda h: h.last_step)
        history = dataclasses.replace(longer, kept=stored.kept | history.kept)
    entries = {name: getattr(history, name) for name in History.CURVES}
    entries |= {f"kept.{name}": array for name, array in history.kept.items()}
    entries |= {"schema": np.array(SCHEMA), "spec": np.array(history.spec.to_json()),
                "stopped_because": np.array(history.stopped_because),
                "provenance": np.array(json.dumps(history.provenance, sort_keys=True))}
    entries["checksum"] = np.array(_checksum(entries))
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **entries)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's files are for their owner alone
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def load(file):
    """The history in a file. Raises BrokenFile for anything that is not one, FileNotFoundError where there is none."""
    try:
        with open(file, "rb") as raw, np.load(raw, allow_pickle=False) as archive:  # numpy itself forgets to close a bad one
            entries = {name: archive[name] for name in archive.files}
        if entries.pop("checksum").item() != _checksum(entries):
            raise ValueError("its checksum does not fit its content")
        if entries["schema"] != SCHEMA:
            raise ValueError(f"it has schema {entries['schema']}, this grok_lib reads {SCHEMA}")
        spec = RunSpec.from_json(entries["spec"].item())
        if spec.key != Path(file).stem:
            raise ValueError(f"it holds the run {spec.key}")
        kept = {name.removeprefix("kept."): array for name, array in entries.items() if name.startswith("kept.")}
        return History(spec, *(entries[name] for name in History.CURVES), kept=kept,
                       stopped_because=entries["stopped_because"].item(),
                       provenance=json.loads(entries["provenance"].item()))
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib, numpy and json each have their own for a damaged file
        raise BrokenFile(f"{file} is not a whole history: {str(error) or type(error).__name__}") from error


def find(spec, store=None):
    """The stored history that answers `spec`, cut to what it asks, or None. Broken files are set aside, and said."""
    for folder in folders(store):
        stored = _read_or_set_aside(path(folder, spec))
        answer = stored and stored.answer(spec)
        if answer:
            return answer
    return None


def _read_or_set_aside(file):
    try:
        return load(file)
    except FileNotFoundError:
        return None
    except BrokenFile as error:
        aside = file.with_suffix(".broken")
        try:
            os.replace(file, aside)
            warnings.warn(f"{error}; set aside as {aside.name}", stacklevel=3)
        except OSError:
            warnings.warn(f"{error}; passed over", stacklevel=3)
        return None


def _checksum(entries):
    digest = hashlib.sha256()
    for name in sorted(entries):
        array = np.ascontiguousarray(entries[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()
