"""The revisions of an image as they lie on disk: what can be read of them.

::

    annotations/<image>/r0001.zip             the objects, exactly
    annotations/<image>/r0001-received.zip    the file as it came, byte for byte
    annotations/<image>/r0001-base.zip        the objects of a base that is no revision
    annotations/<image>/r0002-own.zip         what was sent, where others' edits were joined
    annotations/<image>/r0001.json            the record; the revision exists once this does
"""

from __future__ import annotations

import re

import numpy as np

from opsef_bridge.errors import InputError, NotFoundError, ProjectError, RoiError
from opsef_bridge.files import file_sha256, read_json
from opsef_bridge.project import Project
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.records import Base, Revision, content_of, read_objects

__all__ = ["Archive"]


class Archive:
    """All revisions of one image. It keeps nothing in memory: the folder is the state.

    Parameters
    ----------
    project : Project
    image : str
        Id of the image.
    """

    def __init__(self, project: Project, image: str) -> None:
        self.image = image
        try:
            self.folder = project.revisions_folder(image)
        except ValueError as error:
            raise InputError(str(error), hint="`opsef images list` shows the images") from None

    def revisions(self) -> list[Revision]:
        """Return the records, oldest first.

        Raises
        ------
        ProjectError
            A record cannot be understood.
        """
        return [self._read(name) for name in self._names()]

    def head(self) -> Revision | None:
        """Return the newest revision; None where nothing was saved yet."""
        names = self._names()
        return self._read(names[-1]) if names else None

    def get(self, revision: str) -> Revision:
        """Return the record of a revision; NotFoundError, with those that are there."""
        names = self._names()
        if revision not in names:
            raise NotFoundError(
                f"{self.image} has no revision {revision!r}",
                hint=f"There are: {', '.join(names)}" if names else "Nothing was saved yet",
            )
        return self._read(revision)

    def objects(self, revision: str) -> Objects:
        """Return the objects of a revision.

        Raises
        ------
        NotFoundError
            There is no such revision.
        RoiError
            Its zip is missing, or is not the one that was saved.
        """
        record = self.get(revision)
        objects = self._kept(f"{revision}.zip", record.sha256, record.shape)
        if len(objects.ids) != record.objects:
            raise ProjectError(
                f"{self.folder / revision}.zip holds {len(objects.ids)} objects; "
                f"{revision}.json says {record.objects}",
                hint=f"{revision}.json was changed by hand: get it back from a backup",
            )
        return objects

    def own(self, revision: str) -> Objects:
        """Return what the author of a revision sent, before it was joined with others' edits.

        Raises
        ------
        NotFoundError, RoiError
            As `objects`.
        """
        record = self.get(revision)
        if not record.merged:
            return self.objects(revision)
        return self._kept(f"{revision}-own.zip", record.own_sha256, record.shape)

    def kept_base(self, base: Base) -> Objects | None:
        """Return the objects of a base that is no revision, as they were when it was edited.

        By its `sha256` if it has one. None where no revision was made from it.
        """
        for one in self.revisions():
            same = (one.base.run, one.base.variant, one.base.file)
            if not one.base_sha256 or same != (base.run, base.variant, base.file):
                continue
            if base.sha256 in (None, one.base_sha256):
                file = f"{one.id}-base.zip"
                empty = not (self.folder / file).is_file()
                found = Objects(np.zeros(one.shape, np.int32))
                if not empty:
                    found = read_objects(self.folder / file, one.shape)
                if content_of(found) == one.base_sha256:
                    return found
        return None

    def _kept(self, name: str, sha256: str | None, shape: tuple[int, ...]) -> Objects:
        """Read a zip beside a revision; no sha256 means no objects, and no zip."""
        if sha256 is None:
            return Objects(np.zeros(shape, np.int32))
        file = self.folder / name
        if not file.is_file() or file_sha256(file) != sha256:
            raise RoiError(
                f"{file} is missing" if not file.is_file() else f"{file} was changed since saved",
                hint="Get the file back from a backup. An edit of it is saved from a copy in "
                "another folder: opsef rois import COPY",
            )
        return read_objects(file, shape)

    def _names(self) -> list[str]:
        names = [path.stem for path in self.folder.glob("r*.json")]
        return sorted((n for n in names if re.fullmatch(r"r\d{4,}", n)), key=lambda n: int(n[1:]))

    def _read(self, name: str) -> Revision:
        file = self.folder / f"{name}.json"
        try:
            record = Revision.from_json(read_json(file))
            if (record.id, record.image) != (name, self.image):
                raise ValueError(f"it is the record of {record.id} of {record.image}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProjectError(
                f"{file} cannot be understood ({error})",
                hint=f"Get it back from a backup; {name}.zip beside it still has the objects",
            ) from None
        return record
