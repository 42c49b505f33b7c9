"""Which database a command has worked on: another folder, user or variable than the gateway's is another database."""

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tidegate.config.schema import Config

__all__ = ["say_database"]


def say_database(config: "Config") -> None:
    """One line, beside what the command prints."""
    from tidegate.server.database import database_place

    click.echo(f"in {database_place(config, os.environ)}", err=True)
