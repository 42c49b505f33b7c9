"""Listing: everything a model name may say, as text for a terminal."""

from tidegate.sim.faults import FAULTS
from tidegate.sim.options import describe_options
from tidegate.sim.scripts import SCRIPTS


def listing() -> str:
    """All scripts, options and faults, one line each."""
    sections = {
        "Scripts (the model name)": {name: script.summary for name, script in SCRIPTS.items()},
        "Options (name?key=value&key=value or name:key=value,key=value; times in ms, switches 0 or 1)": describe_options(),
        "Faults (fault=name; `after` says how many frames come before)": {
            name: fault.summary for name, fault in FAULTS.items()
        },
    }
    width = max(len(name) for entries in sections.values() for name in entries) + 2
    blocks = [
        "\n".join([title, *(f"  {name:<{width}}{line}" for name, line in entries.items())])
        for title, entries in sections.items()
    ]
    return "\n\n".join(blocks)
