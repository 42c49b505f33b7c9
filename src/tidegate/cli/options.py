"""Options that several commands take."""

import click

__all__ = ["config_option"]

config_option = click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False),
    help="Configuration file. [default: TIDEGATE_CONFIG, else ./tidegate.toml if it is there]",
)
