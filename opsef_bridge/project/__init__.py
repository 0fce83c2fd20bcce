"""The project folder: the only part that knows what lies where.

::

    opsef.yaml                       what the user wants
    images/index.csv                 one row per image
    runs/<run>/plan.json             variants, units, and the keys they make
    runs/<run>/run.json              the record
    runs/<run>/variants.csv          the ranking
    runs/<run>/ranking.json          what is to be said of it: ties, sizes, how sure it is
    runs/<run>/outcomes.csv          one row per image and variant
    runs/<run>/units/<unit>.json     what a unit has done so far
    runs/<run>/logs/<unit>.txt       what its worker said
    runs/<run>/tiles/<variant>/<image>/<tile>.tif    labels on their way to be merged
    runs/<run>/labels/<variant>/<image>.tif
    runs/<run>/rois/<variant>/<image>_ROIs.zip, .json
    runs/<run>/compare/<image>.tif   comparison hyperstack
    runs/<run>/batch.tif, report.html
    cache/                           steps, maps: may be deleted at any time
    adopted.json                     the variant chosen for each group, and why
    engines.json                     engines in other interpreters
    annotations/<image>/r0001.json, r0001.zip, r0001-received.*    revisions
    annotations/blind.json           which objects hide behind a token
    annotations/verdicts.csv         what persons think of variants: good, over, under, missed
    truth/<image>.json, .tif, .known.tif   what a person vouches for
    truth/<image>.answers.json       what a person answered about single places
    exchange/<name>/                 files on their way to AnnotatorJ and back
    inbox/<id>.json, jobs/<id>.json  requests, and what became of each
    tables/objects.csv, .parquet     measured objects; images, conditions, columns.md beside
    plots/                           figures of them; objects.html to explore
    notebooks/                       notebooks, conclusions.md, older opsef-*.yaml
    models/<name>/                   weights that were added
    datasets/<dataset>/dataset.json, images/, labels/, known/   vouched labels to learn from
    trainings/<training>/            as runs/: networks that were trained and judged
    trainings/<training>/models/     candidates: weights with their cards

Deleting ``runs/`` and ``cache/`` loses no work of a person; ``annotations/``, ``truth/``,
``notebooks/`` and what came back in ``exchange/`` are that work.
"""

from opsef_bridge.project.csv_files import read_csv, read_csv_lines, write_csv
from opsef_bridge.project.entries import ImageEntry, safe_name
from opsef_bridge.project.folder import Project
from opsef_bridge.project.runs import Run

__all__ = [
    "ImageEntry",
    "Project",
    "Run",
    "read_csv",
    "read_csv_lines",
    "safe_name",
    "write_csv",
]
