"""The types of what a client gets in an envelope, against what it does get."""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from pydantic import BaseModel, TypeAdapter, ValidationError

from hubbub import Connection, Envelope, History, Hub, Position
from hubbub.fastapi.envelope import Enveloped, Recovered
from hubbub.hub.message import Form, Message, lost, place
from hubbub.testing import Client

HERE = Position("e1", 7)


class Said(BaseModel):
    text: str


class Left(BaseModel):
    user: str


class Roster(BaseModel):
    users: list[str]


def sent(message: object, position: Position | None = HERE) -> Any:
    return Message.of(message).form(Form.ENVELOPE, "room", position).data


@pytest.mark.parametrize("message", [{"text": "Tea?"}, {"user": "ada"}])
def test_what_is_sent_is_of_the_type(message: dict[str, str]) -> None:
    found: Any = TypeAdapter(Envelope[Said | Left]).validate_json(sent(message))
    assert found == {"channel": "room", "epoch": "e1", "offset": 7, "data": found["data"]}
    assert found["data"].model_dump() == message


def test_what_is_binary_says_so() -> None:
    found: Any = TypeAdapter(Envelope[str]).validate_json(sent(b"\0"))
    assert (found["data"], found["encoding"]) == ("AA==", "base64")
    assert "encoding" not in TypeAdapter(Envelope[str]).validate_json(sent("AA=="))


@pytest.mark.parametrize(
    "frame", [place("room", HERE, True), place("room", HERE, False), lost(Form.ENVELOPE, "room", HERE)]
)
def test_where_a_client_is_is_of_the_type(frame: Any) -> None:
    found = TypeAdapter(Envelope[Said]).validate_json(frame.data)
    assert found == TypeAdapter(Recovered).validate_json(frame.data)
    assert found == {"channel": "room", "epoch": "e1", "offset": 7, "recovered": found["recovered"]}


@pytest.mark.parametrize("message", [sent({"txt": ""}), sent({"text": ""}, None), '{"recovered": true}'])
def test_anything_else_is_not(message: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Envelope[Said]).validate_json(message)


def schema_of(annotation: Any) -> dict[str, Any]:
    adapter = TypeAdapter(annotation)
    schema = adapter.json_schema()
    assert schema == adapter.json_schema(mode="serialization")
    return schema


def test_the_schema_says_what_each_field_is() -> None:
    schema = schema_of(Envelope[Said | Left])
    names = [member["$ref"].rpartition("/")[2] for member in schema["anyOf"]]
    members = [schema["$defs"][name] for name in names]
    assert [member["title"] for member in members] == ["Enveloped", "Recovered"]
    for member in members:
        assert member["description"]
        assert all(field["description"] for field in member["properties"].values())
    publication, recovered = members
    assert publication["required"] == ["channel", "epoch", "offset", "data"]
    assert recovered["required"] == ["channel", "epoch", "offset", "recovered"]
    assert publication["properties"].keys() - {*publication["required"]} == {"encoding"}
    assert publication["properties"]["data"]["anyOf"] == [{"$ref": "#/$defs/Said"}, {"$ref": "#/$defs/Left"}]


def test_each_publication_can_be_described_alone() -> None:
    assert schema_of(Enveloped[Said])["properties"]["data"]["$ref"] == "#/$defs/Said"
    keys = [(number, "validation", TypeAdapter(Enveloped[each])) for number, each in enumerate((Said, Left))]
    _, shared = TypeAdapter.json_schemas(keys)  # type: ignore[arg-type]
    assert shared["$defs"].keys() == {"Enveloped_Said_", "Enveloped_Left_", "Said", "Left"}


@pytest.mark.parametrize("outgoing", [Roster | Envelope[Said], Envelope[Said] | Roster])
async def test_a_connection_can_declare_it_beside_what_it_sends(outgoing: Any) -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan, debug=True)
    rooms = hub.channels("room:{room}", history=History())

    async def hear(connection: Any) -> None:
        await connection.join(rooms(room=1), envelope=True)
        await connection.send(Roster(users=["ada"]))
        await connection.send({"users": ["bob"]})
        with pytest.raises(TypeError, match="not what"):
            await connection.send({"user": "ada"})
        await rooms(room=1).publish(Said(text="Tea?"))
        await connection.close(4000)

    hear.__annotations__["connection"] = Annotated[Connection[Said, outgoing], Depends(hub)]
    app.websocket("/ws")(hear)
    adapter: TypeAdapter[Any] = TypeAdapter(outgoing)
    async with Client(app) as client, client.connect("/ws") as ada:
        messages = [adapter.validate_json(await ada.receive()) for _ in range(4)]
        await ada.assert_closed(4000)
    assert messages[1:3] == [Roster(users=["ada"]), Roster(users=["bob"])]
    assert [messages[0]["recovered"], messages[3]["data"]] == [True, Said(text="Tea?")]
