"""The AsyncAPI document: valid by the official parser, complete, and as the application says it today."""

import importlib
import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from fastapi import Depends, FastAPI, Query
from fastapi.security import APIKeyHeader, APIKeyQuery
from fastapi.security.base import SecurityBase
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Json, JsonValue
from pydantic_core import core_schema
from starlette.applications import Starlette
from typing_extensions import TypeAliasType

from hubbub import Connection, Envelope, Hub, Limits, Outbox, Peer
from hubbub.cli.typescript import typescript
from hubbub.fastapi.asyncapi.document import document, problems_of, servers
from hubbub.fastapi.hub import families, hubs
from hubbub.hub.fanout import prepare
from tests.fastapi.asyncapi import kitchen_sink
from tests.node import asyncapi_diagnostics

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = ("chat", "game", "notifications", "stream")
AGAIN = "If this is meant: hubbub schema examples.{0}.app:app > tests/fastapi/asyncapi/golden/{0}.json"


def document_of(app: Any, *hubs: Hub) -> dict[str, Any]:
    return document(app, [family for hub in hubs for family in families(hub)])


def of_example(name: str) -> dict[str, Any]:
    module = importlib.import_module(f"examples.{name}.app")
    return document_of(module.app, module.hub)


def of_kitchen_sink() -> dict[str, Any]:
    return document_of(kitchen_sink.app, kitchen_sink.hub, kitchen_sink.other_hub)


@pytest.fixture(scope="module")
def kitchen() -> dict[str, Any]:
    return of_kitchen_sink()


def test_the_documents_are_valid() -> None:
    documents = {name: of_example(name) for name in EXAMPLES}
    documents["kitchen sink"] = of_kitchen_sink() | {"servers": servers("wss://example.org/api")}
    documents["all examples in one"] = document_of(importlib.import_module("examples.main").app)
    documents["empty"] = document_of(FastAPI())
    documents["nothing"] = document_of(Starlette())
    found = dict(zip(documents, asyncapi_diagnostics([*documents.values()]), strict=True))
    assert [*found.items()] == [(name, []) for name in documents]


def test_the_validator_finds_faults() -> None:
    broken = document_of(FastAPI()) | {"channels": {"x": {"messages": {"y": {"$ref": "#/components/messages/y"}}}}}
    assert asyncapi_diagnostics([broken]) != [[]]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_what_it_said(name: str) -> None:
    assert of_example(name) == json.loads((GOLDEN / f"{name}.json").read_text("utf-8")), AGAIN.format(name)


def test_it_is_the_same_every_time() -> None:
    assert json.dumps(of_kitchen_sink()) == json.dumps(of_kitchen_sink())


# Messages


def names(document: Mapping[str, Any], key: str, action: Literal["receive", "send"]) -> list[str]:
    """Return the names of the messages of one direction."""
    return [one["$ref"].rpartition("/")[2] for one in document["operations"][f"{key}.{action}"]["messages"]]


def one_endpoint(annotation: Any, **settings: Any) -> dict[str, Any]:
    """Return the document of an application with one endpoint, `talk`."""
    hub = Hub(**settings)
    app = FastAPI()

    async def talk(connection: Any) -> None: ...

    talk.__annotations__["connection"] = Annotated[annotation, Depends(hub)]
    app.websocket("/talk")(talk)
    return document_of(app, hub)


class Say(BaseModel):
    """Something is said."""

    type: Literal["say"] = "say"
    text: Annotated[str, Field(description="What", examples=["Hello"])]


class Wave(BaseModel):
    type: Literal["wave"]


def test_changing_a_model_changes_the_document() -> None:
    def described(limit: int) -> dict[str, Any]:
        class Shout(BaseModel):
            text: Annotated[str, Field(max_length=limit)]

        return one_endpoint(Connection[Shout])

    assert described(10) == described(10)
    before, after = (one["components"]["schemas"]["Shout"]["properties"]["text"] for one in map(described, (10, 20)))
    assert (before["maxLength"], after["maxLength"]) == (10, 20)


def test_a_union_stands_as_separate_messages() -> None:
    described = one_endpoint(Connection[Annotated[Say | Wave, Field(discriminator="type")], Say])
    assert names(described, "talk", "receive") == ["Say-Input", "Wave"]
    assert names(described, "talk", "send") == ["Say-Output", "InvalidMessage"]
    said = described["components"]["messages"]["Say-Output"]
    assert (said["title"], said["description"]) == ("Say", "Something is said.")
    assert described["components"]["schemas"]["Say-Output"]["properties"]["text"]["examples"] == ["Hello"]


def test_what_is_sent_has_its_defaults() -> None:
    schemas = one_endpoint(Connection[Say, Say])["components"]["schemas"]
    assert schemas["Say-Input"]["required"] == ["text"]
    assert schemas["Say-Output"]["required"] == ["type", "text"]


def test_a_message_has_the_examples_of_its_model() -> None:
    class Greet(BaseModel, json_schema_extra={"examples": [{"name": "Ada"}]}):
        name: str

    described = one_endpoint(Connection[Greet])
    assert described["components"]["messages"]["Greet"]["examples"] == [{"payload": {"name": "Ada"}}]


@pytest.mark.parametrize(
    ("annotation", "received", "sent"),
    [
        (Connection, ["text"], ["text"]),
        (Connection[str], ["text"], ["text"]),
        (Connection[bytes, bytes], ["binary"], ["binary"]),
        (Connection[str | bytes, str], ["text", "binary"], ["text"]),
        (Connection[Wave], ["Wave"], ["any", "InvalidMessage"]),
        (Connection[list[int], None], ["array"], ["null", "InvalidMessage"]),
        (Connection[str | Wave, str | bytes | Wave], ["string", "Wave"], ["text", "binary", "Wave", "InvalidMessage"]),
        (Connection[str, Envelope[Wave]], ["text"], ["Enveloped_Wave_", "Recovered"]),
    ],
)
def test_the_kinds_of_messages(annotation: Any, received: list[str], sent: list[str]) -> None:
    described = one_endpoint(annotation)
    assert names(described, "talk", "receive") == received
    assert names(described, "talk", "send") == sent


def test_an_envelope_says_what_is_in_it() -> None:
    described = one_endpoint(Connection[str, Envelope[Wave | Say]])
    titles = [described["components"]["messages"][name]["title"] for name in names(described, "talk", "send")]
    assert titles == ["Envelope[Wave]", "Envelope[Say]", "Recovered"]


@pytest.mark.parametrize(("on_invalid", "is_there"), [("reply", True), ("close", False), ("raise", False)])
def test_the_error_message_is_there_where_it_is_sent(on_invalid: Any, is_there: bool) -> None:
    described = one_endpoint(Connection[Wave, Say], on_invalid=on_invalid)
    assert ("InvalidMessage" in names(described, "talk", "send")) is is_there
    codes = {(one["code"], one.get("reason")) for one in described["channels"]["talk"]["x-hubbub"]["closeCodes"]}
    assert ((1008, "invalid_message") in codes) is (on_invalid == "close")
    assert described["channels"]["talk"]["x-hubbub"]["onInvalid"] == on_invalid


def test_a_model_may_have_the_name_of_a_kind() -> None:
    class text(BaseModel):
        pass

    described = one_endpoint(Connection[text, str])
    assert (names(described, "talk", "receive"), names(described, "talk", "send")[0]) == (["text"], "text_2")


def test_two_types_of_one_name_are_two_messages() -> None:
    def another() -> Any:
        class Say(BaseModel):
            number: int

        return Say

    described = one_endpoint(Connection[Say, another()])
    (received,), (sent, _) = names(described, "talk", "receive"), names(described, "talk", "send")
    schemas = described["components"]["schemas"]
    assert set(schemas[received]["properties"]) == {"type", "text"}
    assert set(schemas[sent]["properties"]) == {"number"}


def test_the_tag_of_a_union_is_required_even_where_it_has_a_default() -> None:
    class Hum(BaseModel):
        type: Literal["hum"] = "hum"

    class Song(BaseModel):
        part: Annotated[Hum | Wave, Field(discriminator="type")]

    described = one_endpoint(Connection[Annotated[Say | Wave, Field(discriminator="type")] | Song])
    schemas = described["components"]["schemas"]
    assert schemas["Say"]["required"] == ["type", "text"]
    assert schemas["Hum"]["required"] == ["type"]
    assert one_endpoint(Connection[Say])["components"]["schemas"]["Say"]["required"] == ["text"]
    assert 'type: "say";' in typescript(described)


def test_an_alias_whose_names_belong_to_its_module_is_one_message() -> None:
    described = one_endpoint(Connection[JsonValue, int])
    assert problems_of(described) == []
    assert names(described, "talk", "receive") == ["JsonValue"]


def test_a_type_may_be_a_member_of_itself() -> None:
    described = one_endpoint(Connection[Recursive, int])
    assert asyncapi_diagnostics([described]) == [[]]


class Odd(BaseModel):
    """A model with all in its schema that is no JSON."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": UUID(int=1), "at": datetime(2026, 1, 1), "price": Decimal("1.5"), "limit": float("nan")}
            ],
            "discriminator": {"propertyName": "name", "mapping": {}},
        }
    )
    name: str = "\ud800"
    limit: Annotated[float, Field(le=float("inf"))] = float("inf")


def test_what_is_no_json_is_made_json() -> None:
    described = one_endpoint(Connection[Odd])
    assert asyncapi_diagnostics([described]) == [[]]
    text = json.dumps(described, allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode()) == described
    (example,) = described["components"]["schemas"]["Odd"]["examples"]
    assert example == {"id": str(UUID(int=1)), "at": "2026-01-01T00:00:00", "price": "1.5"}
    assert described["components"]["schemas"]["Odd"]["discriminator"] == "name"


# What cannot be described


def test_a_type_without_a_schema_is_named_and_the_others_are_described(kitchen: Mapping[str, Any]) -> None:
    assert names(kitchen, "opaque", "receive") == ["Opaque", "Tree-Input"]
    assert names(kitchen, "opaque", "send") == ["Opaque", "InvalidMessage"]
    (problem,) = (one for one in problems_of(dict(kitchen)) if one.startswith("opaque: "))
    assert problem.startswith("opaque: Opaque has no JSON Schema: Cannot generate a JsonSchema")


def test_a_type_whose_own_schema_fails_is_a_problem() -> None:
    class Broken:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            raise ZeroDivisionError

    described = one_endpoint(Connection[Broken])
    assert problems_of(described) == ["talk: Broken has no JSON Schema: ZeroDivisionError"]


def test_what_fails_beside_others_only_is_a_problem_too() -> None:
    class Odd(BaseModel):
        model_config = ConfigDict(json_schema_extra={"examples": [{"sorts": {"green"}}]})

    described = one_endpoint(Connection[Odd, list[Odd]])
    assert problems_of(described)[0].startswith("talk: Odd has no JSON Schema: TypeError: ")


def test_a_security_scheme_of_ones_own_may_say_nothing_of_itself() -> None:
    class Silent(SecurityBase):
        def __call__(self) -> str:
            return ""

    hub = Hub()
    app = FastAPI()

    @app.websocket("/talk")
    async def talk(connection: Annotated[Connection, Depends(hub)], by: Annotated[str, Depends(Silent())]) -> None: ...

    assert "security" not in document_of(app, hub)["operations"]["talk.send"]


def test_declarations_that_contradict_each_other_are_a_problem() -> None:
    hub = Hub()
    app = FastAPI()

    async def other(connection: Annotated[Connection[int], Depends(hub)]) -> None: ...

    @app.websocket("/talk")
    async def talk(
        connection: Annotated[Connection[Wave], Depends(hub)], _: Annotated[None, Depends(other)]
    ) -> None: ...

    described = document_of(app, hub)
    (problem,) = problems_of(described)
    assert "declared with different types" in problem
    assert names(described, "talk", "receive") == ["text"]


def test_a_parameter_without_a_schema_is_a_problem() -> None:
    hub = Hub()
    app = FastAPI()

    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return core_schema.no_info_plain_validator_function(str)

    @app.websocket("/talk/{odd}")
    async def talk(connection: Annotated[Connection, Depends(hub)], odd: Odd, even: int = 0) -> None: ...

    described = document_of(app, hub)
    assert [one.partition(" has ")[0] for one in problems_of(described)] == ["talk: the path parameter odd"]
    channel = described["channels"]["talk"]
    assert [*channel["bindings"]["ws"]["query"]["properties"]] == ["even"]
    assert channel["parameters"] == {"odd": {"x-schema": {"type": "string", "minLength": 1}}}


def test_an_application_without_endpoints_has_an_empty_document() -> None:
    described = document_of(FastAPI(title="Nothing yet"))
    assert described == {
        "asyncapi": "3.0.0",
        "info": {"title": "Nothing yet", "version": "0.1.0"},
        "defaultContentType": "application/json",
        "channels": {},
        "operations": {},
        "components": {},
    }


# Endpoints


def test_addresses_and_their_parameters(kitchen: Mapping[str, Any]) -> None:
    channels = kitchen["channels"]
    endpoints = {key: one["address"] for key, one in channels.items() if one["x-hubbub"]["kind"] == "endpoint"}
    assert endpoints == {
        "news": "/news",
        "files": "/files/{name}",
        "both": "/both",
        "plain": "/plain",
        "no_hub": "/no-hub/{thing}",
        "opaque": "/opaque",
        "secured": "/secured",
        "draw": "/v1/draw/{board}/{layer}",
        "draw_2": "/draw/{board}/{layer}",
        "draw_below": "/below/{tenant}/draw/{board}",
    }
    assert channels["files"]["x-hubbub"]["slashes"] == ["name"]
    assert channels["draw"]["parameters"]["board"]["description"] == "Which board"
    assert channels["draw"]["parameters"]["layer"]["x-schema"]["type"] == "integer"
    assert channels["draw_below"]["parameters"]["board"]["x-schema"]["format"] == "uuid"
    assert channels["draw_below"]["parameters"]["tenant"]["x-schema"]["type"] == "string"


def test_query_headers_and_cookies_of_all_dependencies(kitchen: Mapping[str, Any]) -> None:
    draw = kitchen["channels"]["draw"]
    binding = draw["bindings"]["ws"]
    assert [*binding["query"]["properties"]] == ["since", "colours", "max"]
    assert binding["query"]["properties"]["since"]["description"] == "The oldest that counts"
    assert binding["query"]["properties"]["max"]["maximum"] == 100
    assert [*binding["headers"]["properties"]] == ["user-agent", "x-trace"]
    assert draw["x-hubbub"]["cookies"]["properties"]["lang"]["default"] == "en"


def test_a_required_parameter_is_required() -> None:
    hub = Hub()
    app = FastAPI()

    @app.websocket("/talk")
    async def talk(connection: Annotated[Connection, Depends(hub)], name: str, age: int = 0) -> None: ...

    query = document_of(app, hub)["channels"]["talk"]["bindings"]["ws"]["query"]
    assert query["required"] == ["name"]
    assert [*query["properties"]] == ["name", "age"]


def test_endpoints_may_have_the_same_parameters() -> None:
    hub = Hub()
    app = FastAPI()

    async def talk(connection: Annotated[Connection, Depends(hub)], room: str, name: str) -> None: ...

    for number in range(3):
        app.websocket(f"/{number}/{{room}}")(talk)
    described = document_of(app, hub)
    bindings = [channel["bindings"]["ws"]["query"] for channel in described["channels"].values()]
    assert [[*query["properties"]] for query in bindings] == [["name"]] * 3
    assert "schemas" not in described["components"]


def test_parameters_are_those_that_the_server_takes() -> None:
    class Filters(BaseModel):
        least: Annotated[int, Field(validation_alias=AliasChoices("min", "least"))]

    class Point(BaseModel):
        x: int

    def token(token: int) -> None: ...

    hub = Hub()
    app = FastAPI()

    @app.websocket("/talk/{number:int}")
    async def talk(
        connection: Annotated[Connection, Depends(hub)],
        point: Annotated[Json[Point], Query()],
        asked: Annotated[None, Depends(token)],
        filters: Annotated[Filters | None, Query()] = None,
        token: str | None = None,
    ) -> None: ...

    channel = document_of(app, hub)["channels"]["talk"]
    query = channel["bindings"]["ws"]["query"]
    assert set(query["properties"]) == {"point", "token", "min"}
    assert query["properties"]["point"]["type"] == "string"
    assert set(query["required"]) == {"point", "token"}
    assert channel["parameters"]["number"]["x-schema"] == {"type": "integer", "minimum": 0}


def test_an_application_may_be_mounted_in_itself() -> None:
    hub = Hub()
    app = FastAPI()

    @app.websocket("/talk")
    async def talk(connection: Annotated[Connection, Depends(hub)]) -> None: ...

    app.mount("/again", app)
    assert [one["address"] for one in document_of(app, hub)["channels"].values()] == ["/talk", "/again/talk"]


def test_what_is_served_for_another_host_is_left_out() -> None:
    hub = Hub()
    app, sub = FastAPI(), FastAPI()

    @sub.websocket("/talk")
    async def talk(connection: Annotated[Connection, Depends(hub)]) -> None: ...

    app.host("api.example.org", sub)
    assert document_of(app, hub)["channels"] == {}


def test_words_come_from_the_docstring(kitchen: Mapping[str, Any]) -> None:
    draw = kitchen["channels"]["draw"]
    assert (draw["title"], draw["summary"], draw["description"]) == ("Draw", "Draw on a board.", "Everybody sees it.")


def test_tags_come_from_the_routers(kitchen: Mapping[str, Any]) -> None:
    tags = {key: [tag["name"] for tag in one.get("tags", ())] for key, one in kitchen["channels"].items()}
    assert (tags["draw"], tags["draw_2"], tags["plain"]) == (["drawing", "v1", "red"], ["drawing"], [])


def test_a_router_that_is_not_in_the_schema_is_not_here_either(kitchen: Mapping[str, Any]) -> None:
    assert "/secret" not in {one["address"] for one in kitchen["channels"].values()}


def test_the_settings_of_an_endpoint_go_before_those_of_the_hub() -> None:
    hub = Hub(limits=Limits(connections=50, idle_s=5), outbox=Outbox(bytes=1_000))
    app = FastAPI()
    own = hub.connection(limits=Limits(connections=100, connections_per_user=3), outbox=Outbox(policy="latest"))

    @app.websocket("/talk")
    async def talk(connection: Annotated[Connection, Depends(hub)], _: Annotated[Connection, Depends(own)]) -> None: ...

    told = document_of(app, hub)["channels"]["talk"]["x-hubbub"]
    assert "idle_s" not in told["limits"]
    assert told["outbox"]["policy"] == "latest"
    counted = [(one["limit"], one["description"].partition(" already")[0]) for one in told["refusals"][1:-1]]
    assert counted == [
        ("connections", "There are 50 connections in all"),
        ("connections", "There are 100 connections here"),
        ("connections_per_user", "This user has 3 connections here"),
        ("connections_per_address", "This address has 1000 connections in all"),
        ("connections_per_address", "This address has 1000 connections here"),
    ]


def test_open_files_are_a_limit_too() -> None:
    told = one_endpoint(Connection)["channels"]["talk"]["x-hubbub"]
    assert (503, "connections") in {(one["status"], one.get("limit")) for one in told["refusals"]}


def test_security(kitchen: Mapping[str, Any]) -> None:
    schemes = kitchen["components"]["securitySchemes"]
    assert schemes["APIKeyQuery"] == {"type": "httpApiKey", "in": "query", "name": "token"}
    assert schemes["HTTPBearer"] == {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    assert schemes["OAuth2PasswordBearer"]["scheme"] == "bearer"
    scheme, key = kitchen["operations"]["draw.receive"]["security"]
    assert scheme["scopes"] == ["draw"]
    assert key == {"$ref": "#/components/securitySchemes/APIKeyQuery"}
    assert len(kitchen["operations"]["secured.send"]["security"]) == 6


def test_schemes_of_one_name_are_told_apart() -> None:
    hub = Hub()
    app = FastAPI()
    first, second = APIKeyQuery(name="first"), APIKeyQuery(name="second")
    odd = APIKeyHeader(name="X-Key", scheme_name="Log in/out")

    @app.websocket("/talk")
    async def talk(
        connection: Annotated[Connection, Depends(hub)],
        one: Annotated[str, Depends(first)],
        two: Annotated[str, Depends(second)],
        again: Annotated[str, Depends(APIKeyQuery(name="first"))],
        three: Annotated[str, Depends(odd)],
    ) -> None: ...

    described = document_of(app, hub)
    assert asyncapi_diagnostics([described]) == [[]]
    names = {key: scheme["name"] for key, scheme in described["components"]["securitySchemes"].items()}
    assert names == {"APIKeyQuery": "first", "APIKeyQuery_2": "second", "Log_in_out": "X-Key"}
    assert len(described["operations"]["talk.send"]["security"]) == 3
    assert "first?: string" in typescript(described)


def test_the_families_of_all_hubs_that_endpoints_use_are_there() -> None:
    hub, other, third = Hub(), Hub(), Hub()
    app = FastAPI()
    other.channels("other:{name}")
    third.channels("third:{name}")

    @app.websocket("/talk")
    async def talk(connection: Annotated[Connection, Depends(other)]) -> None: ...

    assert [*document_of(app, hub)["channels"]] == ["talk", "other"]


def test_hubs_are_in_the_order_in_which_they_were_made() -> None:
    made = [Hub() for _ in range(50)]
    assert [hub for hub in hubs() if hub in made] == made


def test_a_parameter_may_stand_in_a_mount_and_in_a_path() -> None:
    hub = Hub()
    app, sub = FastAPI(), FastAPI()

    @sub.websocket("/{id:int}")
    async def talk(connection: Annotated[Connection, Depends(hub)]) -> None: ...

    app.mount("/of/{id}", sub)
    channel = document_of(app, hub)["channels"]["talk"]
    assert channel["address"] == "/of/{id}/{id}"
    assert channel["parameters"]["id"]["x-schema"]["type"] == "integer"


def test_the_docstring_of_a_partial_is_that_of_its_function() -> None:
    hub = Hub()
    app = FastAPI()

    async def talk(connection: Annotated[Connection, Depends(hub)], name: str) -> None:
        """Talk about something."""

    app.websocket("/talk")(partial(talk, name="tea"))
    (channel,) = document_of(app, hub)["channels"].values()
    assert channel["summary"] == "Talk about something."


# Channels


def test_a_family_says_what_it_remembers_and_what_is_published(kitchen: Mapping[str, Any]) -> None:
    room = kitchen["channels"]["room"]
    assert room["address"] == "room:{room}:{side}"
    assert room["x-hubbub"]["history"]["size"] == 10
    assert room["x-hubbub"]["presence"]["grace_s"] == 2
    assert names(kitchen, "room", "receive") == ["Draw-Input"]
    assert names(kitchen, "room", "send") == ["Done", "Draw-Output"]
    assert room["parameters"]["room"]["x-schema"]["pattern"] == "^[a-z]+$"
    assert room["parameters"]["side"]["x-schema"]["type"] == "integer"


def test_a_text_that_is_published_is_a_text(kitchen: Mapping[str, Any]) -> None:
    assert (names(kitchen, "alert", "receive"), names(kitchen, "alert", "send")) == (["string"], ["string"])
    message = kitchen["components"]["messages"]["string"]
    assert (message["contentType"], message["payload"]["maxLength"]) == ("text/plain", 10)


def test_what_a_handler_returns_may_not_be_there_at_run_time() -> None:
    hub = Hub()
    rooms = hub.channels("room:{room}")

    async def say(peer: Peer, message: Wave) -> Any: ...

    say.__annotations__["return"] = "Nowhere"
    rooms.on_publish(say)
    described = document_of(FastAPI(), hub)
    (problem,) = problems_of(described)
    assert problem.startswith("room: what on_publish returns cannot be looked up: ")
    assert (names(described, "room", "receive"), names(described, "room", "send")) == (["Wave"], ["any"])


Recursive = TypeAliasType("Recursive", "dict[str, Recursive] | list[Recursive] | str | None")


class Sort(Enum):
    GREEN = "green"


class Size(StrEnum):
    LARGE = "large"


@pytest.mark.parametrize(
    ("declared", "value", "content_type"),
    [
        (Annotated[str, Field(max_length=9)], "ready", "text/plain"),
        (Literal["ready", "steady"], "ready", "text/plain"),
        (Size, Size.LARGE, "text/plain"),
        (Sort, Sort.GREEN, "application/json"),
        (date, date(2026, 1, 2), "application/json"),
        (Literal[1, 2], 1, "application/json"),
        (bytes, b"\0", "application/octet-stream"),
        (Wave, Wave(type="wave"), "application/json"),
    ],
)
def test_the_document_says_how_the_hub_sends(declared: Any, value: Any, content_type: str) -> None:
    described = one_endpoint(Connection[Wave, declared])  # type: ignore[valid-type]
    name = names(described, "talk", "send")[0]
    assert described["components"]["messages"][name]["contentType"] == content_type
    sent = prepare(value).data
    is_json = isinstance(sent, str) and sent != value
    assert is_json is (content_type == "application/json")


def test_texts_and_numbers_of_a_literal_are_sent_in_two_ways() -> None:
    described = one_endpoint(Connection[Wave, Literal["ready", 1]])
    messages = [described["components"]["messages"][name] for name in names(described, "talk", "send")[:2]]
    kinds = [(one["contentType"], one["payload"].get("const")) for one in messages]
    assert kinds == [("text/plain", "ready"), ("application/json", 1)]


def test_a_family_without_handlers_has_no_messages(kitchen: Mapping[str, Any]) -> None:
    frames = kitchen["channels"]["frames"]
    assert frames["x-hubbub"] == {"kind": "channel", "policy": "latest"}
    assert "messages" not in frames
    assert "frames.send" not in kitchen["operations"]
