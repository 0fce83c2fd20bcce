"""``opsef serve``, ``invite``, ``inbox``, ``fiji``, ``show``: the way to the Fiji menu."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from opsef_bridge.cli.common import Context, app, command, fiji_app, inbox_app
from opsef_bridge.errors import NotFoundError

Root = Annotated[Path, typer.Argument(help="Folder of projects.")]


@app.command()
def serve(
    root: Root,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 8765,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen for other computers, with TLS.")
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="Name under which clients ask for it (repeatable)."),
    ] = None,
    pixels: Annotated[
        int | None,
        typer.Option("--pixels", min=1, help="Pixels of the largest image that may be sent."),
    ] = None,
) -> None:
    """Serve the projects of a folder to the Fiji menu, until Ctrl-C."""
    try:
        from opsef_bridge.service.serve import serve as run
    except ModuleNotFoundError as error:
        raise NotFoundError(
            f"the package {error.name} is not installed",
            hint="The service is an extra: pip install 'opsef_bridge[service]', or make install",
        ) from None

    names = tuple(name or ())
    limit = {} if pixels is None else {"pixel_limit": pixels}
    run(root, host, port, allow_remote=allow_remote, names=names, **limit)


@app.command()
def invite(
    name: Annotated[str, typer.Argument(help="Who gets in; edits carry this name.")],
    root: Annotated[Path, typer.Option("--root", help="Folder of projects.")] = Path("."),
    address: Annotated[
        str | None, typer.Option("--address", help="Under which the person reaches the service.")
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder for the file.")] = Path("."),
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Shut the person out, with all invitations.")
    ] = False,
) -> None:
    """Write NAME.opsef, with which a person gets in from Fiji (OpSeF > Connect)."""
    from opsef_bridge.service import people

    if revoke:
        record = people.revoke(root, name)
        Context.console.say(f"{name} is shut out")
        Context.console.answer(record)
        return
    known = people.known_address(root)
    if known is None:
        raise NotFoundError(
            f"no service was ever started on {root}",
            hint=f"Start it first, so that its port is known: opsef serve {shlex.quote(str(root))}",
        )
    _, token = people.invite(root, name)
    value = people.invitation(
        name,
        token,
        address=address or known["address"],
        port=known["port"],
        tls=known["tls"],
        pin=known["pin"],
    )
    file = people.write_invitation(to, value)
    Context.console.say(
        f"Wrote {file}: give it to {name}, and to nobody else. In Fiji: Plugins > OpSeF > Connect"
    )
    count = people.token_count(root, name)
    if count > 1:
        Context.console.say(f"{name} has {count} invitations; --revoke ends them all")
    Context.console.answer({"file": str(file), "name": name, "invitations": count})


@inbox_app.command("run")
def inbox_run() -> None:
    """Do what waits in the inbox of the project."""
    from opsef_bridge.service.inbox import run

    jobs = run(Context.project().must_exist(), lambda job: Context.console.say(_line(job)))
    if not jobs:
        Context.console.say("Nothing waits")
    Context.console.answer([job.to_json() for job in jobs])
    raise typer.Exit(1 if any(job.state == "failed" for job in jobs) else 0)


@inbox_app.command("watch")
def inbox_watch() -> None:
    """Do what comes into the inbox, until Ctrl-C."""
    import threading

    from opsef_bridge.service.inbox import watch

    project = Context.project().must_exist()
    Context.console.say(f"Watching {project.inbox_folder}; Ctrl-C ends it")
    watch(project, threading.Event(), report=lambda job: Context.console.say(_line(job)))


@inbox_app.command("perform", hidden=True)
def inbox_perform(request: Annotated[str, typer.Argument(help="Id of the request.")]) -> None:
    """Do one request; the service calls this."""
    from opsef_bridge.service.inbox import perform_main

    raise typer.Exit(perform_main(Context.folder, request))


@fiji_app.command("install")
def fiji_install(
    folder: Annotated[Path, typer.Argument(help="Folder of Fiji or ImageJ.")],
) -> None:
    """Put the OpSeF menu into Fiji or ImageJ, and say what changed."""
    from opsef_bridge.service.fiji import install

    done = install(folder)
    for what, names in done._asdict().items():
        if names:
            Context.console.say(f"{what}: {', '.join(names)}")
    if not any(done):
        Context.console.say("Up to date, nothing changed")
    Context.console.say("Start Fiji again; then Plugins > OpSeF > Connect")
    Context.console.answer(done._asdict())


@fiji_app.command("bundle")
def fiji_bundle(
    file: Annotated[Path, typer.Argument(help="The zip to write.")] = Path("fiji.zip"),
) -> None:
    """Write the zip to unpack into the folder of Fiji or ImageJ."""
    from opsef_bridge.service.fiji import bundle

    Context.console.say(f"Wrote {bundle(file)}: unpack it into the folder of Fiji or ImageJ")
    Context.console.answer({"file": str(file)})


@fiji_app.command("check")
def fiji_check(
    folder: Annotated[
        Path | None,
        typer.Argument(envvar="OPSEF_FIJI_DIR", help="Folder of Fiji or ImageJ ($OPSEF_FIJI_DIR)."),
    ] = None,
) -> None:
    """Try the OpSeF menu in the ImageJ, Jython and Java of a folder, without windows."""
    from opsef_bridge.errors import InputError
    from opsef_bridge.service.fiji_check import check

    if folder is None:
        raise InputError(
            "name the folder of Fiji or ImageJ", hint="For example: opsef fiji check ~/Fiji.app"
        )
    findings = check(folder)
    rows = [{"what": f.what, "state": "ok" if f.ok else "BROKEN", "message": f.message}
            for f in findings]  # fmt: skip
    Context.console.table(rows, ("what", "state", "message"))
    for hint in dict.fromkeys(f.hint for f in findings if f.hint):
        Context.console.say("", hint)
    Context.console.answer([f._asdict() for f in findings])
    raise typer.Exit(0 if all(f.ok for f in findings) else 2)


@app.command()
def show(
    run: Annotated[str | None, typer.Argument(help="Id of the run (newest).")] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="Id of the image (the first).")
    ] = None,
    fiji: Annotated[
        Path | None,
        typer.Option("--fiji", envvar="OPSEF_FIJI_DIR", help="Folder of your Fiji (ImageJ 1.54p)."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until ImageJ is closed.")] = True,
) -> None:
    """Open the comparison of a run in a window of ImageJ or Fiji."""
    from opsef_bridge.service.show import show as open_window
    from opsef_bridge.service.show import stack_of

    project = Context.project().must_exist()
    Context.console.say(f"Opening {stack_of(project, run, image)} ...")
    shown = open_window(project, run, image, fiji=fiji, wait=wait)
    waiting = len(list(project.inbox_folder.glob("*.json")))
    if waiting:
        Context.console.say(
            f"Requests that wait in the inbox: {waiting}; {command('inbox run')} does them"
        )
    Context.console.answer({"image": shown.image, "file": str(shown.file)})


def _line(job) -> str:  # type: ignore[no-untyped-def]
    said = job.error["message"] if job.error else job.message
    return f"{job.id} ({job.kind} by {job.author}): {job.state}" + (f", {said}" if said else "")
