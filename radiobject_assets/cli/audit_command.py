"""`radiobject-assets audit`: a folder of images as it is, before anything is set up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from radiobject_assets.cli.output import JsonFlag, out, print_json, progress, table_of
from radiobject_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from radiobject_assets.audit.folder_contents import FolderContents


def audit(
    folder: Annotated[
        Path, typer.Argument(help="Folder of DICOM or NIfTI, in any layout.", metavar="FOLDER")
    ],
    html: Annotated[
        Path | None, typer.Option(help="HTML file to write; without it `audit-<folder>.html` here.")
    ] = None,
    as_json: JsonFlag = False,
    paths: Annotated[
        bool, typer.Option("--paths/--no-paths", help="Name files, or show tokens only: to hand it on.")
    ] = True,
    voxels: Annotated[
        bool, typer.Option("--voxels/--headers-only", help="Look at voxels as well, or at headers only.")
    ] = True,
    memory_mb: Annotated[int | None, typer.Option(help="Memory budget in MB.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
) -> None:
    """Say what is in a folder and what is wrong with it; nothing is set up, and nothing written but a page.

    With `--json` a page is written only where `--html` names it. Exit code 0: nothing was found. 1: something
    was. 2: could not run.
    """
    from radiobject_assets.audit.folder_audit import audit_folder
    from radiobject_assets.cli.findings_output import print_findings
    from radiobject_assets.diagnostics.findings_document import exit_code, findings_document
    from radiobject_assets.system.compute import Compute
    from radiobject_assets.system.durable_files import write_whole
    from radiobject_assets.system.memory import MemoryBudget

    folder = folder.expanduser()
    page = html.expanduser() if html is not None else _page_beside(folder, paths)
    if page.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(f"{page}: the page would lie in the folder itself; name another with --html")
    with progress("files") as report:
        found = audit_folder(
            folder,
            voxels=voxels,
            budget=None if memory_mb is None else MemoryBudget(memory_mb),
            compute=None if workers is None else Compute(workers=workers),
            on_progress=report,
        )
        if html is not None or not as_json:
            from radiobject_assets.audit.audit_page import audit_html

            content = audit_html(found, folder.resolve().name, with_paths=paths, on_progress=report)
            write_whole(page, content)
    if as_json:
        subject = str(folder) if paths else "folder"
        document = findings_document("audit", subject, found.reports, with_where=paths)
        print_json(document | {"contents": found.contents.to_json()})
    else:
        _print_contents(found.contents)
        print_findings(found.reports, out, with_where=paths)
        size = f"{len(content.encode()) / 1e3:,.0f} kB"
        out.print(f"The page with pictures: [bold]{escape(str(page))}[/] ({size})", highlight=False)
    sys.stdout.flush()
    if code := exit_code(found.reports):
        raise typer.Exit(code)


def _page_beside(folder: Path, paths: bool) -> Path:
    """A page in the current folder; with tokens only its name is no name of the folder either."""
    return Path(f"audit-{folder.resolve().name or 'root'}.html" if paths else "audit.html")


def _print_contents(contents: FolderContents) -> None:
    layout = f"laid out as {contents.layout}" if contents.layout else "DICOM"
    out.print(
        f"[bold]{contents.files:,} files, {contents.series:,} series, {contents.subjects:,} subjects[/bold], "
        f"{layout}"
    )
    table = table_of("collection", "kind", "series", "subjects", "refused", "sizes", "spacing mm", "axes")
    for part in contents.parts:
        spacing = " x ".join(
            f"{low:.3g}" if low == high else f"{low:.3g}-{high:.3g}" for low, high in part.spacing_range
        )
        table.add_row(
            part.name,
            part.kind,
            f"{part.series:,}",
            f"{part.subjects:,}",
            f"{part.refused:,}",
            ", ".join(f"{shape} ({n})" for shape, n in part.shapes.items()),
            spacing,
            ", ".join(part.orientations),
        )
    out.print(table)
    if contents.other_files:
        told = ", ".join(f"{n:,} {reason}" for reason, n in contents.other_files.items())
        out.print(f"files without an image: {told}", highlight=False)
