"""``python -m koinonia_gateway``: the service as a process."""

from koinonia.service import main
from koinonia_gateway.app import build
from koinonia_gateway.settings import GatewaySettings

if __name__ == "__main__":
    main("gateway", build, GatewaySettings)
