"""``opsef analyse``: tables, statistics, plots."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from opsef_bridge.cli.common import Context, RunId, app


class PlotKind(StrEnum):
    """Kinds of files that plots are written to."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


class Embedding(StrEnum):
    """Ways to put objects on a plane."""

    PCA = "pca"
    TSNE = "tsne"
    UMAP = "umap"


class Clustering(StrEnum):
    """Ways to part objects."""

    KMEANS = "kmeans"
    WARD = "ward"
    HDBSCAN = "hdbscan"


@app.command("analyse")
def analyse(
    variant: Annotated[
        str | None, typer.Argument(help="Id or slug of the variant (newest edits, else batch).")
    ] = None,
    run: RunId = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Id of a revision.")] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="Only this image (repeatable).")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Column whose kinds are compared, e.g. condition.")
    ] = None,
    unit: Annotated[
        str, typer.Option("--unit", help="What counts once in statistics: image, well, ...")
    ] = "image",
    reference: Annotated[
        str | None, typer.Option("--reference", help="Condition to compare the others with.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Column to plot and compare (repeatable).")
    ] = None,
    embed: Annotated[
        list[Embedding] | None, typer.Option("--embed", help="Embedding (repeatable).")
    ] = None,
    cluster: Annotated[Clustering | None, typer.Option("--cluster", help="Make clusters.")] = None,
    clusters: Annotated[
        int | None, typer.Option("--clusters", min=2, help="How many (best silhouette).")
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option("--feature", help="Feature of embedding and clusters (repeatable; all)."),
    ] = None,
    plots: Annotated[PlotKind, typer.Option("--plots", help="Kind of the plots.")] = PlotKind.PNG,
    violin: Annotated[bool, typer.Option("--violin", help="Violins instead of boxes.")] = False,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Write plots/objects.html, to explore in.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn at random.")] = 0,
) -> None:
    """Measure all objects; write tables/ and plots/, compare conditions image by image."""
    from opsef_bridge.analysis.analyse import Wish
    from opsef_bridge.analysis.analyse import analyse as do
    from opsef_bridge.errors import InputError
    from opsef_bridge.exchange.sources import outdated, variant_of

    if variant and revision:
        raise InputError("both a variant and a revision were named", hint="Name one of them")
    if run and not variant:
        raise InputError(f"{run} was named without a variant", hint="Name one of its variants")
    project, console = Context.project(), Context.console
    if not variant:
        console.warn(*outdated(project, image or ()))
    wish = Wish(
        by=by, unit=unit, reference=reference, columns=column or (),
        embed=tuple(one.value for one in embed) if embed else ("pca",),
        cluster=cluster.value if cluster else None, count=clusters, of=feature or None,
        plots=plots.value, violin=violin, page=page, seed=seed,
    )  # fmt: skip
    with console.progress("Analysing") as tell:
        done = do(
            project, wish, image or (),
            variant=variant_of(project, variant, run) if variant else None, revision=revision,
            tell=tell,
        )  # fmt: skip
    console.say(
        *done.said,
        f"{len(done.objects)} objects of {len(done.images)} images: tables/objects.csv; "
        "tables/columns.md says what its columns mean",
        *(f"Look at: {file}" for file in done.files if file.parent.name == "plots"),
    )
    console.answer(
        {
            "objects": len(done.objects),
            "images": len(done.images),
            "files": [str(file) for file in done.files],
            "said": list(done.said),
            "failed": list(done.failed),
        }
    )
    raise typer.Exit(1 if done.failed else 0)
