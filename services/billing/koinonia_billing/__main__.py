"""``python -m koinonia_billing``: the service as a process."""

from koinonia.service import main
from koinonia_billing.app import build
from koinonia_billing.settings import BillingSettings

if __name__ == "__main__":
    main("billing", build, BillingSettings)
