"""The gateway beside a bare aiohttp hop before the same services: `make bench-gateway`, and a part of `make bench`."""
