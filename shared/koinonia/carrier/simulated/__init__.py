"""The simulated carrier: a program that speaks Telnyx's wire protocol, fails on order, and records what arrived.

Operators and frontend developers train and build against it; tests and benchmarks count by its record. It holds all in
memory and sends nothing to anybody. `docs/simulated-carrier.md` is its manual.
"""

from koinonia.carrier.simulated.faults import Fault
from koinonia.carrier.simulated.server import SimulatedCarrier, create_app
from koinonia.carrier.simulated.settings import Settings

__all__ = ["Fault", "Settings", "SimulatedCarrier", "create_app"]
