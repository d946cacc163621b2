"""``koinonia demo``: the main job played on real input, and every figure read in three places that must agree.

``story`` tells the steps, all through the public API; ``sources`` reads the figures; ``figures`` compares them.
"""

from koinonia.demo.main import command

__all__ = ["command"]
