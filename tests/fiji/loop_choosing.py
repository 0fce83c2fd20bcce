"""Choose well, in a real ImageJ window: questions by keys, support in colours, the work list."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from imagej_window import Window, end
from loop_online import status

ENTER, ESCAPE = 10, 27


def meanwhile(word: str, value: Any = "") -> None:
    """Have the test do something, and wait until it is done."""
    print(f"{word} {json.dumps(value)}", flush=True)
    sys.stdin.readline()


def said(window: Window, text: str) -> None:
    window.wait(lambda: text in hint(window), f"the hint never says {text!r}: {hint(window)!r}")


def hint(window: Window) -> str:
    """Return what the window of keys says, "" where there is none."""
    frame = frame_of(window, "OpSeF: Answer Questions")
    if frame is None:
        return ""
    label = window.java("java.awt.Label")
    return "\n".join(str(p.getText()) for p in frame.getComponents() if isinstance(p, label))


def frame_of(window: Window, title: str) -> Any:
    for shown in window.java("java.awt.Frame").getFrames():
        if shown.isShowing() and str(shown.getTitle()) == title:
            return shown
    return None


def text_of(window: Window, start: str) -> str:
    """Return the text of the window whose title begins so, and close it."""
    kind = window.java("ij.text.TextWindow")
    for shown in window.java("java.awt.Frame").getFrames():
        ours = isinstance(shown, kind) and str(shown.getTitle()).startswith(start)
        if ours and shown.isShowing():
            text = str(shown.getTextPanel().getText())
            shown.close()
            return text
    return ""


def drawn_of(image: Any, name: str) -> list[Any]:
    return [r for r in image.getOverlay().toArray() if str(r.getName()) == name]


def questions(window: Window, told: dict) -> None:
    """Five questions: right, nothing here, drawn; back and changed; skipped; a dead line."""
    recorder = window.java("ij.plugin.frame.Recorder")()
    recorder.setLocation(700, 700)
    toolbar = window.java("ij.gui.Toolbar")
    window.IJ.setTool("oval")

    def fill(dialog: Any) -> None:
        dialog.getNumericFields().get(0).setText("6")

    window.dialog("Answer Questions", fill, "questions-dialog")
    said(window, "Question 1 of 6")
    image = window.image()
    assert "(questions)" in str(image.getTitle())
    [asked] = drawn_of(image, "asked")
    assert drawn_of(image, "other"), "the other objects are not drawn"
    assert toolbar.getToolId() == toolbar.HAND
    box = asked.getBounds()
    part = image.getCanvas().getSrcRect()
    assert part.contains(box) and image.getCanvas().getMagnification() > 2
    window.shot("questions-first")

    # ImageJ's own shortcuts do not fire: i would open a window, x would crop the image.
    count = len(list(window.java("java.awt.Frame").getFrames()))
    for letter in "ixtI":
        window.key(letter)
    assert len(list(window.java("java.awt.Frame").getFrames())) == count and not window.errors
    window.key("o")
    assert image.getHideOverlay()
    window.key("o")
    assert not image.getHideOverlay()
    window.key("b")
    said(window, "This is the first question")

    window.key("y")
    said(window, "Question 2 of 6")
    window.wait(lambda: "1 answers" in hint(window), "no answer came: " + hint(window))
    said(window, "comes first now")

    # Drawn: first not where the outline is, then right. Esc takes the drawing back.
    image = window.image()
    [asked] = drawn_of(image, "asked")
    box = asked.getBounds()
    window.key("d")
    said(window, "Draw the right outline")
    assert toolbar.getToolId() == toolbar.FREEROI
    window.key(chr(ESCAPE), ESCAPE)
    assert toolbar.getToolId() == toolbar.HAND and frame_of(window, "OpSeF: Answer Questions")
    window.key("2")
    window.key(chr(ENTER), ENTER)
    said(window, "There is no area selection yet")
    oval = window.java("ij.gui.OvalRoi")
    far = (0 if box.x > 20 else 230), (0 if box.y > 20 else 205)
    image.setRoi(oval(*far, 6, 6))
    window.key(chr(ENTER), ENTER)
    said(window, "not where the outline is")
    image.setRoi(oval(box.x, box.y, box.width, box.height))
    window.shot("questions-draw")
    window.key(chr(ENTER), ENTER)
    said(window, "Question 3 of 6")
    window.wait(lambda: "2 answers" in hint(window), "no answer came: " + hint(window))

    # Back, and another answer; then skip.
    window.key("b")
    said(window, "You said: drawn anew")
    window.key("n")
    said(window, "Question 3 of 6")
    titles = set()
    for letter, number in zip("sssbs", (4, 5, 6, 5, 6), strict=True):
        window.key(letter)
        said(window, f"Question {number} of 6")
        title = str(window.image().getTitle())
        assert title.split()[0] in hint(window) and drawn_of(window.image(), "asked")
        assert window.java("ij.WindowManager").getImageCount() == 1
        titles.add(title)
    titles.add(str(image.getTitle()))
    assert len(titles) == 2, "all questions are about one image"

    # A line that is dead: the answer is kept, and sent when the command comes again.
    meanwhile("DEAD")
    window.key("3")
    found = window.wait(lambda: text_of(window, "Answers about"), "no summary", 120)
    print("SUMMARY " + json.dumps(found), flush=True)
    assert "3 of 6 answered: 2 nothing here, 1 right" in found, found
    assert "1 did not arrive" in found, found
    assert frame_of(window, "OpSeF: Answer Questions") is None
    assert toolbar.getToolId() == toolbar.OVAL, "the tool is not given back"
    assert window.java("ij.WindowManager").getImageCount() == 0
    meanwhile("ALIVE")
    window.dialog("Answer Questions", fill)
    said(window, "Question 1 of")
    window.wait(lambda: "3 answers" in hint(window), "it was not sent: " + hint(window))
    # Enter is ImageJ's again once the questions are stopped.
    window.key(chr(ESCAPE), ESCAPE)
    found = window.wait(lambda: text_of(window, "Answers about"), "no summary")
    assert "0 of" in found and "comes first now, with 3 answers" in found, found
    window.settled()
    print("RECORDED " + json.dumps(str(recorder.getText())), flush=True)
    recorder.close()


COLOURS = {"fde725", "7ad151", "22a884", "2a788e", "414487"}
"""Of the classes of support, as the service names them."""


def colours_of(image: Any, frame: int = 0) -> set[str]:
    """Return the colours of the outlines, of a frame if one is named."""
    overlay = image.getOverlay()
    rois = [] if overlay is None else overlay.toArray()
    return {f"{int(r.getStrokeColor().getRGB()) & 0xFFFFFF:06x}" for r in rois
            if not frame or r.getTPosition() == frame}  # fmt: skip


def key_window(window: Window) -> Any:
    """Return the window with the colours of support."""
    for shown in window.java("java.awt.Frame").getFrames():
        if shown.isShowing() and str(shown.getTitle()).startswith("Support of"):
            return shown
    return None


def key_title(window: Window) -> str:
    shown = key_window(window)
    return "" if shown is None else str(shown.getTitle())


def comparison(window: Window, told: dict) -> None:
    """Why is this first; outlines in colours of support; a verdict on the frame that is shown."""
    window.run("Open Comparison", f"run=[(newest)] image={told['image']}")
    image = window.image()
    window.key("w")
    found = window.wait(lambda: text_of(window, "Why v"), "no reason")
    assert "WHY IS THIS FIRST" in found and "first choice\tv0" in found, found
    assert "note\t" in found and "plain_mean\t" in found, found

    before = colours_of(image)
    window.key("s")
    window.wait(lambda: key_window(window), "no colours come", 120)
    assert colours_of(image, 1) and colours_of(image) <= COLOURS, colours_of(image)
    assert not colours_of(image, 2)
    window.shot("support-comparison")
    window.key(" ", 39)
    window.wait(lambda: colours_of(image, 2), "the next variant is not coloured", 120)
    window.wait(lambda: variant_of(image) in key_title(window), "its key does not show")
    # A verdict is on what is shown.
    window.key("3")
    window.wait(lambda: "verdict: under" in status(window), "no verdict")
    print("JUDGED " + json.dumps(variant_of(image)), flush=True)
    window.key("s")
    window.wait(lambda: key_window(window) is None, "the colours stay")
    assert colours_of(image) == before

    def look(dialog: Any) -> None:
        buttons = [str(b.getLabel()).strip() for b in dialog.getButtons() if b is not None]
        assert "Help" in buttons, buttons

    window.dialog("Adopt Variant", look, "adopt-why")
    window.settled()
    image.close()


def variant_of(image: Any) -> str:
    label = str(image.getStack().getSliceLabel(image.getStackIndex(1, 1, image.getT())))
    return next(word for word in label.split() if word.startswith("v0"))


def work(window: Window, told: dict) -> None:
    """The order of images, colours of support, the work list; what is added is saved."""
    window.run("Edit Objects", "action=[which image first?]")
    found = window.wait(lambda: text_of(window, "Which image first"), "no order")
    order = [line.split("\t")[0] for line in found.splitlines() if line.startswith("i0")]
    assert len(order) == 2, found

    def fill(dialog: Any) -> None:
        images = dialog.getChoices().get(1)
        shown = [str(images.getItem(k)) for k in range(images.getItemCount())]
        assert [one.split("  doubt ")[0] for one in shown] == order, shown
        assert all("  doubt " in one for one in shown), shown
        images.select(next(k for k, one in enumerate(shown) if one.startswith(told["image"])))
        dialog.getStringFields().get(1).setText(told["base"])

    window.dialog("Edit Objects", fill, "edit-review-dialog")
    window.settled()
    image = window.image()
    count = window.overlay()
    plain = colours_of(image)
    assert "n: go there" in status(window), (status(window), window.log())
    window.key("o")
    assert key_window(window) is not None and colours_of(image) <= COLOURS
    window.shot("support-edit")
    assert {r.getGroup() for r in image.getOverlay().toArray()} == {0}

    # Through the list, with the ROI Manager beside.
    window.run("Edit Objects", "action=[to ROI Manager]")
    manager = window.java("ij.plugin.frame.RoiManager").getInstance()
    assert manager.getCount() == count
    window.to_front(image)
    doubtful = 0
    for _ in range(50):
        window.key("n")
        if drawn_of(image, "candidate"):
            break
        assert "support 0." in status(window), status(window)
        [chosen] = list(manager.getSelectedIndexes())
        label = int(status(window).split("object ")[1].split(",")[0])
        assert int(str(manager.getRoi(chosen).getProperty("label"))) == label
        doubtful += 1
    [candidate] = drawn_of(image, "candidate")
    assert candidate.getStroke().getDashArray() is not None
    assert image.getCanvas().getSrcRect().contains(candidate.getBounds())
    window.shot("work-list")
    window.key("p")
    assert not drawn_of(image, "candidate") or not doubtful
    window.key("n")
    [candidate] = drawn_of(image, "candidate")
    window.key("y")  # it takes the place of the doubtful one in it
    assert "in place of" in status(window) and not drawn_of(image, "candidate"), status(window)
    assert window.overlay() == count and manager.getCount() == count
    window.key("n")
    [candidate] = drawn_of(image, "candidate")
    window.key("y")
    assert "is added." in status(window) and not drawn_of(image, "candidate"), status(window)
    assert window.overlay() == count + 1 and manager.getCount() == count + 1
    window.shot("work-list-added")
    assert not window.errors, window.errors
    manager.reset()
    manager.close()
    window.to_front(image)
    window.run("Save Back", "checked=[only what I touched] conflicts=[stop and show them]")
    assert str(image.getProperty("opsef.etag")) == '"r0001"'
    assert colours_of(image) <= COLOURS | {"bebebe"}, "the colours do not stay"
    window.key("o")
    assert colours_of(image) == plain and key_window(window) is None
    box = candidate.getBounds()
    print("WORKED " + json.dumps({"doubtful": doubtful, "box": [
        int(v) for v in (box.y, box.x, box.height, box.width)]}), flush=True)  # fmt: skip
    window.key("n")
    window.key("q")


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    window = Window(Path(told["app"]), Path(told["classes"]), Path(told["pictures"]))
    try:
        window.run("Connect", f"invitation=[{told['invitation']}] project=[{told['project']}]")
        for part in told["parts"]:
            globals()[part](window, told)
        assert not window.errors, window.errors
        print("TIMES " + json.dumps(window.times), flush=True)
        print("PASSED", flush=True)
    except BaseException:
        traceback.print_exc()
        print("HINT", hint(window), flush=True)
        window.shot("failed")
        print("LOG", window.log(), window.errors, status(window), flush=True)
        end(1)
    end(0)
