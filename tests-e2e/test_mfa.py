"""The second factor on the whole platform: turned on, shown, lost, and reset by an operator."""

import pyotp

from koinonia.client import ApiError, Client
from koinonia.testing.fixtures import wait_until

from .church import PASSWORD, Church

ACTS = {"mfa.begun", "mfa.enabled", "login.awaits_mfa", "mfa.recovery_code_used", "login.succeeded", "mfa.reset"}


async def test_somebody_turns_the_second_factor_on_loses_it_and_gets_in_again(church: Church) -> None:
    begun = await church.client.mfa.enable(PASSWORD)
    codes = (await church.client.mfa.confirm(pyotp.TOTP(begun.secret).now())).recovery_codes
    assert (await church.client.auth.me()).mfa_verified
    async with Client(church.platform.url) as browser:
        login = await browser.auth.login(church.email, PASSWORD)
        assert (login.mfa_required, login.church) == (True, None)
        assert login.mfa_token is not None
        session = await browser.mfa.recover(login.mfa_token, codes[0])
        assert session.church.id == church.id
        assert (await browser.auth.me()).mfa_verified

        status, said = await church.platform.command("admin", "reset-mfa", church.email)
        assert (status, str(church.id) in said) == (0, True)

        async def is_out() -> bool:
            try:
                await browser.auth.me()
            except ApiError as error:
                return error.code == "AUTH_ERROR"
            return False

        await wait_until(is_out, seconds=5)
        assert not (await browser.auth.login(church.email, PASSWORD)).mfa_required

        async def is_logged() -> bool:
            return {entry.action async for entry in browser.audit.list()} >= ACTS

        await wait_until(is_logged, what=f"an audit log with {ACTS}")
