"""A real HTTP server on loopback that plays model providers: the demo without a key, the upstream of tests, the upstream of benchmarks.

The model name of a request picks the script: `demo`, `lorem?chunks=20&gap=5`, `echo?fault=cut&after=7`.
"""

from tidegate.sim.connection import SimRequest
from tidegate.sim.faults import FAULTS, Fault
from tidegate.sim.listing import listing
from tidegate.sim.options import describe_options
from tidegate.sim.scripts import SCRIPTS, Script
from tidegate.sim.server import CannotListen, SimServer, serve

__all__ = [
    "FAULTS",
    "SCRIPTS",
    "CannotListen",
    "Fault",
    "Script",
    "SimRequest",
    "SimServer",
    "describe_options",
    "listing",
    "serve",
]
