"""Where a picture is to be kept, and whether it can be."""

from pathlib import Path

import typer


def require_place(path: Path) -> None:
    """Find out, before anything is asked or computed, whether a picture can be kept there.

    Raises:
        typer.BadParameter: it cannot.
    """
    if path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{path} would be a PNG: give it a name that ends in .png")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}")
    try:
        if path.is_dir():
            raise typer.BadParameter(f"{path} is a folder")
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> typer.BadParameter:
    """Say that a picture could not be kept, after all."""
    return typer.BadParameter(f"{path} cannot be written: {error.strerror}")
