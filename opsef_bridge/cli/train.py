"""``opsef train``: from corrections to a better model."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from opsef_bridge.cli.common import Context, command, train_app


class Revisions(StrEnum):
    """Which revisions are taken as right throughout."""

    LATEST = "latest"


class Rehearsing(TyperCommand):
    """A command whose option ``--rehearse`` may stand alone; typer has no such options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, with the value that stands for none."""
        after = [*args[1:], "-"]
        return super().parse_args(
            ctx,
            [
                f"{one}=fluorescence" if one == "--rehearse" and next_.startswith("-") else one
                for one, next_ in zip(args, after, strict=True)
            ],
        )


@train_app.command("dataset", cls=Rehearsing)
def train_dataset(
    image: Annotated[
        list[str] | None, typer.Option("--image", help="Only this image (repeatable).")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="Leave this image out (repeatable).")
    ] = None,
    revisions: Annotated[
        Revisions | None,
        typer.Option("--revisions", help="You vouch for the newest revisions, as a whole."),
    ] = None,
    truth: Annotated[
        bool, typer.Option("--truth/--no-truth", help="What is vouched for in the project.")
    ] = True,
    folder: Annotated[
        list[Path] | None,
        typer.Option("--folder", help="Folder with images/ and labels/, or of images."),
    ] = None,
    labels: Annotated[
        list[Path] | None, typer.Option("--labels", help="Labels of a --folder of images.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="Cell type of a --folder (its name).")
    ] = None,
    kind_by: Annotated[
        str, typer.Option("--kind-by", help="Column that tells the cell type or condition.")
    ] = "group",
    split_by: Annotated[
        str,
        typer.Option(
            "--split-by", help="image, group, parent, or columns such as well or plate,well."
        ),
    ] = "image",
    val: Annotated[float, typer.Option("--val", help="Share that chooses.")] = 0.15,
    test: Annotated[float, typer.Option("--test", help="Share that judges.")] = 0.15,
    seed: Annotated[int, typer.Option("--seed", help="Of the split.")] = 0,
    rehearse: Annotated[
        str,
        typer.Option(
            "--rehearse",
            metavar="[GROUPS]",
            help="Bundled images, too, so that old kinds are not forgotten: small, large, u2os, "
            "tissue (parted by commas), fluorescence (if nothing is named), all, none.",
        ),
    ] = "none",
    test_from: Annotated[
        str | None, typer.Option("--test-from", help="Keep the test set of this dataset.")
    ] = None,
    conditions: Annotated[
        Path | None, typer.Option("--conditions", help="CSV file with more columns.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Of the images, for the card.")] = "",
    author: Annotated[str | None, typer.Option("--author", help="Who (the user's name).")] = None,
) -> None:
    """Collect images with vouched labels, split so that test images never leak."""
    import getpass

    from opsef_bridge.train.dataset_bundled import find_bundled, rehearsed_groups
    from opsef_bridge.train.dataset_make import Wish, left_over, make_dataset
    from opsef_bridge.train.dataset_sources import collect, label_folders
    from opsef_bridge.train.dataset_split import Shares
    from opsef_bridge.train.seen import remarks_of_models

    project, console = Context.project(), Context.console
    wish = Wish(
        by=split_by,
        kind_by=kind_by,
        shares=Shares(val, test),
        seed=seed,
        test_from=project.dataset_folder(test_from) if test_from else None,
        licence=licence,
        author=author or getpass.getuser(),
        command=shlex.join(["opsef", *sys.argv[1:]]),
    )
    groups = rehearsed_groups(rehearse)
    found = collect(
        project,
        label_folders(folder or (), labels or (), kind or ()),
        truth=truth,
        images=image or (),
        revisions=revisions is not None,
        conditions=conditions,
        remark=console.warn,
    )
    found += find_bundled(project, groups, found, console.warn)
    found = left_over(found, without or ())
    made = make_dataset(project, found, wish)
    name = made.card["id"]
    console.table(made.card["counts"], ("split", "kind", "images", "groups", "objects"))
    console.warn(*made.remarks, *remarks_of_models(project, made.card))
    console.say(
        f"{made.folder}" if made.new else f"{name} holds the same already: {made.folder}",
        f"Train on it: {command(f'train run --dataset {name}')}",
    )
    console.answer({"new": made.new, "folder": str(made.folder), **made.card})


@train_app.command("datasets")
def train_datasets(
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every file against its sha256.")
    ] = False,
) -> None:
    """List the datasets of the project; with --verify check that no file was changed."""
    from opsef_bridge.train.dataset import list_datasets

    console = Context.console
    listed = list_datasets(Context.project(), verify=verify)
    if listed:
        console.table(
            listed, ("id", "created", "by", "train", "val", "test", "objects", "kinds", "split by")
        )
    else:
        console.say(f"Nothing yet; {command('train dataset')} makes one of what is vouched for")
    damaged = [f"{one['id']}: {text}" for one in listed for text in one["damage"]]
    console.warn(*damaged)
    if verify and listed and not damaged:
        console.say("All files are as they were written")
    console.answer(listed)
    raise typer.Exit(1 if damaged else 0)


@train_app.command("augment")
def train_augment(
    dataset: Annotated[str | None, typer.Argument(help="Id of the dataset (newest).")] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="none, opsef, elastic or zaki.")
    ] = "opsef",
    count: Annotated[int, typer.Option("--count", min=1, help="How many regions.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Of all that is drawn.")] = 0,
    size: Annotated[
        int | None, typer.Option("--size", min=8, help="Pixels along each side (256).")
    ] = None,
    apart: Annotated[
        bool, typer.Option("--apart", help="Pieces of an object that the edge cuts get own ids.")
    ] = False,
    split: Annotated[str, typer.Option("--split", help="train, val, test or all.")] = "train",
    colour: Annotated[
        bool, typer.Option("--colour", help="Red, green and blue; else colour goes to grey.")
    ] = False,
    preview: Annotated[
        Path | None, typer.Option("--preview", help="TIFF stack to look at in ImageJ.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="New folder for the regions, to train on.")
    ] = None,
) -> None:
    """Draw regions of a dataset: random pieces, balanced by kind, in other shapes and lights."""
    from opsef_bridge.errors import InputError
    from opsef_bridge.train.region_files import write_augmented

    if preview is None and out is None:
        raise InputError(
            "nothing says where the regions go",
            hint="--preview FILE.tif writes a stack to look at, --out FOLDER a folder to train on",
        )
    project, console = Context.project(), Context.console
    with console.progress("Drawing") as tell:
        done = write_augmented(
            project.dataset_folder(dataset),
            preset,
            count,
            seed=seed,
            size=size,
            apart=apart,
            split=split,
            colour=colour,
            preview=preview,
            out=out,
            tell=tell,
        )
    kinds = ", ".join(f"{name or 'no kind'} {times}" for name, times in done["kinds"].items())
    console.say(f"{count} regions of {done['dataset']} ({split}), preset {preset}, seed {seed}")
    console.say(f"Regions by kind: {kinds}")
    if preview is not None:
        console.say(f"Wrote {preview}: {done['shown']} regions, T in ImageJ")
    if out is not None:
        console.say(f"Wrote {out}")
    console.answer(done)
