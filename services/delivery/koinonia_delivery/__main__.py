"""``python -m koinonia_delivery``: the delivery service."""

from koinonia.service import main
from koinonia_delivery.app import build
from koinonia_delivery.settings import DeliverySettings

if __name__ == "__main__":
    main("delivery", build, DeliverySettings)
