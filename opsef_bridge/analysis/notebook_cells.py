"""The cells of the notebooks of a project, as text.

``<<NAME>>`` and ``<<SETTINGS>>`` stand for what `opsef_bridge.analysis.notebooks` fills in.
"""

from __future__ import annotations

__all__ = ["cells_of"]

_CONCLUSION = """
# text
## Conclusion

Write between the quotation marks what you found, and run the cell. It goes to
`notebooks/conclusions.md`, with the date, the run and your name.
# code
conclusion = \"\"\"
\"\"\"
conclude(project, conclusion, RUNname="<<NAME>>")
"""

_TEMPLATES: dict[str, str] = {
    "setup": """
# text
# <<NAME>>, 1: Setup

What is tried, and on which images. Run the cells from top to bottom; then go on with
`<<NAME>>_2_Run.ipynb`.
# code
from opsef_bridge.analysis.notebooks import conclude, save_settings
from opsef_bridge.analysis.showing import plan_words, show_images
from opsef_bridge.project import Project
from opsef_bridge.sweep import plan_sweep
from opsef_bridge.sweep.importing import import_images

project = Project("..").must_exist()  # this notebook lies in the folder `notebooks` of a project
# text
## Settings

This is `opsef.yaml` as it was when the notebook was written. Change it here and run the cell. A
list where one value stands is tried value by value.

The text is checked before it is written: an error names the line, and the file stays as it is.
What changes is shown, and the text from before is kept in the folder `notebooks`.
# code
settings = <<SETTINGS>>
save_settings(project, settings)
# text
## Images

The rows of `images/index.csv`, and the pictures as they are segmented.
# code
import_images(project, project.config, print)
show_images(project)
# text
## Plan

What the sweep will do. Nothing is segmented yet.
# code
plan = plan_sweep(project)
print(*plan_words(project, plan), sep="\\n")
CONCLUSION(setup)
""",
    "run": """
# text
# <<NAME>>, 2: Run

Try all variants of `opsef.yaml` on a sample, look at them, adopt the best, and run it on all
images. What was done before is not done again.
# code
from opsef_bridge.analysis.notebooks import conclude
from opsef_bridge.analysis.showing import plan_words, ranking, show_contact_sheet, show_progress
from opsef_bridge.project import Project
from opsef_bridge.sweep import Executor, adopt, plan_batch, plan_sweep, run_plan

project = Project("..").must_exist()  # this notebook lies in the folder `notebooks` of a project
plan = plan_sweep(project, print)
print(*plan_words(project, plan), sep="\\n")
# text
## Sweep
# code
result = run_plan(project, plan, Executor(report=show_progress))
print(f"{result.run}: {result.ok} ok, {result.empty} empty, {result.failed} failed")
print(*result.remarks, sep="\\n")
# text
## Contact sheet

The variants of the highest rank. `top` says how many, `images=["..."]` of which images. The same
as stacks for Fiji are in `compare/` of the run; `report.html` there has all of them.
# code
show_contact_sheet(project, result.run, top=6)
# text
## Ranking

Variants that agree with many different others are first. Read what is said of the order: it is
a proposal, not a truth.
# code
words, variants = ranking(project, result.run)
print(*words, sep="\\n")
variants.groupby("group").head(6)
# text
## Adopt

Put the id of the variant that you choose between quotation marks in place of `None`, such as
`"v0007"`, and run the cells below.
# code
chosen = None
if chosen:
    adopt(project, chosen, run=result.run)
{group: what["id"] + " " + what["slug"] for group, what in project.adopted().items()}
# text
## All images

The adopted variant on all images, whole.
# code
if project.adopted():
    batch = run_plan(project, plan_batch(project), Executor(report=show_progress))
    print(f"{batch.run}: {batch.ok} ok, {batch.empty} empty, {batch.failed} failed")
CONCLUSION(result.run)
""",
    "reimport": """
# text
# <<NAME>>, 3: Reimport

Objects out to Fiji or AnnotatorJ, edits back, and then the tables, the plots and the classes.
# code
import getpass

from IPython.display import Image, display

from opsef_bridge.analysis.analyse import Wish, analyse
from opsef_bridge.analysis.classes import save_classes
from opsef_bridge.analysis.classify import by_gate
from opsef_bridge.analysis.notebooks import conclude
from opsef_bridge.analysis.showing import imported_words, show_objects, show_progress
from opsef_bridge.exchange.files import export_objects, import_path
from opsef_bridge.exchange.saving import How
from opsef_bridge.exchange.sources import variant_of
from opsef_bridge.project import Project

project = Project("..").must_exist()  # this notebook lies in the folder `notebooks` of a project
# text
## Objects out, edits back

Run this cell, edit the files, run it again. Zips that were edited since become revisions first;
nothing of anybody is overwritten. Then one ROI zip per image is written: of the newest edits, else
the batch. Or of a variant of the newest run, such as `variant = "v0007"`; put `None` back once
there are edits.
# code
variant = None
folder = project.exchange_folder("<<NAME>>")
if folder.is_dir():
    for one in import_path(project, folder, How()):
        print(imported_words(one))
files = export_objects(project, [variant] if variant else [], to=folder, remark=print)
print(*(file.relative_to(project.root) for file in files), sep="\\n")
# text
## Edit

In Fiji: open the image, drag its ROI zip onto the Fiji window, edit in the ROI Manager (*Update*
after each change; the group of a ROI is its class), and save all ROIs under the same name. The
menu *Plugins > OpSeF* does the same without files, see `opsef fiji install`.

In AnnotatorJ: `export_annotatorj(project, "<<NAME>>-aj")` of `opsef_bridge.exchange.annotatorj`
writes a folder for it, and `import_annotatorj(project, "<<NAME>>-aj", How())` of
`opsef_bridge.exchange.annotatorj_import` takes it back.
# text
## Measure

Tables go to `tables/`, plots to `plots/`; `tables/columns.md` says what the columns mean. Measured
are the newest edits, else the batch; `measured = "v0007"` takes a variant of the newest run
without edits.
# code
measured = None
of = variant_of(project, measured) if measured else None
done = analyse(project, Wish(embed=["pca"]), variant=of, tell=show_progress)
print(*done.said, sep="\\n")
done.images
# code
done.objects.describe().T
# code
for file in done.files:
    if file.suffix == ".png":
        display(Image(filename=str(file), width=500))
# text
## Classes by a gate

Objects for which the gate holds get the class. Put a gate such as
`"area > 200 and solidity < 0.9"` in place of `None`. It is saved as a revision, and shows in
Fiji in the colour of the class.
# code
gate, number = None, "1"
if gate:
    found = by_gate(project, done.objects, gate, number)
    print(*found.said, sep="\\n")
    author = getpass.getuser()
    for one in save_classes(project, found.classes, author=author, why=found.why):
        print(imported_words(one))
show_objects(project, variant=None if gate else measured)
CONCLUSION(of)
""",
}
"""Cells of each notebook: lines ``# text`` and ``# code`` begin one."""

_RUNS = {"setup": "", "result.run": "run=result.run, ", "of": "run=of[0].id if of else None, "}
"""What the conclusion of each kind says of the run."""


def cells_of(kind: str) -> list[tuple[str, str]]:
    """Return the cells of a notebook.

    Parameters
    ----------
    kind : {"setup", "run", "reimport"}

    Returns
    -------
    list of (str, str)
        ``text`` or ``code``, and its source.

    Examples
    --------
    >>> [what for what, _ in cells_of("setup")][:3]
    ['text', 'code', 'text']
    """
    template = _TEMPLATES[kind]
    for key, run in _RUNS.items():
        template = template.replace(f"CONCLUSION({key})", _CONCLUSION.replace("RUN", run).strip())
    cells: list[tuple[str, list[str]]] = []
    for line in template.strip().splitlines():
        if line in ("# text", "# code"):
            cells.append((line[2:], []))
        else:
            cells[-1][1].append(line)
    return [(what, "\n".join(lines).strip("\n")) for what, lines in cells]
