"""``python -m koinonia_conversation``: the service as a process."""

from koinonia.service import main
from koinonia.settings import ServiceSettings
from koinonia_conversation.app import build

if __name__ == "__main__":
    main("conversation", build, ServiceSettings)
