"""The documentation is run: every Python block in it, and every application in it is driven to show what is said there.

A Python block is a program by itself. Blocks of one page under the comment ``<!-- example: NAME -->`` with the same
name are one program, in their order. A program with an ``app`` needs a driver in this file, under its page and name; or
it has functions called ``test_…``, which are called. A TypeScript block stands under the same comment, and is compiled
with the client of that program's ``app``, which it imports from ``./realtime``. Code in any other form is a complaint,
so that no block can go without being run.
"""

import ast
import asyncio
import inspect
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import httpx
import pytest
import websockets
from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import connect

import hubbub
import hubbub.testing
from examples.main import app as examples
from hubbub import Drain, Envelope, Heartbeat, History, Hub, Limits, Outbox, Presence
from hubbub.cli.typescript import typescript
from hubbub.fastapi.asyncapi.document import document
from hubbub.fastapi.hub import families
from hubbub.testing import Client, ClientConnection, Refused
from tests.node import tsc

ROOT = Path(__file__).parents[1]
PAGES = {page.relative_to(ROOT).as_posix(): page for page in (*ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md"))}
READMES = ("README.md", "README.zh.md")
WIDTH = 120
BLOCK = re.compile(
    r"^(?:<!-- example: (?P<example>[a-z0-9-]+) -->\n)?"
    r"```(?P<language>python|typescript|bash|json|nginx)\n(?P<source>.*?)\n```$",
    re.MULTILINE | re.DOTALL,
)
LOOKS_LIKE_PYTHON = re.compile(r"^\s*(from|import|def|async def|class|@\w) ?", re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"#{1,6} (.+)")


# Reading pages


@dataclass(frozen=True)
class Block:
    """A block of code."""

    line: int
    language: str
    example: str | None
    source: str


@dataclass(frozen=True)
class Page:
    """A page, taken apart. The lines of the prose are empty where a block stands."""

    blocks: list[Block]
    prose: list[str]

    def sources(self, language: str) -> list[str]:
        return [block.source for block in self.blocks if block.language == language]


def read(text: str) -> Page:
    blocks = [
        Block(text.count("\n", 0, match.start("source")), match["language"], match["example"], match["source"])
        for match in BLOCK.finditer(text)
    ]
    return Page(blocks, BLOCK.sub(lambda match: "\n" * match[0].count("\n"), text).split("\n"))


def complaints(page: Page) -> Iterator[str]:
    """Complain of everything in which a Python block could hide, and of what does not belong on a page."""
    for block in page.blocks:
        if block.language == "typescript":
            if block.example is None:
                yield f"line {block.line}: this needs the name of the example whose client it takes"
        elif block.language != "python" and (block.example is not None or LOOKS_LIKE_PYTHON.search(block.source)):
            yield f"line {block.line}: this is python, not {block.language}"
    for number, line in enumerate(page.prose, start=1):
        if re.search(r"```|~~~|<!--|<pre|<code|<script", line) or line.startswith(("    ", "\t")):
            yield f"line {number}: code stands between ``` and ```, at the margin, with its language: {line!r}"
        if len(line) > WIDTH and not line.startswith("|"):
            yield f"line {number}: longer than {WIDTH} characters"
        if re.search(r"/(work|tmp|root|home)\b", line):
            yield f"line {number}: a path on some machine"


@cache
def page_of(name: str) -> Page:
    return read(PAGES[name].read_text(encoding="utf-8"))


def programs_of(name: str) -> dict[str, list[Block]]:
    """Group the Python blocks of a page into programs; one without a name is called by its line."""
    programs: dict[str, list[Block]] = {}
    for block in page_of(name).blocks:
        if block.language == "python":
            programs.setdefault(block.example or f"line-{block.line}", []).append(block)
    return programs


PROGRAMS = [(page, name) for page in sorted(PAGES) for name in programs_of(page)]


async def run(page: str, name: str) -> Any:
    """Execute a program in a module of its own, and return that; `await` may stand at its top level."""
    module = ModuleType(f"{page}:{name}")
    sys.modules[module.__name__] = module  # where Pydantic and dataclasses look names up
    try:
        for block in programs_of(page)[name]:
            source = "\n" * block.line + block.source
            code = compile(source, PAGES[page], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            await finished(eval(code, vars(module)))
    finally:
        del sys.modules[module.__name__]
    return module


async def finished(result: object) -> None:
    if inspect.iscoroutine(result):
        await result


# The pages themselves


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_is_in_order(page: str) -> None:
    assert list(complaints(page_of(page))) == []


@pytest.mark.parametrize(
    "text",
    [
        "```\nprint(1)\n```",
        "```py\nprint(1)\n```",
        "```Python\nprint(1)\n```",
        "```python title=x\nprint(1)\n```",
        "~~~python\nprint(1)\n~~~",
        "````python\nprint(1)\n````",
        "- list\n\n  ```python\n  print(1)\n  ```",
        "text\n\n    print(1)\n",
        "```python\nprint(1)\n",
        "```python\n```",
        "<!-- example: one -->\n\n```python\nprint(1)\n```",
        "<!-- example: one -->\n```bash\nls\n```",
        '```typescript\nimport { connectChat } from "./realtime";\n```',
        "<!-- skip -->\n```python\nprint(1)\n```",
        "<pre>print(1)</pre>",
        "```bash\nfrom hubbub import Hub\n```",
        "x" * 121,
    ],
)
def test_nothing_can_hide(text: str) -> None:
    assert list(complaints(read(text)))


def slugs_of(name: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = map(HEADING.fullmatch, read(name.read_text(encoding="utf-8")).prose)
    texts = [re.sub(r"[^\w\- ]", "", match[1].lower()) for match in headings if match is not None]
    return {text.replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_relative_links_lead_somewhere(page: str) -> None:
    broken = []
    for link in LINK.findall("\n".join(page_of(page).prose)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        if not target.exists() or (anchor and anchor not in slugs_of(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_listed_in_the_index() -> None:
    listed = {f"docs/{link}" for link in LINK.findall("\n".join(page_of("docs/index.md").prose))}
    assert {page for page in PAGES if page.startswith("docs/")} - listed == {"docs/index.md"}


# What the package exports and the documentation says


@cache
def documented_names() -> frozenset[str]:
    """Every identifier that stands in code, in a line or a block, on some page."""
    names = set[str]()
    for page in PAGES:
        code = page_of(page).sources("python")
        code += re.findall(r"`([^`]+)`", "\n".join(page_of(page).prose))
        names.update(*(re.findall(r"[A-Za-z_]\w*", piece) for piece in code))
    return frozenset(names)


# What the hub's own modules, and tests of Hubbub itself, call. Nothing here is for applications.
INTERNAL = {
    "ClientConnection": {"finish"},
    "RecordingTransport": {"start", "write", "close", "abort", "pause_reading", "resume_reading"},
}
BUILT_BY_US = {"Channel", "ChannelFamily", "Connection", "ClientConnection", "Refused", "InvalidMessage"}
EXPORTED = {name: getattr(module, name) for module in (hubbub, hubbub.testing) for name in module.__all__}


def public_names(name: str, value: type) -> set[str]:
    """The members of a class that are for users, and the arguments of each."""
    members = {
        member: function
        for member, function in vars(value).items()
        if not member.startswith("_") and member not in INTERNAL.get(name, ())
    }
    if name not in BUILT_BY_US and isinstance(value.__init__, FunctionType):
        members["__init__"] = value.__init__
    names = {member for member in members if member != "__init__"}
    for member in members.values():
        if isinstance(member, FunctionType):
            names.update(inspect.signature(member).parameters)
    return names - {"self", "args", "kwargs"}


@pytest.mark.parametrize("name", sorted(EXPORTED))
def test_every_public_name_is_documented(name: str) -> None:
    missing = ({name} | public_names(name, EXPORTED[name])) - documented_names()
    assert missing == set()


def test_every_field_of_the_statistics_is_documented() -> None:
    rows = table_rows("docs/hub.md", "field")
    listed = [field for row in rows for field in re.findall(r"`(\w+)`", row[0])]
    assert listed == [field.name for field in fields(Hub().statistics())]


def table_rows(page: str, first_heading: str) -> list[list[str]]:
    """The rows of the first table whose first column has this heading."""
    lines = page_of(page).prose
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@pytest.mark.parametrize(
    ("page", "heading", "configuration"),
    [
        ("docs/limits.md", "limit", Limits),
        ("docs/slow-clients.md", "field", Outbox),
        ("docs/hub.md", "field of `Heartbeat`", Heartbeat),
        ("docs/hub.md", "field of `Drain`", Drain),
        ("docs/channels.md", "field of `History`", History),
        ("docs/channels.md", "field of `Presence`", Presence),
    ],
)
def test_the_defaults_are_those_of_the_code(page: str, heading: str, configuration: type) -> None:
    documented = {row[0].strip("`"): ast.literal_eval(row[1].strip("`")) for row in table_rows(page, heading)}
    assert documented == {field.name: field.default for field in fields(configuration)}


@pytest.mark.parametrize(
    ("heading", "call"),
    [
        ("argument", Hub),
        ("argument of `accept`", hubbub.Connection.accept),
        ("argument of `detach`", hubbub.Connection.detach),
        ("argument of `join`", hubbub.Connection.join),
    ],
)
def test_the_tables_of_arguments_are_complete(heading: str, call: Callable[..., object]) -> None:
    listed = [row[0].strip("`") for row in table_rows("docs/hub.md", heading)]
    assert listed == [name for name in inspect.signature(call).parameters if name != "self"]


def test_the_supported_versions_are_those_of_the_package() -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required = dict(re.findall(r'"(fastapi|pydantic|uvicorn)\S*?>=([\d.]+)"', settings))
    required["Python"] = re.findall(r'requires-python = ">=([\d.]+)"', settings)[0]
    for page in READMES:
        text = PAGES[page].read_text(encoding="utf-8").lower()
        assert [name for name, version in required.items() if f"{name.lower()} {version}" not in text] == []


# Running the programs


@pytest.mark.parametrize(("page", "name"), PROGRAMS)
async def test_a_program_runs(page: str, name: str) -> None:
    module = await run(page, name)
    driver = DRIVERS.get((page, name))
    tests = [value for key, value in vars(module).items() if key.startswith("test_")]
    assert driver or tests or not hasattr(module, "app"), "an application needs a driver in DRIVERS, or a test"
    if driver is not None:
        await driver(module)
    for test in tests:
        await finished(test())


def test_every_driver_has_a_program() -> None:
    assert set(DRIVERS) <= set(PROGRAMS)


Driver = Callable[[Any], Awaitable[None]]
DRIVERS: dict[tuple[str, str], Driver] = {}


def drives(page: str, *names: str) -> Callable[[Driver], Driver]:
    """Let a function drive these programs."""

    def register(driver: Driver) -> Driver:
        for name in names:
            assert (page, name) not in DRIVERS, name
            DRIVERS[page, name] = driver
        return driver

    return register


def client_of(module: Any, **options: Any) -> Client:
    return Client(module.app, **options)


async def refused(connection: ClientConnection) -> Refused:
    with pytest.raises(Refused) as refusal:
        async with connection:
            pass
    return refusal.value


def http(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://testserver")


@asynccontextmanager
async def open_all(client: Client, *paths: str) -> AsyncIterator[list[ClientConnection]]:
    """Open several connections, and return when the endpoints have done what they do at first."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(client.connect(path)) for path in paths]
        for connection in connections:
            await connection.assert_nothing()
        yield connections


async def end_of(connection: ClientConnection) -> tuple[int, str]:
    """Receive until the application has closed, and return its code and reason."""
    while True:
        try:
            await connection.receive()
        except WebSocketDisconnect as ended:
            return ended.code, ended.reason


async def tell(speaker: ClientConnection, message: object, *hearers: ClientConnection, heard: object) -> None:
    """Let one client send, and see what each of the others gets."""
    await speaker.send(message)
    for hearer in hearers:
        await hearer.assert_received(heard)


# README


@drives("README.md", "readme")
@drives("README.zh.md", "readme")
async def drive_readme(module: Any) -> None:
    async with client_of(module) as client, client.connect("/ws/ada") as ada:
        async with client.connect("/ws/grace") as grace:
            await tell(grace, "Hello", ada, grace, heard="grace: Hello")
        await ada.assert_received("grace has left")


@pytest.mark.parametrize("page", READMES)
async def test_the_readme_can_be_followed(page: str, tmp_path: Path, unused_tcp_port: int) -> None:
    """The application, in the file that it is to be written to, served by the command that stands there."""
    [program] = programs_of(page)["readme"]
    [serve] = commands_of(page, "hubbub")
    addresses = [address.replace("8000", str(unused_tcp_port)) for [address] in commands_of(page, "websockets")]
    (tmp_path / "main.py").write_text(program.source, encoding="utf-8")
    command = [sys.executable, "-m", "hubbub.cli", *serve, "--port", str(unused_tcp_port)]
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    try:
        one, two = [await opened(address, server) for address in addresses]
        await one.send("Hello")
        assert [await asyncio.wait_for(client.recv(), 5) for client in (one, two)] == ["ada: Hello", "ada: Hello"]
        await one.close()
        assert await asyncio.wait_for(two.recv(), 5) == "ada has left"
        await two.close()
    finally:
        server.terminate()
        output, _ = await asyncio.wait_for(server.communicate(), 10)
    assert b"Traceback" not in output


async def opened(address: str, server: asyncio.subprocess.Process) -> websockets.ClientConnection:
    async with asyncio.timeout(20):
        while True:
            try:
                return await connect(address, proxy=None)
            except OSError:
                assert server.returncode is None, "the server has ended"
                await asyncio.sleep(0.02)


def commands_of(page: str, program: str) -> list[list[str]]:
    """The arguments of each command on a page that calls a program."""
    script = "\n".join(page_of(page).sources("bash")).replace("\\\n", "")
    commands = [shlex.split(line) for line in script.splitlines()]
    return [arguments for name, *arguments in commands if name == program]


@pytest.mark.parametrize("page", READMES)
async def test_the_curl_command_reaches_the_devices(page: str) -> None:
    [[url, *options]] = commands_of(page, "curl")
    given = dict(zip(options[::2], options[1::2], strict=True))
    name, _, value = given["-H"].partition(": ")
    async with Client(examples) as client, client.connect("/notifications/devices/ada") as device:
        assert (await device.receive_json())["type"] == "inbox"
        async with http(examples) as browser:
            answer = await browser.post(httpx.URL(url).path, headers={name: value}, content=given["-d"])
        assert answer.status_code == 201
        assert (await device.receive_json())["notification"]["text"] in given["-d"]


@pytest.mark.parametrize("page", READMES)
def test_the_make_targets_are_there(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [target for target, *_ in commands_of(page, "make")]
    assert targets == ["demo"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_both_readmes_say_to_do_the_same() -> None:
    programs = ("make", "pip", "python3", ".", "hubbub", "websockets")
    one, other = ([commands_of(page, program) for program in programs] for page in READMES)
    assert one == other


# docs/quickstart.md


@drives("docs/quickstart.md", "chat")
async def drive_quickstart_chat(module: Any) -> None:
    async with http(module.app) as browser:
        assert "new WebSocket" in (await browser.get("/")).text
    async with client_of(module) as client, client.connect("/ws/ada") as ada:
        await ada.assert_received("ada is here")
        async with client.connect("/ws/grace") as grace:
            await ada.assert_received("grace is here")
            await grace.assert_received("grace is here")
            await tell(grace, "Hello", ada, grace, heard="grace: Hello")
        await ada.assert_received("grace has left")


@drives("docs/quickstart.md", "rooms")
async def drive_quickstart_rooms(module: Any) -> None:
    paths = ("/rooms/kitchen?name=ada", "/rooms/kitchen?name=grace", "/rooms/attic?name=linus")
    async with client_of(module) as client, open_all(client, *paths) as (ada, grace, linus):
        assert module.hub.statistics().channels == 2
        await tell(ada, "Tea?", ada, grace, heard="ada: Tea?")
        await linus.assert_nothing()
    assert module.hub.statistics().channels == 0


@drives("docs/quickstart.md", "users")
async def drive_quickstart_users(module: Any) -> None:
    paths = ("/devices/ada", "/devices/ada", "/devices/grace")
    async with (
        client_of(module) as client,
        open_all(client, *paths) as (phone, laptop, other),
        http(module.app) as browser,
    ):
        await browser.post("/notify/ada", json={"text": "Tea"})
        await browser.post("/notify/nobody", json={"text": "Tea"})
        await phone.assert_received({"text": "Tea"})
        await laptop.assert_received({"text": "Tea"})
        await other.assert_nothing()


@drives("docs/quickstart.md", "typed")
async def drive_quickstart_typed(module: Any) -> None:
    async with client_of(module) as client, client.connect("/ws/ada") as ada:
        await tell(ada, {"text": "Hello"}, ada, heard={"name": "ada", "text": "Hello"})
        await ada.send("Hello")
        assert (await ada.receive_json())["code"] == "invalid_message"
        await tell(ada, {"text": "Hello"}, ada, heard={"name": "ada", "text": "Hello"})


# docs/tutorial.md: each step before and after

TUTORIAL = "docs/tutorial.md"
PARTS = ("before", "manager", "hub")
STEPS = ("echo", "manager", "leaving", "json", "limit", "path", "token", "route")


def test_each_step_has_its_three_parts() -> None:
    steps = [f"{step}-{part}" for step in STEPS for part in PARTS]
    assert list(programs_of(TUTORIAL)) == [*steps, "own-manager", "own-hub", "push", "both"]


@pytest.mark.parametrize("step", ["manager", "leaving", "json"])
def test_the_drop_in_changes_nothing_but_the_class(step: str) -> None:
    before, after = (ast.parse(programs_of(TUTORIAL)[f"{step}-{part}"][0].source).body for part in PARTS[:2])
    kept = [ast.dump(node) for node in before if not isinstance(node, ast.ClassDef)]
    imported = ast.dump(ast.parse("from hubbub import ConnectionManager").body[0])
    assert [dumped for node in after if (dumped := ast.dump(node)) != imported] == kept
    assert imported in map(ast.dump, after)


@drives(TUTORIAL, "echo-before", "echo-manager", "echo-hub")
async def drive_echo(module: Any) -> None:
    async with client_of(module, raise_app_exceptions=False) as client, client.connect("/ws") as ada:
        await tell(ada, "Hello", ada, heard="You wrote: Hello")


async def test_only_the_first_echo_ends_in_an_exception() -> None:
    for part, expected in (("before", True), ("manager", False), ("hub", False)):
        module = await run(TUTORIAL, f"echo-{part}")
        raised = False
        try:
            async with Client(module.app) as client, client.connect("/ws") as ada:
                await tell(ada, "Hello", ada, heard="You wrote: Hello")
        except WebSocketDisconnect:
            raised = True
        assert raised is expected


@drives(TUTORIAL, "manager-before", "manager-manager", "manager-hub")
async def drive_manager(module: Any) -> None:
    async with (
        client_of(module, raise_app_exceptions=False) as client,
        client.connect("/ws") as ada,
        client.connect("/ws") as grace,
    ):
        await ada.send("Hello")
        await ada.assert_received("You wrote: Hello", "Somebody wrote: Hello")
        await grace.assert_received("Somebody wrote: Hello")


@pytest.mark.parametrize(("part", "suffers"), [("before", True), ("manager", False), ("hub", False)])
async def test_a_dead_socket_among_the_recipients(part: str, suffers: bool) -> None:
    module = await run(TUTORIAL, f"manager-{part}")
    async with Client(module.app, raise_app_exceptions=False) as client:
        async with client.connect("/ws") as dead:
            await tell(dead, "first", dead, heard="You wrote: first")
        async with client.connect("/ws") as ada, client.connect("/ws") as grace:
            await ada.send("Hello")
            await ada.assert_received("You wrote: Hello")
            if suffers:
                await ada.assert_closed(1006)
                await grace.assert_nothing()
            else:
                await ada.assert_received("Somebody wrote: Hello")
                await grace.assert_received("Somebody wrote: Hello")


@pytest.mark.parametrize(("part", "suffers"), [("before", True), ("manager", False), ("hub", False)])
async def test_a_stalled_client_among_the_recipients(part: str, suffers: bool) -> None:
    module = await run(TUTORIAL, f"leaving-{part}")
    async with (
        Client(module.app, raise_app_exceptions=False) as client,
        client.connect("/ws/1") as stalled,
        client.connect("/ws/2") as ada,
    ):
        await tell(ada, "one", stalled, ada, heard="Client #2 says: one")
        stalled.stall()
        await ada.send("two")
        if suffers:
            await ada.assert_nothing()
        else:
            await ada.assert_received("Client #2 says: two")
        stalled.resume()
        await stalled.assert_received("Client #2 says: two")


@drives(TUTORIAL, "leaving-before", "leaving-manager", "leaving-hub")
async def drive_leaving(module: Any) -> None:
    async with client_of(module) as client, client.connect("/ws/1") as ada:
        async with client.connect("/ws/2") as grace:
            await tell(grace, "Hello", ada, grace, heard="Client #2 says: Hello")
        await ada.assert_received("Client #2 left the chat")
        await tell(ada, "Still here", ada, heard="Client #1 says: Still here")


@drives(TUTORIAL, "json-before", "json-manager", "json-hub")
async def drive_json(module: Any) -> None:
    async with client_of(module) as client, client.connect("/ws/ada") as ada, client.connect("/ws/grace") as grace:
        await tell(ada, {"text": "Hello"}, ada, grace, heard={"name": "ada", "text": "Hello"})


@pytest.mark.parametrize(("part", "left"), [("before", 2), ("manager", 1), ("hub", 2)])
async def test_json_that_does_not_fit(part: str, left: int) -> None:
    """Before, the socket stays in the list; the drop-in loses the client; the hub keeps both."""
    module = await run(TUTORIAL, f"json-{part}")
    async with (
        Client(module.app, raise_app_exceptions=False) as client,
        client.connect("/ws/ada") as ada,
        client.connect("/ws/grace") as grace,
    ):
        await grace.send('{"text": ')
        match part:
            case "before":
                await grace.assert_closed(1006)
                assert len(module.manager.active_connections) == left
            case "manager":
                await grace.assert_closed(1011)
                assert len(module.manager.active_connections) == left
            case "hub":
                assert (await grace.receive_json())["code"] == "invalid_message"
                assert len(module.hub.connections) == left
                await tell(grace, {"text": "Hello"}, ada, heard={"name": "grace", "text": "Hello"})


@drives(TUTORIAL, "limit-before", "limit-manager", "limit-hub")
async def drive_limit(module: Any) -> None:
    async with client_of(module) as client, client.connect("/ws"):
        async with client.connect("/ws"):
            refusal = await refused(client.connect("/ws"))
            assert refusal.status == (503 if hasattr(module, "hub") else 400)
            assert refusal.json()["detail"] == "Too many connections"
        async with client.connect("/ws"):
            pass


@drives(TUTORIAL, "path-before", "path-manager", "path-hub")
async def drive_path(module: Any) -> None:
    paths = ("/rooms/kitchen/1", "/rooms/kitchen/2", "/rooms/attic/3")
    async with client_of(module) as client, open_all(client, *paths) as (ada, grace, linus):
        await tell(ada, "Tea?", ada, grace, heard="Client #1 says: Tea?")
        await linus.assert_nothing()
        refusal = await refused(client.connect("/rooms/kitchen/seven"))
        assert (refusal.status, refusal.body) == (403, b"")


@drives(TUTORIAL, "token-before", "token-manager", "token-hub")
async def drive_token(module: Any) -> None:
    async with client_of(module) as client, client.connect("/ws?token=sesame") as ada:
        await tell(ada, "Hello", ada, heard="ada, you wrote: Hello")
        refusal = await refused(client.connect("/ws?token=guess"))
        if not hasattr(module, "hub"):
            assert (refusal.status, refusal.body) == (403, b"")
            return
        assert (refusal.status, refusal.json()) == (401, {"detail": "Sign in first"})
        async with http(module.app) as browser:
            await browser.post("/sign-out/ada")
        await ada.assert_closed(3503, "signed out")


@drives(TUTORIAL, "route-before")
async def drive_route_before(module: Any) -> None:
    async with (
        client_of(module, raise_app_exceptions=False) as client,
        client.connect("/ws/ada") as tab,
        http(module.app) as browser,
    ):
        await browser.post("/notify/ada?text=Tea")
        await tab.assert_received("Tea")
        async with client.connect("/ws/ada") as second:
            await browser.post("/notify/ada?text=Cake")
            await second.assert_received("Cake")
            await tab.assert_nothing()
        assert (await browser.post("/notify/ada?text=Milk")).status_code == 404


@drives(TUTORIAL, "route-hub")
async def drive_route_hub(module: Any) -> None:
    paths = ("/ws/ada", "/ws/ada")
    async with client_of(module) as client, open_all(client, *paths) as tabs, http(module.app) as browser:
        await browser.post("/notify/ada?text=Tea")
        await browser.post("/notify-from-a-thread/ada?text=Milk")
        for tab in tabs:
            await tab.assert_received("Tea", "Milk")


@drives(TUTORIAL, "route-manager")
async def drive_route_manager(module: Any) -> None:
    paths = ("/ws/ada", "/ws/grace")
    async with client_of(module) as client, open_all(client, *paths) as (ada, grace), http(module.app) as browser:
        await browser.post("/notify?text=Tea")
        await ada.assert_received("Tea")
        await grace.assert_received("Tea")


@drives(TUTORIAL, "own-manager", "own-hub")
async def drive_own_manager(module: Any) -> None:
    paths = ("/rooms/kitchen/1", "/rooms/kitchen/2", "/rooms/attic/3")
    foreign = {"Origin": "http://localhost:3000"}
    async with client_of(module) as client, http(module.app) as browser:
        async with open_all(client, *paths) as (ada, grace, linus), client.connect(paths[2], headers=foreign) as tab:
            await tell(ada, "Tea?", ada, grace, heard="1: Tea?")
            await browser.post("/tell/3?text=Cake")
            await linus.assert_received("Cake")
            await tab.assert_received("Cake")
            refusal = await refused(client.connect(paths[0], headers={"Origin": "http://localhost:3001"}))
            assert refusal.status == 403
            if hasattr(module, "manager"):
                assert list(module.manager.rooms) == ["kitchen", "attic"]
                with pytest.raises(AttributeError, match="active_connections"):
                    module.manager.active_connections = []
        if hasattr(module, "manager"):
            assert (module.manager.rooms, len(module.manager.active_connections)) == ({}, 0)


@drives(TUTORIAL, "push")
async def drive_push(module: Any) -> None:
    async with client_of(module) as client, client.connect("/time") as ada:
        module.EVERY_S = 0.01
        first, second = [datetime.fromisoformat(await ada.receive_json()) for _ in range(2)]
        assert first < second


@drives(TUTORIAL, "both")
async def drive_both(module: Any) -> None:
    module.EVERY_S = 0.01
    async with client_of(module) as client, client.connect("/count") as ada:
        await ada.assert_received("0", "1")
        await ada.send("1000")
        while int(await ada.receive()) < 1_000:
            pass
    assert module.hub.statistics().closed == {1000: 1}


# docs/hub.md


@drives("docs/hub.md", "room")
async def drive_room(module: Any) -> None:
    async with (
        client_of(module) as client,
        client.connect("/rooms/kitchen/grace") as grace,
        http(module.app) as browser,
    ):
        async with client.connect("/rooms/kitchen/ada"):
            async with open_all(client, "/rooms/kitchen/ada", "/rooms/attic/linus"):
                assert (await browser.get("/rooms/kitchen")).json() == ["ada", "grace"]
            await grace.assert_nothing()
        await grace.assert_received("ada has left")
        assert (await browser.get("/rooms/kitchen")).json() == ["grace"]


@drives("docs/hub.md", "endpoint")
async def drive_endpoint(module: Any) -> None:
    async with client_of(module) as client:
        async with client.connect("/ws") as ada:
            await tell(ada, "Hello", ada, heard="You wrote: Hello")
            await ada.send("x" * 65_537)
            await ada.assert_closed(1009, "message_bytes")
        async with client.connect("/upload") as ada:
            await tell(ada, bytes(100_000), ada, heard="100000 bytes have arrived")
            await ada.send("text")
            await ada.assert_closed(1003)


@drives("docs/hub.md", "accept")
async def drive_accept(module: Any) -> None:
    async with client_of(module) as client:
        async with client.connect("/ws", subprotocols=["chat.v2", "chat.v1"]) as ada:
            assert ada.subprotocol == "chat.v1"
            assert (b"x-served-by", b"hubbub") in ada.accept_headers
            assert [connection.user for connection in module.hub.connections.values()] == ["ada"]
        refusal = await refused(client.connect("/ws"))
        assert (refusal.status, refusal.json()) == (400, {"detail": "Speak chat.v1", "limit": None})


@drives("docs/hub.md", "users")
async def drive_users(module: Any) -> None:
    paths = ("/ws?user=ada", "/ws?user=ada", "/ws?user=grace")
    async with (
        client_of(module) as client,
        open_all(client, *paths) as (phone, laptop, other),
        http(module.app) as browser,
    ):
        await tell(phone, "Hello", laptop, heard="Hello")
        await phone.assert_nothing()
        await browser.post("/kick/ada")
        await phone.assert_closed(4001, "kicked")
        await laptop.assert_closed(4001, "kicked")
        await other.assert_nothing()


@drives("docs/hub.md", "channels")
async def drive_channels(module: Any) -> None:
    paths = ("/rooms/kitchen", "/rooms/kitchen", "/rooms/attic")
    async with (
        client_of(module) as client,
        open_all(client, *paths) as (ada, grace, linus),
        http(module.app) as browser,
    ):
        assert module.hub.statistics().channels == 3
        await tell(ada, "Tea?", grace, heard="Tea?")
        await browser.post("/news?text=Rain")
        for connection in (ada, grace, linus):
            await connection.assert_received("Rain")
        await grace.send("bye")
        await ada.assert_nothing()
        await ada.send("Still there?")
        await grace.assert_nothing()
    assert str(module.news) == module.news.name == "news"
    with pytest.raises(ValueError, match="':'"):
        module.rooms(room="kitchen:1")
    with pytest.raises(ValueError, match="overlaps"):
        module.hub.channels("{kind}:{room}")


@drives("docs/hub.md", "detach")
async def drive_detach(module: Any) -> None:
    async with (
        client_of(module) as client,
        open_all(client, "/prices/ada?greeting=Hi", "/prices/grace") as (ada, grace),
        http(module.app) as browser,
    ):
        await tell(ada, "TEA", ada, heard="Hi, TEA it is")
        await grace.send("COFFEE")
        connections = [*module.hub.connections.values()]
        assert [connection.is_detached for connection in connections] == [True, True]
        with pytest.raises(RuntimeError, match="state"):
            _ = connections[0].headers
        await browser.post("/prices/TEA?price=3")
        await ada.assert_received("TEA 3.0")
        await ada.close(4001)
        await grace.assert_nothing()
        assert module.left == ["ada: 4001"]


@drives("docs/hub.md", "threads")
async def drive_threads(module: Any) -> None:
    async with client_of(module) as client, client.connect("/ws/ada") as ada, http(module.app) as browser:
        await browser.post("/notify/ada?text=Tea")
        await ada.assert_received("Tea", "ada has been told", "Somebody has been told")
        await ada.assert_closed(3503)
        with pytest.raises(RuntimeError, match="await"):
            module.hub.from_thread.broadcast("Tea")


@drives("docs/hub.md", "statistics")
async def drive_statistics(module: Any) -> None:
    async with client_of(module), http(module.app) as browser:
        assert (await browser.get("/health")).json() == {"connections": 0, "slow": 0}


@drives("docs/hub.md", "lifespan")
async def drive_lifespan(module: Any) -> None:
    # Enough of what it does to see the end of it: the hub closes what is open when the application ends.
    lifespan = module.app.router.lifespan_context(module.app)
    await lifespan.__aenter__()
    ada = await Client(module.app).connect("/ws").__aenter__()
    await ada.assert_received("tick", "tick")
    await lifespan.__aexit__(None, None, None)
    assert await end_of(ada) == (1012, "")


@drives("docs/hub.md", "manager")
async def drive_documented_manager(module: Any) -> None:
    async with client_of(module) as client, client.connect("/ws") as ada:
        async with client.connect("/ws") as grace:
            await tell(grace, "Hello", grace, heard={"you": "Hello"})
            await ada.assert_received("Hello")
            await grace.assert_nothing()
            await grace.send("x" * 4_097)
            await grace.assert_closed(1009, "message_bytes")
        await ada.assert_received("1 are left")


# docs/typed-messages.md


@drives("docs/typed-messages.md", "union")
async def drive_union(module: Any) -> None:
    async with client_of(module) as client, client.connect("/ws/ada") as ada, client.connect("/ws/grace") as grace:
        await tell(ada, {"type": "say", "text": "Hi"}, ada, grace, heard={"type": "said", "name": "ada", "text": "Hi"})
        await tell(ada, {"type": "typing"}, grace, heard={"type": "is_typing", "name": "ada"})
        await ada.assert_nothing()
        await ada.send({"type": "say"})
        [documented] = page_of("docs/typed-messages.md").sources("json")
        await ada.assert_received(json.loads(documented))


@pytest.mark.parametrize(("message", "code"), [('{"type": ', 1007), (b"{}", 1003), ({"type": "say"}, 1008)])
async def test_what_on_invalid_close_closes_with(message: object, code: int) -> None:
    module = await run("docs/typed-messages.md", "union")
    module.app.dependency_overrides[module.hub] = module.hub.connection(on_invalid="close")
    async with client_of(module) as client, client.connect("/ws/ada") as ada:
        await ada.send(message)
        await ada.assert_closed(code, "invalid_message")


@drives("docs/typed-messages.md", "raise")
async def drive_raise(module: Any) -> None:
    async with client_of(module) as client, client.connect("/orders") as ada:
        await tell(ada, {"cakes": 1}, ada, heard={"sorry": "Field required"})
        await tell(ada, {"coffees": 2}, ada, heard={"coffees": 2})


@drives("docs/typed-messages.md", "out")
async def drive_out(module: Any) -> None:
    async with client_of(module) as client, client.connect("/ws") as ada:
        await tell(ada, "Ada", ada, heard={"text": "Hello, Ada"})
    with pytest.raises(TypeError, match="Greeting"):
        async with client_of(module) as client, client.connect("/broken"):
            pass


# docs/limits.md


@drives("docs/limits.md", "limits")
async def drive_limits(module: Any) -> None:
    async with (
        client_of(module) as client,
        client.connect("/ws?user=ada") as ada,
        client.connect("/ws?user=ada") as second,
    ):
        refusal = await refused(client.connect("/ws?user=ada"))
        assert (refusal.status, refusal.json()["limit"]) == (429, "connections_per_user")
        assert "retry-after" in refusal.headers
        await ada.send("x" * 1_025)
        await ada.assert_closed(1009, "message_bytes")
        for _ in range(20):
            await tell(second, "x", second, heard="You wrote: x")
        for _ in range(20):
            await second.send("x")
        assert await end_of(second) == (1008, "messages_per_s")


@drives("docs/limits.md", "endpoint")
async def drive_limits_of_an_endpoint(module: Any) -> None:
    async with client_of(module) as client, client.connect("/prices") as ada:
        await ada.send("x" * 1_025)
        await ada.assert_closed(1009, "message_bytes")
    async with client_of(module) as client, client.connect("/prices") as ada:
        for _ in range(6):
            await ada.send("x")
        await ada.assert_closed(1008, "messages_per_s")


@drives("docs/limits.md", "origins")
async def drive_origins(module: Any) -> None:
    async with client_of(module, base_url="ws://example.com") as client:
        for origin in (
            "http://example.com",
            "https://example.com:443",
            "https://app.example.com",
            "http://localhost:5173",
        ):
            port = ":443" if origin.endswith(":443") else ""
            async with client.connect("/ws", headers={"Origin": origin, "Host": f"example.com{port}"}) as ada:
                await tell(ada, "Hello", ada, heard="You wrote: Hello")
        for origin in ("http://example.com:81", "https://evil-example.com", "https://example.com.evil.com", "null"):
            refusal = await refused(client.connect("/ws", headers={"Origin": origin}))
            assert refusal.status == 403
            assert refusal.json() in map(json.loads, page_of("docs/limits.md").sources("json"))


# docs/slow-clients.md


@drives("docs/slow-clients.md", "latest")
async def drive_latest(module: Any) -> None:
    async with (
        client_of(module) as client,
        client.connect("/arenas/meadow") as ada,
        client.connect("/arenas/meadow") as slow,
    ):
        slow.stall()
        for number in range(5):
            await tell(ada, str(number), ada, heard=str(number))
        slow.resume()
        await slow.assert_received("0", "4")  # one was under way, the newest had taken the others' place
        await slow.assert_nothing()
    assert module.hub.statistics().dropped == {"latest": 3}


# docs/errors.md


@drives("docs/errors.md", "denied")
async def drive_denied(module: Any) -> None:
    async with client_of(module) as client:
        refusal = await refused(client.connect("/rooms/closed"))
        assert (refusal.status, refusal.json()) == (410, {"detail": "This room is closed", "limit": None})
        async with client.connect("/rooms/open") as ada:
            await tell(ada, "news", ada, heard="You have joined news")
            await ada.send("x" * 256)
            assert (await ada.receive()).startswith("No: ")
            await ada.send("shout")
            await ada.assert_closed(1008, "No shouting")


# docs/channels.md


@drives("docs/channels.md", "resume")
async def drive_resume(module: Any) -> None:
    room = module.rooms(room="kitchen")
    async with client_of(module) as client, http(module.app) as browser:
        assert "new WebSocket" in (await browser.get("/")).text
        async with client.connect("/rooms/kitchen") as ada:
            welcome = await ada.receive_json()
            await ada.send("Tea?")
            heard = await ada.receive_json()
        [documented, place] = map(json.loads, page_of("docs/channels.md").sources("json"))
        assert welcome == {**place, "epoch": welcome["epoch"], "offset": 0}
        assert heard == {**documented, "epoch": welcome["epoch"], "offset": 1}
        await browser.post("/rooms/kitchen?text=Cake?")
        await room.publish(b"\0")
        async with client.connect(f"/rooms/kitchen?since={heard['epoch']}:1") as ada:
            assert [(await ada.receive_json())["data"] for _ in range(2)] == ["Cake?", "AA=="]
            assert await ada.receive_json() == {**welcome, "offset": 3}
        async with client.connect("/rooms/kitchen?since=another:1") as ada:
            assert await ada.receive_json() == {**welcome, "offset": 3, "recovered": False}
        assert (await client.refused("/rooms/kitchen?since=1")).status == 400


@drives("docs/channels.md", "envelope")
async def drive_envelope(module: Any) -> None:
    envelope: TypeAdapter[Any] = TypeAdapter(Envelope[module.Said])
    module.app.debug = True
    async with client_of(module) as client, client.connect("/rooms/kitchen/ada") as ada:
        assert envelope.validate_json(await ada.receive())["recovered"]
        await ada.send({"text": "Tea?"})
        assert envelope.validate_json(await ada.receive())["data"] == module.Said(text="Tea?", by="ada")
        await ada.send({"text": "spam"})
        await ada.assert_received({"reason": "No spam"})


@drives("docs/channels.md", "beginning")
async def drive_beginning(module: Any) -> None:
    async with client_of(module) as client, client.connect("/rooms/kitchen") as ada:
        await tell(ada, "one", ada, heard="one")
        await tell(ada, "two", ada, heard="two")
        async with client.connect("/rooms/kitchen") as grace:
            await grace.assert_received("one", "two")
            await tell(ada, "three", ada, grace, heard="three")


@drives("docs/channels.md", "presence")
async def drive_presence(module: Any) -> None:
    devices = {"ada": [{"device": "laptop"}, {"device": "phone"}], "grace": [{"device": "laptop"}]}
    async with (
        client_of(module) as client,
        http(module.app) as browser,
        client.connect("/rooms/kitchen/grace") as grace,
    ):
        await grace.assert_received("grace is here")
        async with client.connect("/rooms/kitchen/ada") as ada, client.connect("/rooms/kitchen/ada?device=phone"):
            await grace.assert_received("ada is here")
            await ada.assert_received("ada is here")
            await grace.assert_nothing()
            assert (await browser.get("/rooms/kitchen/count")).json() == 2
            count = await module.rooms(room="kitchen").presence_count()
            assert (count.connections, count.users) == (3, 2)
            assert (await browser.get("/rooms/kitchen")).json() == devices
        await grace.assert_nothing()  # within the grace period


@drives("docs/channels.md", "handlers")
async def drive_handlers(module: Any) -> None:
    async with client_of(module) as client, client.connect("/rooms/kitchen/grace") as grace:
        async with client.connect("/rooms/kitchen/linus") as linus:
            await linus.assert_closed(1008, "You are not a member of this room")
        async with client.connect("/rooms/kitchen/ada") as ada:
            await tell(ada, {"text": "Tea?"}, ada, grace, heard={"user": "ada", "text": "Tea?"})
            await tell(ada, {"text": "spam"}, ada, heard={"refused": "No spam"})
            await ada.send({"txt": "Tea?"})
            assert "text: Field required" in (await ada.receive_json())["refused"]
        await grace.assert_nothing()


def test_the_table_of_handlers_is_complete() -> None:
    rows = table_rows("docs/channels.md", "decorator")
    listed = [name for row in rows for name in re.findall(r"`(on_\w+)`", row[0])]
    family = type(Hub().channels("room:{room}"))
    assert sorted(listed) == sorted(name for name in vars(family) if name.startswith("on_"))


@drives("docs/channels.md", "stream")
async def drive_stream(module: Any) -> None:
    async with client_of(module) as client, http(module.app) as browser:
        started = (await browser.post("/answers?question=Why is it so?")).json()
        pieces = []
        while not pieces or pieces[-1]["type"] != "end":
            async with client.connect(f"/answers/{started['answer']}?since={started['since']}") as page:
                for _ in range(3):  # and then it is reloaded
                    envelope = await page.receive_json()
                    started["since"] = f"{envelope['epoch']}:{envelope['offset']}"
                    pieces += [envelope["data"]] if "data" in envelope else []
                    if pieces and pieces[-1]["type"] == "end":
                        break
        assert [piece.get("item") for piece in pieces] == ["You", "have", "asked:", "Why", "is", "it", "so?", None]


# docs/events.md


class Listener:
    """A client of Server-Sent Events, in this process."""

    def __init__(self, app: FastAPI, path: str, last_event_id: str | None) -> None:
        headers = [] if last_event_id is None else [(b"last-event-id", last_event_id.encode())]
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
        self._parts: asyncio.Queue[Any] = asyncio.Queue()
        self._gone = asyncio.Event()
        self.task = asyncio.create_task(app({**scope, "http_version": "1.1"}, self._receive, self._parts.put))

    async def _receive(self) -> dict[str, object]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def receive(self) -> Any:
        """Return the next message of the response: its status, or a part of its body."""
        message = await asyncio.wait_for(self._parts.get(), 2)
        return message["status"] if "status" in message else message["body"].decode()

    async def close(self) -> None:
        self._gone.set()
        await asyncio.wait_for(self.task, 5)


@asynccontextmanager
async def listening(app: FastAPI, path: str, last_event_id: str | None = None) -> AsyncIterator[Listener]:
    listener = Listener(app, path, last_event_id)
    try:
        yield listener
    finally:
        await listener.close()


@drives("docs/events.md", "events")
async def drive_events(module: Any) -> None:
    path = "/rooms/kitchen/events"
    async with client_of(module), http(module.app) as browser:
        assert "new EventSource" in (await browser.get("/")).text
        assert (await browser.get("/rooms/cellar/events")).json() == {"detail": "Nobody may go there", "limit": None}
        async with listening(module.app, path) as page:
            assert await page.receive() == 200
            first = (await page.receive()).removeprefix("id: ").strip()
            await browser.post("/rooms/kitchen?text=Tea?")
            epoch = first.removesuffix(":0")
            assert await page.receive() == f'id: {epoch}:1\ndata: {{"text":"Tea?"}}\n\n'
        await browser.post("/rooms/kitchen?text=Cake?")
        async with listening(module.app, path, f"{epoch}:1") as page:
            assert await page.receive() == 200
            assert await page.receive() == f'id: {epoch}:2\ndata: {{"text":"Cake?"}}\n\n'
        async with listening(module.app, path, "another:1") as page:
            assert await page.receive() == 200
            assert await page.receive() == f"id: {epoch}:2\nevent: reset\ndata: {epoch}:2\n\n"


# docs/workers.md


@drives("docs/workers.md", "workers")
async def drive_workers(module: Any) -> None:
    paths = ("/rooms/kitchen/ada", "/rooms/kitchen/grace")
    async with client_of(module) as client, open_all(client, *paths) as (ada, grace), http(module.app) as browser:
        await tell(ada, "Tea?", ada, grace, heard="ada: Tea?")
        await browser.post("/notify/grace?text=Cake")
        await grace.assert_received("Cake")


@pytest.mark.parametrize("row", table_rows("docs/workers.md", "URL"), ids=lambda row: row[0])
def test_the_urls_of_brokers_are_such(row: list[str]) -> None:
    Hub(row[0].strip("`"))


@drives("docs/workers.md", "unavailable")
async def drive_unavailable(module: Any) -> None:
    async with client_of(module), http(module.app) as browser:
        url, headers = "/news/tea?text=Ready", {"Idempotency-Key": "1"}
        first, again = [await browser.post(url, headers=headers) for _ in range(2)]
        assert (first.status_code, first.json()) == (again.status_code, again.json())
        assert len(await module.news(topic="tea").history()) == 1


# docs/asyncapi.md


@drives("docs/asyncapi.md", "start")
async def drive_documented_endpoints(module: Any) -> None:
    async with client_of(module) as client, http(module.app) as browser:
        assert "Tea room" in (await browser.get("/realtime")).text
        described = (await browser.get("/asyncapi.json")).json()
        [say] = map(json.loads, page_of("docs/asyncapi.md").sources("json"))
        assert described["components"]["messages"]["Say"] == say
        assert described["channels"]["chat"]["address"] == "/rooms/{room}"
        assert described["channels"]["chat"]["summary"] == "Talk in a room, under a name."
        paths = ("/rooms/kitchen?name=ada", "/rooms/kitchen?name=grace", "/rooms/attic?name=linus")
        async with open_all(client, *paths) as (ada, grace, linus):
            said = {"type": "said", "name": "ada", "text": "Tea?"}
            await tell(ada, say["examples"][0]["payload"], ada, grace, heard=said)
            await tell(ada, {"type": "typing"}, grace, heard={"type": "is_typing", "name": "ada"})
            for connection in (ada, linus):
                await connection.assert_nothing()


@drives("docs/asyncapi.md", "guard")
async def drive_guarded_documentation(module: Any) -> None:
    async with client_of(module) as client, http(module.app) as browser:
        for path in ("/internal/realtime", "/internal/realtime/app.js", "/internal/asyncapi.json"):
            refusal = await browser.get(path)
            assert (refusal.status_code, refusal.headers["www-authenticate"]) == (401, "Basic")
            assert (await browser.get(path, auth=("ada", "wrong"))).status_code == 401
            assert (await browser.get(path, auth=("ada", module.PASSWORD.decode()))).status_code == 200
        async with client.connect("/echo") as ada:
            await tell(ada, "Tea?", ada, heard="Tea?")


@drives("docs/asyncapi.md", "resume")
async def drive_typed_resume(module: Any) -> None:
    async with client_of(module) as client, http(module.app) as browser:

        async def ticket() -> str:
            return str((await browser.post("/tickets/ada")).json())

        used = await ticket()
        async with client.connect(f"/rooms/kitchen?ticket={used}") as ada:
            assert (await ada.receive_json())["recovered"]
            await ada.send({"text": "Tea?"})
            heard = await ada.receive_json()
            assert heard["data"] == {"text": "Tea?", "by": "ada"}
            await ada.send({"text": "Cake?"})
            await ada.receive_json()
        assert (await client.refused(f"/rooms/kitchen?ticket={used}")).status == 403
        since = f"{heard['epoch']}:{heard['offset']}"
        async with client.connect(f"/rooms/kitchen?ticket={await ticket()}&since={since}") as ada:
            assert (await ada.receive_json())["data"] == {"text": "Cake?", "by": "ada"}
            assert (await ada.receive_json())["recovered"]


# TypeScript

WRONG_TYPESCRIPT = """
import { connectChat } from "./realtime";
// @ts-expect-error: no message is of that type
connectChat({ room: "kitchen", name: "ada" }).send({ type: "shout" });
// @ts-expect-error: no message has that
connectChat({ room: "kitchen", name: "ada" }, { onMessage: (message) => message.txt });
// @ts-expect-error: it does not say who it is
connectChat({ room: "kitchen" });
"""
COMPILER = {
    "strict": True,
    "noEmit": True,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2022", "dom"],
    "types": [],
}


async def typescript_of(page: str) -> dict[Path, str]:
    """The TypeScript of a page, for each example in a directory with the client of its application."""
    files: dict[Path, str] = {}
    for block in page_of(page).blocks:
        if block.language == "typescript" and block.example is not None:
            module = await run(page, block.example)
            client = typescript(document(module.app, families(module.hub)))
            files[Path(block.example, "realtime.ts")] = client
            files[Path(block.example, f"line-{block.line}.ts")] = block.source
    return files


def compiled(directory: Path, files: dict[Path, str]) -> list[str]:
    for name, text in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")
    (directory / "tsconfig.json").write_text(json.dumps({"compilerOptions": COMPILER}), encoding="utf-8")
    return tsc(directory)


@pytest.mark.parametrize("page", [page for page in sorted(PAGES) if page_of(page).sources("typescript")])
async def test_the_typescript_of_a_page_compiles(page: str, tmp_path: Path) -> None:
    assert compiled(tmp_path, await typescript_of(page)) == []


async def test_what_is_said_not_to_compile_does_not(tmp_path: Path) -> None:
    files = await typescript_of("docs/asyncapi.md")
    assert compiled(tmp_path, files | {Path("start", "wrong.ts"): WRONG_TYPESCRIPT}) == []
