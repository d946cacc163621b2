"""``python -m koinonia_compliance``: the service as a process."""

from koinonia.service import main
from koinonia.settings import ServiceSettings
from koinonia_compliance.app import build

if __name__ == "__main__":
    main("compliance", build, ServiceSettings)
