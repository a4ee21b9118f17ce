"""The store: a folder with one small .npz a run, named by the spec's key.

A file is written beside its final name, forced to the disk and put into place in one move, so a reader sees a whole
file or none. A checksum over its content gives a damaged one away; nothing in it is ever unpickled. Files may be copied
from store to store; `merge` keeps the longer of two histories of one run (of two that were solved, the first).
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np

from grok_lib import paths
from grok_lib.history import History
from grok_lib.runs.agreement import disagreement
from grok_lib.specs import SCHEMA, RunSpec


class BrokenFile(ValueError):
    """A file in the store that is not a whole history; the text names the file and what is wrong."""


class ForeignFile(ValueError):
    """A whole file that another version of this library wrote, and this one cannot read."""


def folders(store=None):
    """The folders to read, of which the first is the one to write to: `store` alone, or this checkout's own runs, then
    the shipped ones."""
    return [Path(store).expanduser()] if store is not None else [paths.build() / "results", paths.RESULTS]


def path(folder, spec, end=None, alone=True):
    """Where a store keeps the run of that spec; weights kept at update `end` lie with their own curves,
    KEY@END-NAMES.npz.

    `alone`: False for a history kept beside a longer one of that run that does not answer for it: then it is
    KEY@END-.npz.
    """
    kept = f"@{end}-{names(spec.keep)}" if spec.keep or not alone else ""
    return Path(folder) / f"{spec.key}{kept}.npz"


def names(keep):
    """What is kept, as a part of a file's name: the names, or a hash of them where they would be too long for one."""
    together = "-".join(keep)
    return together if len(together) <= 150 else hashlib.sha256(together.encode()).hexdigest()[:16]


def writable(store=None):
    """The folder to write to, made if need be. OSError at once where nothing could be stored, not after hours."""
    folder = folders(store)[0]
    with _locked(folder):
        (folder / ".writing").write_bytes(b"is there room?")
        (folder / ".writing").unlink()
    return folder


def save(history, folder):
    """Write a finished history, unless one of that run is there that answers for it; returns the run's path.

    A longer one takes the place of what it answers for. Of two that answer for each other, as when both were solved,
    the first stays: to choose by their ends would favour the slower.

    What stands in its place and cannot be read, broken or of another version, is set aside as KEY.broken, not lost.
    Where it and the history in its place differ in their early losses, they are not of one training: a warning says so.
    """
    _check(history)
    target = path(folder, history.spec, history.last_step)
    with _locked(target.parent):
        stored = read(target)
        if stored is None and target.exists():
            _set_aside(target)
        if fault := stored and disagreement(stored, history):
            warnings.warn(f"two histories of the run {history.spec.key} disagree: {fault}", stacklevel=2)
        if stored and stored.stopped_because != "diverged" and stored.answer(history.spec):
            return target
        if stored:
            history, shorter = sorted([stored, history], key=lambda h: h.last_step, reverse=True)
            if not history.answer(shorter.spec):  # it was solved sooner, on another machine: both stay
                _write(shorter, path(folder, shorter.spec, shorter.last_step, alone=False))
        if history is not stored:
            _write(history, target)
    return target


def write(history, target, pack):
    """Write a history to a file of the caller's, in place of what is there, by np.savez or np.savez_compressed."""
    with _locked(target.parent):
        _write(history, target, pack)


@contextlib.contextmanager
def _locked(folder):
    """One writer at a time, or two processes could each replace the other's longer history."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise OSError(f"cannot store runs in {folder} ({error.strerror or error}): make room there, "
                      "or name another folder; what is stored stays") from error


def _set_aside(file):
    """Move an unreadable file out of the way, to a name that nothing has yet."""
    aside, number = file.with_suffix(".broken"), 1
    while os.path.lexists(aside):
        number += 1
        aside = file.with_suffix(f".broken{number}")
    os.rename(file, aside)


def _write(history, target, pack=np.savez_compressed):
    entries = {name: getattr(history, name) for name in History.CURVES}
    entries |= {f"kept.{name}": array for name, array in history.kept.items()}
    entries |= {"schema": np.array(SCHEMA), "spec": np.array(history.spec.to_json()),
                "stopped_because": np.array(history.stopped_because),
                "provenance": np.array(json.dumps(history.provenance, sort_keys=True))}
    entries["checksum"] = np.array(_checksum(entries))
    packed = io.BytesIO()  # zipfile makes a mess of a disk that is full
    pack(packed, **entries)
    temporary = target.with_name(".writing")  # one name is enough under the lock, and a killed process leaves one file
    try:
        with open(temporary, "wb") as file:
            file.write(packed.getbuffer())
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # the room that it took is lacking elsewhere
        raise
    os.replace(temporary, target)
    _sync_names(target.parent)


def _sync_names(folder):
    """A machine that loses power must not lose a file's new name either. Some file systems cannot sync a folder."""
    with contextlib.suppress(OSError):
        names = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(names)
        finally:
            os.close(names)


def load(file):
    """The history in a file.

    Raises BrokenFile for a damaged one, ForeignFile for a whole one that this version cannot read, and whatever
    the system says (FileNotFoundError, PermissionError, MemoryError, ...) where the fault is not the file's.
    """
    with open(file, "rb") as raw:
        packed = io.BytesIO(raw.read())  # from here on what goes wrong is the file's own fault
    try:
        if not zipfile.is_zipfile(packed):  # numpy would take it for a pickle
            raise ValueError("it is no .npz file: fetch it again, or delete it")
        with np.load(packed, allow_pickle=False) as archive:
            entries = {name: archive[name] for name in archive.files}
        if entries.pop("checksum").item() != _checksum(entries):
            raise ValueError("its checksum does not fit its content")
        if entries["schema"] != SCHEMA:
            raise ForeignFile(f"{file} has schema {entries['schema']}, this grok_lib reads {SCHEMA}")
        spec = _spec(file, entries["spec"].item())
        if spec.key != Path(file).stem.split("@")[0]:
            raise ValueError(f"it holds the run {spec.key}")
        kept = {name.removeprefix("kept."): array for name, array in entries.items() if name.startswith("kept.")}
        history = History(spec, *(entries[name] for name in History.CURVES), kept=kept,
                          stopped_because=entries["stopped_because"].item(),
                          provenance=json.loads(entries["provenance"].item()))
        _check(history)
        return history
    except (MemoryError, ForeignFile):
        raise
    except Exception as error:  # zipfile, zlib, numpy and json each have their own for a damaged file
        raise BrokenFile(f"{file} is not a whole history: "
                         f"{' '.join(str(error).split()) or type(error).__name__}") from error


def _check(history):
    """Raises ValueError for what is no history: one that could be stored, and then answer for nothing."""
    lengths = {name: len(getattr(history, name)) for name in History.CURVES}
    if not history.step.size or len({*lengths.values()}) > 1 or not isinstance(history.provenance, dict):
        raise ValueError("a history needs curves of one length, and a dict of facts: "
                         f"{lengths}, provenance={history.provenance!r}")


def _spec(file, text):
    try:
        return RunSpec.from_json(text)
    except ValueError as error:  # a checksum has vouched for the text, so another version wrote it
        raise ForeignFile(f"{file} is of another version: {error}") from error


def find(spec, store=None):
    """The stored history that answers `spec`, cut to what it asks, or None. What cannot be read is reported."""
    for folder in folders(store):
        for file in _files(folder, spec):
            stored = read(file)
            answer = stored and stored.answer(spec)
            if answer:
                return answer
    return None


def _files(folder, spec):
    """The files that may answer `spec`; the folder is listed only where the first of them does not."""
    if not spec.keep:
        yield path(folder, spec)
    yield from sorted(folder.glob(f"{spec.key}@*.npz"))


def merge(source, folder):
    """Put the runs of another store into this one: of two histories of one run the longer stays, or the first where
    each answers for the other."""
    files = sorted(Path(source).expanduser().glob("*.npz")) if source else []
    if not files:
        raise ValueError(f"there are no runs in {source or 'no folder'}: name the store to merge")
    for file in files:
        if history := read(file):
            save(history, folder)


def read(file):
    """The history in a file, or None; with a warning where there is a file that cannot be read."""
    try:
        return load(file)
    except FileNotFoundError:
        return None
    except (BrokenFile, ForeignFile) as error:
        fault = error
    except OSError as error:
        fault = f"{file} cannot be read ({error.strerror or error})"
    warnings.warn(f"{fault}; passed over", stacklevel=3)
    return None


def _checksum(entries):
    digest = hashlib.sha256()
    for name in sorted(entries):
        array = np.ascontiguousarray(entries[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()
