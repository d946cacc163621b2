"""``make asvs``: writes docs/asvs.md, which test shows which requirement of OWASP's ASVS 5.0, from marks on the tests.

A test says what it shows with ``@pytest.mark.asvs("v5.0.0-6.2.1")``. Every requirement of levels 1 and 2 of the
chapters below stands here in our own words; one that no test shows says why. Of level 3 only what is shown stands here.

Source: OWASP Application Security Verification Standard 5.0.0 (CC BY-SA 4.0).
"""

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "asvs.md"
PREFIX = "v5.0.0-"
FOLDERS = ("shared", "services", "tests-e2e")

CHAPTERS = {
    "2": "Validation and business logic",
    "3": "Web frontend",
    "4": "API and web service",
    "6": "Authentication",
    "7": "Sessions",
    "8": "Authorization",
    "9": "Self-contained tokens",
}
NO_PAGES = "the platform has no pages but the API page"
NO_PROVIDER = "there is no identity provider"
NO_OTHER_CHANNEL = "nobody logs in by a code from telephone, SMS or mail"
WORDS_ONLY = "asks for documentation; no test reads it"


@dataclass(frozen=True)
class Requirement:
    """One requirement; ``why`` no test shows it, or empty; ``but`` where what tests show departs from it."""

    level: int
    words: str
    why: str = ""
    but: str = ""


REQUIREMENTS = {
    "2.1.1": Requirement(1, "Rules for input are documented", WORDS_ONLY),
    "2.1.2": Requirement(2, "Rules for input that belongs together are documented", WORDS_ONLY),
    "2.1.3": Requirement(2, "Limits of the business are documented", WORDS_ONLY),
    "2.2.1": Requirement(1, "All input is checked against what is expected of it"),
    "2.2.2": Requirement(1, "It is the server that checks it"),
    "2.2.3": Requirement(2, "Values that belong together are checked together"),
    "2.3.1": Requirement(1, "No step of a process can be skipped", "tested for logging in alone (6.3.3, 9.2.2)"),
    "2.3.2": Requirement(2, "Limits of the business hold"),
    "2.3.3": Requirement(2, "An operation is done as a whole or not at all"),
    "2.3.4": Requirement(2, "What there is only once is not given twice"),
    "2.4.1": Requirement(2, "Excessive calls are limited"),
    "3.2.1": Requirement(1, "No answer is rendered in a context that it is not for", "tested only as 3.4.4"),
    "3.2.2": Requirement(1, "Text is shown as text", NO_PAGES),
    "3.3.1": Requirement(
        1,
        "Cookies are Secure and their names say so",
        but="met but for the names: the contract fixes them, see 3.3.3",
    ),
    "3.3.2": Requirement(2, "Each cookie has the SameSite that fits it"),
    "3.3.3": Requirement(
        2,
        "Cookies' names begin with __Host-",
        but="met but for the names, `accessToken` and `refreshToken`, which the contract fixes: they are Secure and of "
        "this host alone, as the prefix asks, and a browser does not enforce it. Run nothing untrusted on hosts beside "
        "the platform's: a page there could put a cookie of its own in their place",
    ),
    "3.3.4": Requirement(2, "Session cookies are HttpOnly, and the tokens nowhere else"),
    "3.4.1": Requirement(1, "HSTS on every answer, for a year, subdomains included"),
    "3.4.2": Requirement(1, "CORS names only listed origins"),
    "3.4.3": Requirement(2, "A content security policy without plug-ins and another base-uri"),
    "3.4.4": Requirement(2, "X-Content-Type-Options: nosniff on every answer"),
    "3.4.5": Requirement(2, "A referrer policy"),
    "3.4.6": Requirement(2, "frame-ancestors on every answer"),
    "3.5.1": Requirement(1, "Another site's page makes no request in somebody's name"),
    "3.5.2": Requirement(1, "Where the preflight is relied on, none can be avoided", "it is not relied on: see 3.5.1"),
    "3.5.3": Requirement(1, "Nothing is changed by a safe method", "no test asks every GET what it changed"),
    "3.5.4": Requirement(2, "Separate applications have separate host names", "a matter of deployment"),
    "3.5.5": Requirement(2, "postMessage checks its origin", NO_PAGES),
    "3.7.1": Requirement(2, "No outdated client-side technology", NO_PAGES),
    "3.7.2": Requirement(2, "Redirects lead to listed hosts only", "nothing redirects"),
    "4.1.1": Requirement(1, "Bodies have the Content-Type that they are", "tested for some answers only"),
    "4.1.2": Requirement(2, "The API does not redirect from HTTP to HTTPS", "nothing redirects"),
    "4.1.3": Requirement(2, "Headers that proxies set cannot be set by callers"),
    "4.2.1": Requirement(2, "Where a message ends cannot be misread (request smuggling)"),
    "4.3.1": Requirement(2, "GraphQL queries are bounded", "there is no GraphQL"),
    "4.3.2": Requirement(2, "GraphQL tells nothing of itself", "there is no GraphQL"),
    "4.4.1": Requirement(1, "WebSockets are encrypted", "there are no WebSockets"),
    "4.4.2": Requirement(2, "WebSockets check the origin", "there are no WebSockets"),
    "4.4.3": Requirement(2, "WebSockets have tokens of their own", "there are no WebSockets"),
    "4.4.4": Requirement(2, "WebSockets' tokens come from a session", "there are no WebSockets"),
    "6.1.1": Requirement(1, "How guessing is limited is documented", WORDS_ONLY),
    "6.1.2": Requirement(2, "Words that passwords may not contain are documented", WORDS_ONLY),
    "6.1.3": Requirement(2, "The ways to log in are documented", WORDS_ONLY),
    "6.2.1": Requirement(1, "Passwords have at least 8 characters (here 12)"),
    "6.2.2": Requirement(1, "People can change their password"),
    "6.2.3": Requirement(1, "Changing it wants the current one"),
    "6.2.4": Requirement(1, "The most common passwords are refused"),
    "6.2.5": Requirement(1, "Any composition is taken"),
    "6.2.6": Requirement(1, "Password fields are masked", NO_PAGES),
    "6.2.7": Requirement(1, "Pasting and password managers are permitted", NO_PAGES),
    "6.2.8": Requirement(1, "Passwords are verified exactly as sent"),
    "6.2.9": Requirement(2, "64 characters and more are permitted"),
    "6.2.10": Requirement(2, "Passwords do not expire", "no code makes them"),
    "6.2.11": Requirement(2, "Words of the context are refused: the church's name, the address"),
    "6.2.12": Requirement(2, "Breached passwords are refused"),
    "6.3.1": Requirement(1, "Guessing passwords, codes and keys is limited"),
    "6.3.2": Requirement(1, "There are no default accounts", "no code makes them"),
    "6.3.3": Requirement(2, "A second factor is needed, where church or platform require it"),
    "6.3.4": Requirement(2, "Every way in is as strong, and none is hidden"),
    "6.3.7": Requirement(3, "People are told when what they log in with changes"),
    "6.4.1": Requirement(1, "Invitations' tokens are random, expire, and are good once"),
    "6.4.2": Requirement(1, "There are no password hints or secret questions", "no code has them"),
    "6.4.3": Requirement(2, "Resetting a forgotten password is safe and leaves the second factor on"),
    "6.4.4": Requirement(2, "Who lost the second factor proves who they are", "operators see to it before `reset-mfa`"),
    "6.5.1": Requirement(2, "Codes, recovery codes and tokens are good once"),
    "6.5.2": Requirement(2, "Recovery codes have 112 bits or more, and are stored hashed"),
    "6.5.3": Requirement(2, "Codes and secrets come from a secure source of chance", "read from the code: `secrets`"),
    "6.5.4": Requirement(2, "Recovery codes have at least 20 bits"),
    "6.5.5": Requirement(
        2,
        "Codes of the app live 30 seconds, codes and tokens by another channel ten minutes",
        but="one step of drift either way is taken (RFC 6238, 5.2), so that a code of the app is good for 90 seconds, "
        "once; the token of a forgotten password's mail lives half an hour (6.4.3): mail may be that late",
    ),
    "6.5.6": Requirement(3, "A lost factor can be revoked"),
    "6.6.1": Requirement(2, "Codes by telephone are no one's only choice", NO_OTHER_CHANNEL),
    "6.6.2": Requirement(2, "Codes by another channel belong to one request", NO_OTHER_CHANNEL),
    "6.6.3": Requirement(2, "Codes by another channel cannot be guessed", NO_OTHER_CHANNEL),
    "6.8.1": Requirement(2, "Identities of several providers are kept apart", NO_PROVIDER),
    "6.8.2": Requirement(2, "Providers' assertions are verified", NO_PROVIDER),
    "6.8.3": Requirement(2, "SAML assertions are used once", NO_PROVIDER),
    "6.8.4": Requirement(2, "The provider's strength of login is checked", NO_PROVIDER),
    "7.1.1": Requirement(2, "How long sessions live is documented", WORDS_ONLY),
    "7.1.2": Requirement(2, "How many sessions one may have is documented", WORDS_ONLY),
    "7.1.3": Requirement(2, "Federated sessions are documented", NO_PROVIDER),
    "7.2.1": Requirement(1, "Session tokens are verified by the server"),
    "7.2.2": Requirement(1, "Session tokens are made anew, not fixed"),
    "7.2.3": Requirement(1, "Reference tokens are random, of 128 bits or more"),
    "7.2.4": Requirement(1, "Logging in makes a new session and ends the one there was"),
    "7.3.1": Requirement(2, "A session ends when it is not used"),
    "7.3.2": Requirement(2, "A session ends after a time, however much it is used"),
    "7.4.1": Requirement(1, "A session that was ended is of no use any more"),
    "7.4.2": Requirement(1, "Whoever is removed is logged out everywhere"),
    "7.4.3": Requirement(2, "Changing a factor ends the other sessions"),
    "7.4.4": Requirement(2, "One can log out from every page", NO_PAGES),
    "7.4.5": Requirement(2, "Administrators can end others' sessions"),
    "7.5.1": Requirement(2, "Changing how one logs in wants one to log in anew"),
    "7.5.2": Requirement(2, "People see their sessions, and end them with their password"),
    "7.6.1": Requirement(2, "Federated sessions end as documented", NO_PROVIDER),
    "7.6.2": Requirement(2, "No session begins without somebody's act", "no code begins one otherwise"),
    "8.1.1": Requirement(1, "Who may do what is documented", "`x-roles` on the API page; no test reads the rest"),
    "8.1.2": Requirement(2, "Who may see and change which fields is documented", WORDS_ONLY),
    "8.2.1": Requirement(1, "Only who may call a route can"),
    "8.2.2": Requirement(1, "Only who may see a thing can"),
    "8.2.3": Requirement(2, "Only who may change a field can"),
    "8.3.1": Requirement(1, "It is the server that decides"),
    "8.3.3": Requirement(3, "Services behind the gateway decide by who really asks"),
    "8.4.1": Requirement(2, "No church reaches another's data"),
    "9.1.1": Requirement(1, "Tokens are verified before they are believed"),
    "9.1.2": Requirement(1, "Only the listed algorithm is taken"),
    "9.1.3": Requirement(1, "Keys come from settings, whatever a token's header says"),
    "9.2.1": Requirement(1, "Tokens are good within their time"),
    "9.2.2": Requirement(2, "A token is good for its purpose only"),
    "9.2.3": Requirement(2, "A token is good for its audience only"),
    "9.2.4": Requirement(2, "Keys that serve several audiences name each", "each purpose has a key of its own"),
}

HEAD = """# OWASP ASVS 5.0

Which test shows which requirement of the [Application Security Verification
Standard](https://owasp.org/www-project-application-security-verification-standard/) 5.0.0: levels 1 and 2 of the
chapters on validation, web frontend, API, authentication, sessions, authorization and tokens, and what is shown of
level 3. The words are ours. Made by `make asvs` from the marks on the tests (`@pytest.mark.asvs("v5.0.0-6.2.1")`) and
the list in `scripts/asvs.py`.
"""


def main() -> int:
    """Write the page, or say with ``--check`` whether it is what the marks say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the page is what the marks say")
    only_check = parser.parse_args().check
    shown = marked()
    wrong = faults(shown)
    page = "".join(render(shown)) if not wrong else ""
    if not wrong and only_check and (not PAGE.is_file() or PAGE.read_text() != page):
        wrong = ["docs/asvs.md is not what the marks say; run `make asvs`"]
    if not wrong and not only_check:
        PAGE.write_text(page)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def marked() -> dict[str, list[tuple[Path, str]]]:
    """The tests, each with its file, by the requirement that they are marked with."""
    found = defaultdict(list)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("test_*.py")):
            text = path.read_text()
            if "mark.asvs" in text:
                for identifier, name in marks(ast.parse(text)):
                    found[identifier].append((path.relative_to(ROOT), name))
    return dict(found)


def marks(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Each requirement and the test that is marked with it."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.asvs":
                    yield from ((str(ast.literal_eval(each)), node.name) for each in decorator.args)


def faults(shown: dict[str, list[tuple[Path, str]]]) -> list[str]:
    """Marks of no requirement, and requirements that say both or neither."""
    known = {PREFIX + number for number in REQUIREMENTS}
    wrong = [f"{name}: scripts/asvs.py has no {each}" for each in shown.keys() - known for _, name in shown[each]]
    for number, requirement in REQUIREMENTS.items():
        if bool(requirement.why) == (PREFIX + number in shown):
            wrong.append(f"{number}: {'shown by a test, and says why not' if requirement.why else 'shown by no test'}")
        if requirement.but and PREFIX + number not in shown:
            wrong.append(f"{number}: departs from what no test shows")
    return sorted(wrong)


def render(shown: dict[str, list[tuple[Path, str]]]) -> Iterator[str]:
    """The page, in parts."""
    yield HEAD
    rest = len(REQUIREMENTS) - len(shown)
    departing = sum(bool(requirement.but) for requirement in REQUIREMENTS.values())
    yield (
        f"\nTests show {len(shown)} requirements, {departing} of them in part. They do not show {rest}. "
        "What is *slanted* says where and why.\n"
    )
    for chapter, title in CHAPTERS.items():
        yield f"\n## V{chapter} {title}\n\n| | level | requirement | shown by |\n|---|---|---|---|\n"
        for number, requirement in REQUIREMENTS.items():
            if number.partition(".")[0] == chapter:
                tests = [
                    f"[{name.removeprefix('test_').replace('_', ' ')}](../{path})"
                    for path, name in shown.get(PREFIX + number, [])
                ]
                departure = requirement.why or requirement.but
                what = "<br>".join([*tests, *([f"*{departure}*"] if departure else [])])
                yield f"| {number} | {requirement.level} | {requirement.words} | {what} |\n"


if __name__ == "__main__":
    sys.exit(main())
