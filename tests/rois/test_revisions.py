"""The chain of revisions: nothing that a person saved is ever lost."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil

import numpy as np
import pytest

from opsef_bridge.errors import (
    InputError,
    LockedError,
    NotFoundError,
    ProjectError,
    RoiError,
    StaleError,
)
from opsef_bridge.files import file_sha256, lock
from opsef_bridge.measure.changes import LARGEST_ID
from opsef_bridge.project import Project
from opsef_bridge.rois import read_rois, records, revisions, write_rois
from opsef_bridge.rois.merging import ObjectChanges
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, History, Revision, Source

IMAGE = "i00001-cells"
VARIANT = Base(run="run-0001", variant="v0007")


def of(*values: int, classes: dict[int, int] | None = None) -> Objects:
    """Objects on one row."""
    return Objects(np.array([values], np.int32), classes or {})


START = of(1, 1, 0, 2, 2, 0, 3, 3, 0, 0, classes={1: 1})
NOTHING = of(*[0] * 10)


@pytest.fixture
def history(tmp_path):
    return History(Project(tmp_path), IMAGE)


def save(history, objects, base=None, *, name="a_ROIs.zip", content=None, **more):
    """Save an edit; every file has other bytes unless `content` says them."""
    content = content or f"{name} {len(list(history.folder.glob('*')))} {objects.labels.tolist()}"
    source = Source(name, hashlib.sha256(content.encode()).hexdigest(), "imagej-zip")
    more = {"author": "Ada", "source": source} | more
    if isinstance(base, str):
        base = Base(revision=base)
    return history.save(objects, base=base or Base(), **more)


def first(history, objects=START, **more):
    """Save a first revision, made from a variant with the objects START."""
    return save(history, objects, VARIANT, base_objects=START, **more)


def files(history) -> dict[str, bytes]:
    """Return all files of the chain."""
    return {
        path.name: path.read_bytes() for path in history.folder.iterdir() if path.name[0] == "r"
    }


def row(history, revision) -> list[int]:
    return history.objects(revision).labels[0].tolist()


def test_a_first_revision_of_what_nobody_changed_is_one(history):
    assert history.head() is None and history.revisions() == []
    saved = first(history, notes=["2 ROIs were clipped"], class_names={1: "nucleus"})
    one = saved.revision
    assert saved.new and one == history.head() == history.get("r0001")
    assert one.base == one.made_from == VARIANT
    assert (one.image, one.author, one.objects, one.last_id) == (IMAGE, "Ada", 3, 3)
    assert (one.classes, one.class_names, one.shape) == ({1: 1}, {1: "nucleus"}, (1, 10))
    assert one.notes == ["2 ROIs were clipped"] and not one.changes and not one.merged
    assert one.at.endswith("+00:00")
    assert one.sha256 == file_sha256(history.folder / "r0001.zip")
    assert history.objects("r0001").same_as(START)


def test_changes_are_told(history):
    one = first(history, of(9, 9, 0, 4, 0, 0, 0, 0, 0, 5, classes={9: 2})).revision
    assert one.changes == ObjectChanges((4,), (3,), (2,), {1: (1, 2)})
    assert row(history, "r0001") == [1, 1, 0, 2, 0, 0, 0, 0, 0, 4]


def test_imagej_sees_names_groups_and_colours(history):
    first(history)
    rois = read_rois(history.folder / "r0001.zip")
    assert [(roi.name, roi.group, roi.position) for roi in rois] == [
        ("0001", 1, 0),
        ("0002", 0, 0),
        ("0003", 0, 0),
    ]
    assert rois[0].stroke_color == bytes((255, 255, 0, 0))
    assert rois[1].stroke_color == bytes(4)


def test_the_next_edit_of_the_newest_revision(history):
    first(history, class_names={1: "nucleus"})
    two = save(history, of(1, 1, 0, 2, 2, 0, 0, 0, 0, 0), "r0001", class_names={2: "x"}).revision
    assert (two.id, two.base, two.made_from) == ("r0002", Base("r0001"), Base("r0001"))
    assert two.changes == ObjectChanges((), (3,), (), {1: (1, 0)})
    assert two.class_names == {1: "nucleus", 2: "x"}
    assert [one.id for one in history.revisions()] == ["r0001", "r0002"]
    assert history.objects("r0001").same_as(START)


def test_the_file_that_came_is_kept_byte_for_byte(history, tmp_path):
    came = tmp_path / "My ROIs.ZIP"
    came.write_bytes(bytes(range(256)))
    first(history, received=came)
    assert files(history)["r0001-received.ZIP"] == bytes(range(256))


def test_the_same_file_twice_does_nothing(history):
    first(history, content="one")
    before = files(history)
    again = first(history, content="one")
    assert not again.new and again.revision.id == "r0001" and files(history) == before
    assert "r0001, the newest" in again.said[0]
    save(history, NOTHING, "r0001")
    again = first(history, content="one")
    assert not again.new and again.revision.id == "r0001"
    assert f"opsef rois restore {IMAGE} r0001" in again.said[0]
    assert len(history.revisions()) == 2


def test_going_back_to_an_earlier_state_is_an_edit(history):
    """The same bytes again, but made from a later revision: taken back on purpose."""
    first(history, content="one")
    save(history, NOTHING, "r0001", content="two")
    back = save(history, START, "r0002", content="one")
    assert back.new and back.revision.id == "r0003"
    np.testing.assert_array_equal(history.objects("r0003").labels > 0, START.labels > 0)
    again = save(history, NOTHING, "r0003", content="two")
    assert again.new and history.head().objects == 0
    twice = save(history, NOTHING, "r0004", content="two")
    assert not twice.new and twice.revision.id == "r0004"


def test_two_people_may_draw_on_an_image_without_objects(history):
    save(history, of(1, 1, *[0] * 8), Base(empty=True), author="Bob")
    joined = save(history, of(*[0] * 8, 1, 1), Base(empty=True))
    assert joined.revision.merged and joined.revision.objects == 2
    with pytest.raises(StaleError, match="both changed: "):
        save(history, of(0, 5, 5, *[0] * 7), Base(empty=True))
    with pytest.raises(StaleError, match="not known which"):
        save(history, of(0, 0, 0, 7, *[0] * 6), None)


def test_the_zip_of_a_revision_is_that_revision(history):
    first(history)
    source = Source("r0001.zip", file_sha256(history.folder / "r0001.zip"), "imagej-zip")
    saved = save(history, START, source=source)
    assert not saved.new and saved.revision.id == "r0001"
    save(history, NOTHING, "r0001")
    saved = save(history, START, source=source)
    assert not saved.new and "restore" in saved.said[0]


def test_another_file_with_the_same_objects_does_nothing(history):
    first(history)
    renumbered = START.renumbered({1: 30, 3: 1})
    for base in ("r0001", None):
        saved = save(history, renumbered, base)
        assert not saved.new and saved.revision.id == "r0001"
    assert set(files(history)) == {"r0001.json", "r0001.zip", "r0001-base.zip"}


def test_names_of_classes_alone_are_an_edit(history):
    first(history, class_names={1: "nucleus"})
    saved = save(history, START, "r0001", class_names={1: "dividing"})
    assert saved.new and saved.revision.class_names == {1: "dividing"}


def test_deleting_all_is_a_revision(history):
    first(history)
    two = save(history, NOTHING, "r0001").revision
    assert (two.objects, two.sha256, two.changes.deleted) == (0, None, (1, 2, 3))
    assert not (history.folder / "r0002.zip").exists()
    assert history.objects("r0002").same_as(NOTHING)
    assert save(history, NOTHING, "r0002").new is False


def test_an_image_may_have_no_objects_from_the_start(history):
    empty = Source("", "", "empty")
    saved = save(history, NOTHING, source=empty)
    assert saved.new and saved.revision.base == Base()
    save(history, START, "r0001")
    assert save(history, NOTHING, "r0002", source=empty).new, "no file, so never the same file"


def test_any_revision_is_restored(history):
    first(history, class_names={1: "nucleus"})
    save(history, NOTHING, "r0001")
    back = history.restore("r0001", author="Bob")
    assert back.new and back.revision.id == "r0003" and back.revision.author == "Bob"
    assert back.revision.source == Source("r0001.zip", history.get("r0001").sha256, "restore")
    assert back.revision.changes.added == (1, 2, 3)
    assert history.objects("r0003").same_as(START)
    empty = history.restore("r0002", author="Bob")
    assert empty.revision.id == "r0004" and empty.revision.objects == 0
    assert history.objects("r0004").same_as(NOTHING)
    assert not history.restore("r0002", author="Bob").new
    assert history.restore("r0003", author="Bob").revision.id == "r0005"
    with pytest.raises(NotFoundError, match="r0001, r0002, r0003, r0004, r0005"):
        history.restore("r0009", author="Bob")


def test_ids_are_never_used_again(history):
    first(history)
    save(history, of(1, 1, 0, 2, 2, 0, 3, 3, 0, 8), "r0001")
    assert row(history, "r0002")[-1] == 4
    save(history, START, "r0002")
    saved = save(history, of(1, 1, 0, 2, 2, 0, 3, 3, 4, 0), "r0003")
    assert row(history, "r0004")[-2] == 5 and saved.revision.last_id == 5
    history.restore("r0001", author="Bob")
    save(history, of(1, 1, 0, 2, 2, 0, 3, 3, 9, 0), "r0005")
    assert row(history, "r0006")[-2] == 6


def test_ids_of_a_base_that_were_deleted_at_once_are_not_used_again(history):
    first(history, of(1, 1, 0, 2, 2, 0, 0, 0, 0, 0))
    save(history, of(1, 1, 0, 2, 2, 0, 0, 0, 0, 3), "r0001")
    assert row(history, "r0002")[-1] == 4


def test_large_ids_with_gaps(history):
    base = of(70_000, 70_000, 0, 2**24 + 1, 0, LARGEST_ID - 1, 0, 0, 0, 0, classes={70_000: 255})
    one = save(history, base, VARIANT, base_objects=base).revision
    assert history.objects(one.id).same_as(base)
    two = save(history, of(1, 1, 0, 2, 0, 3, 0, 0, 0, 4, classes={1: 255}), "r0001")
    assert row(history, two.revision.id)[-1] == LARGEST_ID
    with pytest.raises(InputError, match=str(LARGEST_ID)):
        save(history, of(1, 1, 0, 2, 0, 3, 0, 0, 4, 0), "r0002")
    assert history.head().id == "r0002"


def test_volumes(history):
    base = np.zeros((3, 4, 5), np.int32)
    base[:2, 1:3, 1:3] = 70_000
    base[1, 3, 4] = 2
    base = Objects(base, {70_000: 3})
    save(history, base, VARIANT, base_objects=base)
    assert history.objects("r0001").same_as(base)
    edited = np.where(base.labels == 2, 0, base.labels)
    edited[2, 0, 0] = 5
    two = save(history, Objects(edited, {70_000: 3}), "r0001").revision
    assert two.changes == ObjectChanges((70_001,), (2,), (), {}) and two.shape == (3, 4, 5)
    names = [roi.name for roi in read_rois(history.folder / "r0002.zip")]
    assert names == ["70000-0001", "70000-0002", "70001-0003"]


def test_a_split_and_a_merge_by_the_user(history):
    base = of(1, 1, 1, 1, 1, 0, 2, 2, 3, 0)
    save(history, base, VARIANT, base_objects=base)
    one = save(history, of(1, 0, 2, 2, 2, 0, 3, 3, 3, 0), "r0001").revision
    assert row(history, one.id) == [4, 0, 1, 1, 1, 0, 2, 2, 2, 0]
    assert one.changes == ObjectChanges((4,), (3,), (1, 2), {})


# Two people


def test_edits_of_different_objects_are_joined(history):
    first(history)
    save(history, of(1, 1, 0, 2, 2, 0, 0, 0, 0, 7, classes={1: 1}), "r0001", author="Bob")
    saved = save(history, of(1, 0, 0, 2, 2, 0, 3, 3, 4, 0, classes={1: 1, 2: 5}), "r0001")
    three = saved.revision
    assert row(history, "r0003") == [1, 0, 0, 2, 2, 0, 0, 0, 5, 4]
    assert history.objects("r0003").classes == {1: 1, 2: 5}
    assert three.merged and (three.base, three.made_from) == (Base("r0002"), Base("r0001"))
    assert three.changes == ObjectChanges((5,), (), (1,), {2: (0, 5)})
    assert "r0002 by Bob" in saved.said[0] and three.notes == [saved.said[0]]


def test_class_and_shape_of_one_object_are_joined(history):
    first(history)
    save(history, of(1, 1, 1, 2, 2, 0, 3, 3, 0, 0, classes={1: 1}), "r0001")
    save(history, of(1, 1, 0, 2, 2, 0, 3, 3, 0, 0, classes={1: 6}), "r0001")
    assert row(history, "r0003")[:3] == [1, 1, 1]
    assert history.objects("r0003").classes == {1: 6}


def test_a_stale_edit_is_refused_with_a_report(history):
    first(history)
    save(history, of(1, 0, 0, 2, 2, 0, 3, 3, 0, 0, classes={1: 1}), "r0001", author="Bob")
    before = files(history)
    mine = of(1, 1, 1, 2, 2, 0, 0, 0, 0, 0, classes={1: 1})
    with pytest.raises(StaleError, match="r0002 by Bob") as caught:
        save(history, mine, "r0001", name="mine.zip")
    report = json.loads(json.dumps(caught.value.report))
    assert report["base"] == {"name": "r0001", "revision": "r0001"}
    assert report["theirs"]["revision"] == "r0002" and report["theirs"]["author"] == "Bob"
    assert report["theirs"]["summary"] == "1 changed"
    assert report["ours"] == {
        "file": "mine.zip",
        "author": "Ada",
        "summary": "1 deleted, 1 changed",
    }
    (conflict,) = report["conflicts"]
    assert (conflict["id"], conflict["theirs"], conflict["ours"]) == (1, "changed", "changed")
    assert "--resolve" in caught.value.hint and "r0002" in caught.value.hint
    assert files(history) == before
    ours = save(history, mine, "r0001", resolve="ours").revision
    assert row(history, ours.id) == [1, 1, 1, 2, 2, 0, 0, 0, 0, 0]
    assert any("object 1" in note for note in ours.notes)
    assert {name: files(history)[name] for name in before} == before


def test_a_stale_edit_resolved_for_theirs_keeps_the_rest_of_ours(history):
    first(history)
    save(history, of(1, 0, 0, 2, 2, 0, 3, 3, 0, 0, classes={1: 1}), "r0001")
    save(history, of(0, 0, 0, 2, 2, 0, 0, 0, 0, 9), "r0001", resolve="theirs")
    assert row(history, "r0003") == [1, 0, 0, 2, 2, 0, 0, 0, 0, 4]


def test_two_first_revisions_of_one_variant(history):
    first(history, of(1, 1, 0, 2, 2, 0, 3, 3, 0, 0, classes={1: 4}))
    second = first(history, of(1, 1, 0, 2, 2, 0, 0, 0, 0, 0, classes={1: 1})).revision
    assert second.merged and second.made_from == VARIANT and second.base == Base("r0001")
    assert row(history, "r0002") == [1, 1, 0, 2, 2, 0, 0, 0, 0, 0]
    assert history.objects("r0002").classes == {1: 4}
    with pytest.raises(StaleError):
        first(history, of(1, 1, 0, 2, 2, 0, 3, 3, 0, 0, classes={1: 5}))


def test_ids_of_the_variant_hold_whatever_became_of_the_objects(history):
    """Most of what was 1 in the variant is 4 now; an edit of 1 still means 1."""
    base = of(1, 1, 1, 1, 1, 1, 1, 1, 1, 0)
    save(history, base, VARIANT, base_objects=base)
    save(history, of(1, *[0] * 9), "r0001")
    save(history, of(1, 0, 4, 4, 4, 4, 4, 4, 4, 0), "r0002")
    assert row(history, "r0003") == [1, 0, 2, 2, 2, 2, 2, 2, 2, 0]
    save(history, Objects(base.labels, {1: 3}), VARIANT, base_objects=base)
    assert history.objects("r0004").classes == {1: 3}


def test_ids_that_others_gave_and_deleted_meanwhile_are_not_used_again(history):
    first(history)
    save(history, of(1, 1, 0, 2, 2, 0, 3, 3, 0, 8, classes={1: 1}), "r0001")
    save(history, START, "r0002")
    save(history, of(1, 1, 0, 2, 2, 0, 3, 3, 4, 0, classes={1: 1}), "r0001")
    assert row(history, "r0004") == [1, 1, 0, 2, 2, 0, 3, 3, 5, 0]


def test_an_edit_of_another_variant_is_joined_by_pixels_not_by_numbers(history):
    """In the other variant 3 is what 1 is here, and 1 is what 2 is here."""
    first(history)
    other = of(3, 3, 0, 1, 1, 0, 7, 7, 0, 0)
    base = Base(run="run-0002", variant="v0001")
    edited = of(3, 3, 0, 0, 0, 0, 7, 7, 0, 9, classes={7: 2})
    save(history, edited, base, base_objects=other)
    assert row(history, "r0002") == [1, 1, 0, 0, 0, 0, 3, 3, 0, 4]
    assert history.objects("r0002").classes == {1: 1, 3: 2}


def test_a_run_made_anew_under_the_old_name_is_another_base(history):
    """`runs/` may be deleted: run-0001 and v0007 are other labels then."""
    first(history)
    again = of(2, 2, 0, 1, 1, 0, 3, 3, 0, 0)
    save(history, of(2, 2, 0, 0, 0, 0, 3, 3, 0, 0), VARIANT, base_objects=again)
    assert row(history, "r0002") == [1, 1, 0, 0, 0, 0, 3, 3, 0, 0]


def test_a_base_must_be_named_once_there_are_revisions(history):
    first(history)
    with pytest.raises(StaleError, match="not known") as caught:
        save(history, of(1, *[0] * 9))
    assert "--base r0001" in caught.value.hint and caught.value.report["conflicts"] == []
    assert len(history.revisions()) == 1


def test_a_blind_base_stays_hidden_until_saved(history):
    first(history)
    other = Base(run="run-0001", variant="v0042")
    save(history, of(1, *[0] * 9), other, base_objects=START, blind=True)
    with pytest.raises(StaleError) as caught:
        save(history, of(0, 1, *[0] * 8), other, base_objects=START, blind=True)
    assert "v0042" not in f"{caught.value} {caught.value.report}"
    two = history.head()
    assert two.blind and two.made_from == other


# Accidents


def test_a_crash_before_the_record_loses_nothing(history, monkeypatch, tmp_path):
    came = tmp_path / "mine.zip"
    came.write_bytes(b"mine")
    first(history)
    acknowledged = files(history)
    mine = of(1, 1, 0, 2, 2, 0, 0, 0, 0, 0, classes={1: 1})

    def crash(path, value):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(revisions, "write_json", crash)
        with pytest.raises(OSError, match="no space"):
            save(history, mine, "r0001", content="mine", received=came)
    assert history.head().id == "r0001"
    assert files(history) == acknowledged, "a full disk is not filled further by every try"
    (history.folder / "r0002.zip").write_bytes(b"left by a process that was killed")
    saved = save(history, mine, "r0001", content="mine", received=came)
    assert saved.new and saved.revision.id == "r0003", "the number of the crash is not used again"
    assert (history.folder / "r0002.zip").read_bytes().startswith(b"left")
    assert {name: files(history)[name] for name in acknowledged} == acknowledged
    assert files(history)["r0003-received.zip"] == b"mine"
    assert history.objects("r0003").same_as(mine)


def test_who_goes_on_after_a_merge_edits_what_was_sent(history):
    """The file lacks what others did; taking back an edit of one's own is an edit too."""
    first(history)
    without = np.where(START.labels == 1, 0, START.labels)
    theirs = save(history, Objects(without), "r0001", author="Bob")
    mine = START.labels.copy()
    mine.flat[-1] = 9
    joined = save(history, Objects(mine, START.classes), "r0001", content="x")
    assert joined.revision.merged and joined.now == Base(revision="r0003", own=True)
    assert np.count_nonzero(history.own("r0003").labels) == np.count_nonzero(mine)
    back = history.save(
        START, base=joined.now, author="Ada", source=Source("f", "y" * 64, "imagej-zip")
    )
    assert back.new, "the new object was taken back"
    np.testing.assert_array_equal(
        history.objects("r0004").labels, history.objects(theirs.revision.id).labels
    )


def test_the_objects_of_a_variant_are_kept_with_the_first_revision(history):
    first(history)
    base = history.head().base
    assert history.kept_base(base).same_as(START)
    assert history.kept_base(Base(run="run-0009", variant="v0001")) is None
    (history.folder / "r0001-base.zip").unlink()
    assert history.kept_base(base) is None, "lost is not empty"


def test_a_zip_that_does_not_give_back_the_objects_is_no_revision(history, monkeypatch):
    monkeypatch.setattr(records, "write_rois", lambda path, rois: write_rois(path, rois[1:]))
    with pytest.raises(RoiError, match="does not give back"):
        first(history)
    assert history.head() is None


def test_a_changed_or_missing_zip_is_noticed(history):
    first(history)
    save(history, of(1, *[0] * 9), "r0001")
    shutil.copy(history.folder / "r0002.zip", history.folder / "r0001.zip")
    with pytest.raises(RoiError, match="changed"):
        history.objects("r0001")
    with pytest.raises(RoiError, match="changed"):
        history.restore("r0001", author="Ada")
    (history.folder / "r0001.zip").unlink()
    with pytest.raises(RoiError, match="missing"):
        history.objects("r0001")
    assert history.objects("r0002").ids == [1]


def test_unknown_revisions_are_named(history):
    with pytest.raises(NotFoundError, match="Nothing was saved"):
        history.get("r0001")
    with pytest.raises(NotFoundError, match="Nothing was saved"):
        save(history, START, "r0001")
    first(history)
    with pytest.raises(NotFoundError, match="There are: r0001"):
        history.objects("../r0001")
    with pytest.raises(NotFoundError, match="r0007"):
        save(history, START, "r0007")


@pytest.mark.parametrize(
    "breaking",
    [
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: text.replace('"author": "Ada"', '"autor": "Ada"'),
        lambda text: text.replace('"author": "Ada"', '"author": 3'),
        lambda text: text.replace('"objects": 3', '"objects": "three"'),
        lambda text: text.replace('"id": "r0001"', '"id": "r0002"'),
        lambda text: text.replace(f'"image": "{IMAGE}"', '"image": "i00002-other"'),
        lambda text: text.replace('"reclassified": {}', '"reclassified": []'),
    ],
)
def test_a_record_broken_by_hand_is_an_error_that_names_it(history, breaking):
    first(history)
    file = history.folder / "r0001.json"
    text = breaking(file.read_text())
    assert text != file.read_text()
    file.write_text(text)
    for look in (history.revisions, history.head, lambda: history.objects("r0001")):
        with pytest.raises(ProjectError, match=r"r0001\.json"):
            look()
    with pytest.raises(ProjectError, match=r"r0001\.json"):
        save(history, NOTHING, "r0001")
    assert file.read_text() == text


def test_a_shape_changed_by_hand_does_not_cut_objects(history):
    first(history)
    file = history.folder / "r0001.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"shape": [1, 4]}))
    with pytest.raises(ProjectError, match=r"r0001\.json"):
        history.objects("r0001")


def test_other_shapes_are_refused(history):
    with pytest.raises(InputError, match="shape"):
        save(history, of(1, 1), VARIANT, base_objects=START)
    first(history)
    for base, given in (("r0001", None), (VARIANT, of(1, 0)), (None, None)):
        with pytest.raises(InputError, match="shape"):
            save(history, of(1, 1), base, base_objects=given)
    with pytest.raises(InputError, match="base_objects"):
        save(history, START, VARIANT)
    assert len(history.revisions()) == 1


def test_ids_of_images_stay_in_the_project(tmp_path):
    with pytest.raises(InputError, match="no id"):
        History(Project(tmp_path), "../elsewhere")


def test_records_survive_json(history):
    saved = first(history, of(1, 0, 0, 2, 2, 0, 3, 3, 0, 5, classes={1: 9}), blind=True)
    text = json.dumps(saved.revision.to_json())
    assert Revision.from_json(json.loads(text)) == saved.revision
    base = Base(run="run-0001", variant="v0001", box=(3, 4, 128, 256), sha256="ab")
    assert Base.from_json(json.loads(json.dumps(base.to_json()))) == base
    assert [str(one) for one in (Base(file="old.tif"), Base(variant="v0001"))] == [
        "old.tif",
        "v0001",
    ]


def test_while_another_process_saves_nothing_is_written(history):
    first(history)
    before = files(history)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_hold, args=(history.folder / ".lock", there))
    process.start()
    try:
        assert here.recv() == "held"
        with pytest.raises(LockedError, match=str(process.pid)):
            save(history, NOTHING, "r0001")
        assert files(history) == before
    finally:
        here.send("end")
        process.join()
    assert save(history, NOTHING, "r0001").new


def _hold(path, pipe):
    with lock(path):
        pipe.send("held")
        pipe.recv()


def test_of_many_saves_at_once_each_is_in_the_chain_or_was_told(history):
    first(history)
    context = multiprocessing.get_context("fork")
    gate, queue = context.Barrier(4), context.Queue()
    edits = {f"p{k}": _with(8 + k % 2, 0) if k < 2 else _with(3 * k - 6, 0) for k in range(4)}
    started = [
        context.Process(target=_save, args=(history, name, edit, gate, queue))
        for name, edit in edits.items()
    ]
    for process in started:
        process.start()
    told = dict(queue.get(timeout=60) for _ in started)
    for process in started:
        process.join()
    assert set(told.values()) <= {"saved", "locked"} and "saved" in told.values()
    saved = {name for name, what in told.items() if what == "saved"}
    chain = history.revisions()
    assert {one.author for one in chain[1:]} == saved
    assert [one.id for one in chain] == [f"r{k + 1:04d}" for k in range(len(chain))]
    objects = history.objects(chain[-1].id)
    for name in saved:
        touched = edits[name].labels != START.labels
        assert ((objects.labels != 0) == (edits[name].labels != 0))[touched].all()


def _with(column, value):
    """START with one pixel added (beyond column 7) or taken away."""
    labels = START.labels.copy()
    labels[0, column] = 9 if column > 7 else value
    return Objects(labels, START.classes)


def _save(history, name, objects, gate, queue):
    gate.wait()
    try:
        save(history, objects, "r0001", name=name, author=name)
        queue.put((name, "saved"))
    except LockedError:
        queue.put((name, "locked"))
    except BaseException as error:
        queue.put((name, repr(error)))


def test_restoring_keeps_what_was_said_of_the_edit(history):
    first(history, blind=True, class_names={1: "dividing"})
    save(history, NOTHING, "r0001")
    back = history.restore("r0001", author="Bob").revision
    assert (back.blind, back.class_names, back.author) == (True, {1: "dividing"}, "Bob")
