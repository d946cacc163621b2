"""``python -m koinonia_messaging``."""

from koinonia.service import main
from koinonia_messaging.app import build
from koinonia_messaging.settings import MessagingSettings

if __name__ == "__main__":
    main("messaging", build, MessagingSettings)
