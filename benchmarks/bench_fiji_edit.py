"""How long edits of the Fiji menu take on an image with many objects, in Jython 2.7.4.

Run ``python benchmarks/bench_fiji_edit.py [OBJECTS]``. Without a display: the model and the
ROIs of the Overlay, not the repainting of the window.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from opsef_bridge.imagej.jars import find_jar
from opsef_bridge.rois import write_roi_set

LIBRARY = Path(__file__).parents[1] / "fiji_scripts" / "jars" / "Lib"
PITCH, RADIUS = 44, 19

PROGRAM = """
import sys
from java.io import File
from java.lang import System
from java.nio.file import Files
from opsef_fiji import rois

side = int(sys.argv[2])


def now():
    return System.nanoTime() / 1e9


begin = now()
found = rois.decode(Files.readAllBytes(File(sys.argv[1]).toPath()))
model = rois.model_of(found, side, side)
drawing = rois.Drawing(model)
print("%d objects, %d x %d px: opened in %.0f ms" % (
    len(model.ids()), side, side, 1000 * (now() - begin)))


def timed(name, action, count=60):
    times = []
    for k in range(count):
        begin = now()
        action(k)
        times.append(1000 * (now() - begin))
    warm = sorted(times[1:])
    print("%-8s first %6.1f ms   median %6.2f ms   95 %% %6.2f ms   most %6.1f ms" % (
        name, times[0], warm[len(warm) // 2], warm[int(len(warm) * 0.95)], warm[-1]))


ids = model.ids()
centres = [model.thing(k).boxes[0] for k in ids]


def select(k):
    box = centres[k]
    key = model.at((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
    drawing.update([key], [key])


def split(k):
    box = model.thing(ids[k + 600]).boxes[0]
    middle = (box[0] + box[2]) // 2
    drawing.update(model.split(ids[k + 600], [(middle, box[1] - 2), (middle, box[3] + 2)]))


timed("select", select)
timed("delete", lambda k: drawing.update(model.delete([ids[k]])))
timed("undo", lambda k: drawing.update(model.undo()))
timed("merge", lambda k: drawing.update(model.merge([ids[2 * k + 200], ids[2 * k + 201]])))
timed("split", split)
timed("classify", lambda k: drawing.update(model.classify([ids[k + 900]], 2)))
timed("add", lambda k: drawing.update(
    model.add([(y, 12 * k + 2, 12 * k + 10) for y in range(2, 5)])))
begin = now()
data, count = rois.pack(model)
print("packed %d objects, %d bytes in %.0f ms" % (count, len(data), 1000 * (now() - begin)))
begin = now()
model.next_uncertain()
print("the first next uncertain object: %.0f ms" % (1000 * (now() - begin)))
"""


def main(number: int) -> None:
    """Make a grid of discs, open it in Jython, and time each edit."""
    across = int(np.ceil(number**0.5))
    side = across * PITCH + 8
    rows, columns = np.mgrid[:side, :side]
    y, x = (rows - 8) % PITCH - PITCH // 2, (columns - 8) % PITCH - PITCH // 2
    cells = (rows - 8) // PITCH * across + (columns - 8) // PITCH + 1
    inside = (y * y + x * x <= RADIUS**2) & (rows >= 8) & (columns >= 8) & (cells <= number)
    labels = np.where(inside, cells, 0).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "objects.zip"
        write_roi_set(file, labels)
        (Path(folder) / "luts").mkdir()
        # ImageJ brings it; it asks for it at every ROI that has a group.
        (Path(folder) / "luts" / "glasbey.lut").write_bytes(bytes(range(256)) * 3)
        program = Path(folder) / "program.py"
        program.write_text(PROGRAM)
        path = os.pathsep.join(map(str, (find_jar("jython"), find_jar("ij"))))
        command = ["java", "-cp", path, "-Djava.awt.headless=true",
                   "-Dpython.cachedir.skip=true", f"-Dpython.path={LIBRARY}",
                   f"-Dplugins.dir={folder}",
                   "org.python.util.jython", str(program), str(file), str(side)]  # fmt: skip
        subprocess.run(command, check=True, timeout=300)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
