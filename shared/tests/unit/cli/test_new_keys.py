import base64
import re
from pathlib import Path

from click.testing import CliRunner
from nacl.signing import SigningKey

from koinonia.cli import development_keys
from koinonia.cli.keys import command

COMPOSE = next(parent for parent in Path(__file__).parents if (parent / "docker-compose.yml").is_file())
REQUIRED = re.compile(r"\$\{(\w+):\?")


def new_keys(state: Path) -> dict[str, str]:
    """What ``koinonia keys new`` prints."""
    printed = CliRunner().invoke(command, ["new", "--state-dir", str(state)])
    assert printed.exit_code == 0
    return dict(line.split("=", 1) for line in printed.output.splitlines())


def test_new_keys_are_all_that_the_compose_file_needs_and_no_two_are_the_same(tmp_path: Path) -> None:
    keys, others = new_keys(tmp_path), new_keys(tmp_path)
    assert set(REQUIRED.findall((COMPOSE / "docker-compose.yml").read_text())) <= keys.keys()
    assert not set(keys.values()) & set(others.values())
    assert len(set(keys.values())) == len(keys)
    assert development_keys.parse(keys).encryption_key_id == "1"
    assert not any("development" in value for value in keys.values())  # production would refuse those


def test_the_simulated_carriers_key_pair_belongs_together(tmp_path: Path) -> None:
    keys = new_keys(tmp_path)
    seed = base64.b64decode(keys["KOINONIA_SIMULATOR_SIGNING_SEED"])
    assert base64.b64decode(keys["KOINONIA_SIMULATOR_PUBLIC_KEY"]) == bytes(SigningKey(seed).verify_key)
    assert not any("_TELNYX_" in name for name in keys)  # `koinonia up` would take them for the real carrier's


def test_keys_that_data_lie_under_go_on(tmp_path: Path) -> None:
    made = development_keys.ensure(tmp_path / "keys.env")
    kept = ("KOINONIA_ENCRYPTION_KEYS", "KOINONIA_TOKEN_KEYS", "KOINONIA_BLIND_INDEX_KEY")
    keys = new_keys(tmp_path)
    assert {name: keys[name] for name in kept} == {name: made[name] for name in kept}
    assert keys["KOINONIA_GATEWAY_PASSWORD"] != made["KOINONIA_GATEWAY_PASSWORD"]
