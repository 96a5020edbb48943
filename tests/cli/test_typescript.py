"""`hubbub types`: the file that comes out compiles, says what the document says, and its client does what it should."""

from __future__ import annotations

import copy
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hubbub.cli.typescript import typescript
from hubbub.fastapi.asyncapi.document import document as document_of
from hubbub.fastapi.hub import families
from tests.fastapi.asyncapi import kitchen_sink
from tests.node import minified_size, run_node, tsc

NODE = Path(run_node.__code__.co_filename).parent
SCENARIOS = NODE / "scenarios.mjs"
EXAMPLES = ("chat", "game", "notifications", "stream")
CLIENT_BYTES = 4_096

JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"

COMPILER = {
    "strict": True,
    "noEmit": True,
    "declaration": True,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2022", "dom"],
    "types": [],
    "allowImportingTsExtensions": True,
    "erasableSyntaxOnly": True,
    "exactOptionalPropertyTypes": True,
    "isolatedDeclarations": True,
    "isolatedModules": True,
    "noFallthroughCasesInSwitch": True,
    "noImplicitReturns": True,
    "noPropertyAccessFromIndexSignature": True,
    "noUncheckedIndexedAccess": True,
    "noUnusedLocals": True,
    "noUnusedParameters": True,
    "verbatimModuleSyntax": True,
}


class Document:
    """An AsyncAPI document, as it is written down piece by piece."""

    def __init__(self, title: str = "Test", **schemas: Any) -> None:
        self.schemas = schemas
        self._messages: dict[str, Any] = {}
        self._channels: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}
        self._security: dict[str, Any] = {}
        self._title = title

    def message(self, name: str, schema: Any = None, kind: str = JSON, x_hubbub: Any = None) -> str:
        """Add a message, of the schema of the same name if none is given."""
        payload = {"$ref": f"#/components/schemas/{name}"} if schema is None else schema
        self._messages[name] = {"name": name, "contentType": kind, "payload": payload}
        if x_hubbub is not None:
            self._messages[name]["x-hubbub"] = x_hubbub
        return name

    def endpoint(
        self,
        key: str,
        address: str,
        receives: tuple[str, ...] = (),
        sends: tuple[str, ...] = (),
        *,
        query: dict[str, Any] | None = None,
        required: tuple[str, ...] = (),
        kind: str = "endpoint",
        security: Any = None,
        **hub: Any,
    ) -> Document:
        """Add an endpoint; the application is who receives and sends."""
        names = re.findall(r"{(\w+)}", address)
        self._channels[key] = {
            "address": address,
            "parameters": {name: {"x-schema": {"type": "string"}} for name in names},
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (*receives, *sends)},
            "bindings": {"ws": {"query": {"type": "object", "properties": query or {}, "required": [*required]}}},
            "x-hubbub": {"kind": kind, **hub},
        }
        for action, messages in (("receive", receives), ("send", sends)):
            if messages:
                self._operations[f"{key}.{action}"] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{key}"},
                    "messages": [{"$ref": f"#/channels/{key}/messages/{name}"} for name in messages],
                    "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in security or {}],
                }
        self._security |= security or {}
        return self

    def of_channel(self, key: str) -> dict[str, Any]:
        """Return a channel to change it."""
        channel: dict[str, Any] = self._channels[key]
        return channel

    def text(self) -> str:
        """Return the file of TypeScript that comes out, and see that nothing of the document was changed."""
        written = {
            "asyncapi": "3.0.0",
            "info": {"title": self._title, "version": "1"},
            "defaultContentType": JSON,
            "channels": self._channels,
            "operations": self._operations,
            "components": {
                "messages": self._messages,
                "schemas": self.schemas,
                "securitySchemes": self._security,
            },
        }
        before = copy.deepcopy(written)
        text = typescript(written)
        assert written == before
        assert text == typescript(json.loads(json.dumps(written)))
        return text


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


def type_of(schema: Any, **schemas: Any) -> str:
    """Return the type that a schema becomes."""
    text = Document(Subject={"allOf": [schema]}, **schemas).text()
    found = re.search(r"^export type Subject = (.*);$", text, re.MULTILINE)
    assert found is not None, text
    return found[1]


def declaration(text: str, name: str) -> str:
    """Return one declaration with its comment, as it stands in a file."""
    found = re.search(rf"^(/\*\*(?:(?!\*/).)*\*/\n)?export (?:type|interface) {name}\b.*?^$", text, re.DOTALL | re.M)
    assert found is not None, f"no {name} in\n{text}"
    return found[0].strip()


# Types

STRING, NUMBER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, "unknown"),
        ({"description": "Anything", "title": "Any"}, "unknown"),
        (True, "unknown"),
        (False, "never"),
        (STRING, "string"),
        ({"type": "string", "format": "date-time"}, "string"),
        (NUMBER, "number"),
        ({"type": "number", "minimum": 0}, "number"),
        ({"type": "boolean"}, "boolean"),
        (NULL, "null"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"const": "a", "type": "string"}, '"a"'),
        ({"const": None}, "null"),
        ({"enum": ["a", 'say "b" | c', 3, 1.5, True, None]}, '"a" | "say \\"b\\" | c" | 3 | 1.5 | true | null'),
        ({"enum": ["\u2028", "*/"]}, '"\\u2028" | "*/"'),
        ({"const": ["a", {"b": 1}]}, '["a", { "b": 1 }]'),
        ({"anyOf": [STRING, NULL]}, "string | null"),
        ({"anyOf": [STRING, {"anyOf": [NUMBER, STRING]}]}, "string | number"),
        ({"anyOf": [STRING, {}]}, "unknown"),
        ({"oneOf": [{"$ref": "#/components/schemas/A"}, NULL]}, "A | null"),
        ({"$ref": "#/components/schemas/A", "description": "Which", "default": "x"}, "A"),
        ({"$ref": "#/components/schemas/Gone"}, "unknown"),
        ({"allOf": [{"$ref": "#/components/schemas/A"}, an_object(b=NUMBER)]}, "A & { b: number }"),
        ({"allOf": [{"$ref": "#/components/schemas/A"}], "description": "One"}, "A"),
        ({"allOf": [{"anyOf": [STRING, NUMBER]}, {}]}, "(string | number)"),
        ({"anyOf": [an_object(a=NUMBER), STRING], **an_object(b=NUMBER)}, "({ a: number } | string) & { b: number }"),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "items": {"anyOf": [STRING, NULL]}}, "(string | null)[]"),
        ({"type": "array", "items": {"type": "array", "items": STRING}}, "string[][]"),
        ({"type": "array", "items": {"enum": ["a | b"]}}, '"a | b"[]'),
        ({"type": "array", "items": an_object(a={"anyOf": [STRING, NULL]})}, "{ a: string | null }[]"),
        (
            {"type": "array", "prefixItems": [STRING, NUMBER], "minItems": 2, "maxItems": 2},
            "[string, number]",
        ),
        (
            {"type": "array", "prefixItems": [STRING, {"anyOf": [STRING, NULL]}], "minItems": 1, "maxItems": 2},
            "[string, (string | null)?]",
        ),
        ({"type": "array", "prefixItems": [STRING], "minItems": 1, "items": NUMBER}, "[string, ...number[]]"),
        ({"type": "array", "prefixItems": [STRING], "minItems": 1, "items": False}, "[string]"),
        ({"type": "object"}, "{ [key: string]: unknown }"),
        ({"type": "object", "additionalProperties": True}, "{ [key: string]: unknown }"),
        ({"type": "object", "additionalProperties": NUMBER}, "{ [key: string]: number }"),
        ({"type": "object", "additionalProperties": {"anyOf": [STRING, NULL]}}, "{ [key: string]: string | null }"),
        ({"type": "object", "patternProperties": {"^a": NUMBER, "^b": STRING}}, "{ [key: string]: number | string }"),
        ({"type": "object", "properties": {}}, "{ [key: string]: never }"),
        ({"type": "object", "additionalProperties": False}, "{ [key: string]: never }"),
        (
            {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": NUMBER},
            '{ [key in "a" | "b"]?: number }',
        ),
        (
            {
                "type": "object",
                "propertyNames": {"$ref": "#/components/schemas/Colour"},
                "additionalProperties": NUMBER,
            },
            "{ [key in Colour]?: number }",
        ),
        (
            {"type": "object", "propertyNames": {"minLength": 2}, "additionalProperties": NUMBER},
            "{ [key: string]: number }",
        ),
        ({"properties": {"a": NUMBER}}, "{ a?: number }"),
        ({**an_object(a=NUMBER), "additionalProperties": STRING}, "{ a: number; [key: string]: unknown }"),
        ({**an_object(a=NUMBER), "additionalProperties": False}, "{ a: number }"),
        ({"type": "any-new-kind"}, "unknown"),
    ],
)
def test_a_schema_becomes_a_type(schema: Any, expected: str) -> None:
    named = {"A": an_object(a=STRING), "Colour": {"enum": ["red", "blue"]}}
    assert type_of({"anyOf": [schema]} if isinstance(schema, bool) else schema, **named) == expected


def test_a_model_becomes_an_interface_with_what_is_said_of_it() -> None:
    text = Document(
        Say={
            "title": "Say",
            "description": "What somebody says.\n\nIt ends */ nothing.",
            "type": "object",
            "properties": {
                "type": {"const": "say", "default": "say", "type": "string"},
                "text": {"type": "string", "description": "The text", "default": "*/"},
                "at": {"type": "string", "format": "date-time", "deprecated": True, "readOnly": True},
                "a-b": {"anyOf": [NUMBER, NULL], "default": None},
                "class": {"$ref": "#/components/schemas/Say"},
                "__proto__": True,
            },
            "required": ["type", "class"],
            "deprecated": True,
        }
    ).text()
    assert declaration(text, "Say") == (
        "/**\n * What somebody says.\n *\n * It ends *\\/ nothing.\n * @deprecated\n */\n"
        "export interface Say {\n"
        '  type: "say";\n'
        '  /**\n   * The text\n   * @default "*\\/"\n   */\n'
        "  text?: string;\n"
        "  /**\n   * @deprecated\n   * @format date-time\n   */\n"
        "  readonly at?: string;\n"
        '  "a-b"?: number | null;\n'
        "  class: Say;\n"
        "  __proto__?: unknown;\n"
        "}"
    )


def test_every_type_has_a_valid_name_of_its_own() -> None:
    one = an_object(a=STRING)
    text = Document(
        **{
            "Enveloped_Said_": {**one, "title": "Envelope[Said]"},
            "Page_Point_-Input": {**one, "title": "Page[Point]"},
            "Page_Point_-Output": {**one, "title": "Page[Point]"},
            "EnvelopeSaid": one,
            "app__models__User": {**one, "title": "User"},
            "Draw-Input": {**one, "title": "Draw"},
            "string": one,
            "Promise": one,
            "HubbubStatus": one,
            "my_model": {**one, "title": "A friendly title"},
            "2fa": one,
            "-": one,
            "Error": one,
        }
    ).text()
    assert re.findall(r"^export interface (\w+)", text, re.MULTILINE) == [
        *("EnvelopeSaid2", "PagePointInput", "PagePointOutput", "EnvelopeSaid", "app__models__User", "DrawInput"),
        *("string2", "Promise2", "HubbubStatus2", "my_model", "_2fa", "_", "Error"),
    ]


# Endpoints


def a_chat() -> Document:
    """A document with an endpoint of every kind, which the scenarios of the client speak of."""
    document = Document(
        "Chat",
        Say=an_object(type={"const": "say"}, text=STRING),
        Whisper=an_object(type={"const": "whisper"}, to=STRING, text=STRING),
        Said=an_object(type={"const": "said"}, text=STRING),
        Left=an_object(type={"const": "left"}, name=STRING),
        Recovered=an_object(channel=STRING, epoch=STRING, offset=NUMBER, recovered={"type": "boolean"}),
        Enveloped_Said_={
            **an_object(channel=STRING, epoch=STRING, offset=NUMBER, data={"$ref": "#/components/schemas/Said"}),
            "title": "Envelope[Said]",
        },
    )
    for name in document.schemas:
        document.message(name)
    document.message("text", STRING, TEXT)
    document.message("binary", {"type": "string", "format": "binary"}, BINARY)
    document.message("InvalidMessage", an_object(type={"const": "error"}, code={"const": "invalid_message"}))
    optional = {"anyOf": [STRING, NULL]}
    return (
        document.endpoint(
            "chat",
            "/rooms/{room}",
            ("Say", "Whisper"),
            ("Said", "Left", "Enveloped_Said_", "Recovered", "InvalidMessage"),
            query={
                "name": {"type": "string", "description": "Who you are"},
                "since": optional,
                "tag": {"type": "array", "items": STRING},
                "quiet": {"type": "boolean"},
                "level": {"anyOf": [{"enum": [1, 2]}, NULL]},
            },
            required=("name",),
        )
        .endpoint("files", "/für/files/{path}", ("binary", "text"), ("binary", "text"), slashes=["path"])
        .endpoint("mixed", "/mixed", ("Say",), ("Said", "text"))
        .endpoint("feed", "/feed", ("text",), ("text",), query={"since": optional})
        .endpoint("room", "room:{room}", ("Say",), ("Said", "Left"), kind="channel")
    )


def call_in(text: str, name: str) -> str:
    """Return what a connect function is made with."""
    found = re.search(rf"^export function {name}\(.*?hubbubConnect\((.*?), parameters, options\)", text, re.S | re.M)
    assert found is not None, f"no {name} in\n{text}"
    return found[1]


def test_an_endpoint_has_types_and_a_function() -> None:
    text = a_chat().text()
    assert declaration(text, "ChatParameters") == (
        "/** The parameters of `/rooms/{room}`. */\n"
        "export interface ChatParameters {\n"
        "  room: string;\n"
        "  /** Who you are */\n"
        "  name: string;\n"
        "  since?: string | undefined;\n"
        "  tag?: string[] | undefined;\n"
        "  quiet?: boolean | undefined;\n"
        "  level?: 1 | 2 | undefined;\n"
        "}"
    )
    assert declaration(text, "ChatSend").endswith("export type ChatSend = Say | Whisper;")
    assert declaration(text, "ChatReceive").endswith(
        "export type ChatReceive = Said | Left | EnvelopeSaid | Recovered | InvalidMessage;"
    )
    assert declaration(text, "InvalidMessage").startswith("export interface InvalidMessage {")
    assert (
        "export function connectChat(\n"
        "  parameters: HubbubParameters<ChatParameters>,\n"
        "  options: HubbubOptions<ChatReceive> = {},\n"
        "): HubbubConnection<ChatSend> {\n"
    ) in text
    assert call_in(text, "connectChat") == (
        '{ address: "/rooms/{room}", resumes: true, sends: "json", receives: "json" }'
    )


def test_texts_and_bytes_are_left_as_they_are() -> None:
    text = a_chat().text()
    assert declaration(text, "FilesSend").endswith("= ArrayBuffer | Uint8Array | string;")
    assert declaration(text, "FilesReceive").endswith("= ArrayBuffer | string;")
    assert call_in(text, "connectFiles") == (
        '{ address: "/f%C3%BCr/files/{path}", slashes: ["path"], sends: "data", receives: "data" }'
    )
    assert call_in(text, "connectMixed") == '{ address: "/mixed", sends: "json", receives: "objects" }'
    assert declaration(text, "FeedSend").endswith("= string;")
    assert "  parameters: HubbubParameters<FeedParameters> = {},\n" in text


@pytest.mark.parametrize(
    ("messages", "receives", "type_"),
    [
        ([(NUMBER, JSON), (an_object(a=STRING), JSON)], "json", "number | m1"),
        ([({"enum": ["ready", "steady"]}, TEXT)], "data", '"ready" | "steady"'),  # send("ready") is the text itself
        ([({"enum": ["red", "blue"]}, JSON)], "json", '"red" | "blue"'),  # an Enum is JSON, with quotes around it
        ([({"enum": ["ready"]}, TEXT), (NUMBER, JSON)], "either", '"ready" | number'),
        ([(STRING, TEXT), (an_object(a=STRING), JSON)], "objects", "string | m1"),  # 1 is a text too, then
        ([({}, JSON)], "either", "unknown"),
        ([({"$ref": "#/components/schemas/Word"}, JSON)], "json", "Word"),
        ([], "data", "unknown"),
    ],
)
def test_how_texts_are_read_is_told_by_how_they_are_sent(
    messages: list[tuple[Any, str]], receives: str, type_: str
) -> None:
    document = Document(Word=STRING)
    names = tuple(document.message(f"m{number}", *message) for number, message in enumerate(messages))
    text = document.endpoint("it", "/it", (), names).text()
    assert f'receives: "{receives}"' in call_in(text, "connectIt")
    assert declaration(text, "ItReceive").endswith(f"= {type_};")


def test_a_message_without_a_schema_does_not_spoil_the_others() -> None:
    document = Document(Word=an_object(a=STRING))
    opaque = document.message("Opaque", {}, x_hubbub={"problem": "Opaque has no JSON Schema"})
    text = document.endpoint("it", "/it", (opaque,), (document.message("Word"), opaque)).text()
    assert declaration(text, "ItReceive").endswith("export type ItReceive = Word;")
    assert "Without `Opaque`, which cannot be described." in declaration(text, "ItReceive")
    assert declaration(text, "ItSend").endswith("export type ItSend = unknown;")


def test_only_a_text_can_be_a_position() -> None:
    text = Document().endpoint("it", "/it", query={"since": {"anyOf": [NUMBER, NULL]}}).text()
    assert "resumes" not in call_in(text, "connectIt")


def test_a_channel_has_types_and_no_function() -> None:
    text = a_chat().text()
    assert declaration(text, "RoomChannel") == (
        "/** What is heard in the channel `room:{room}`. */\nexport type RoomChannel = Said | Left;"
    )
    assert declaration(text, "RoomChannelPublish").endswith("export type RoomChannelPublish = Say;")
    assert "connectRoom" not in text
    assert "Silent" not in Document().endpoint("silent", "silent", kind="channel").text()


def test_a_key_in_the_query_is_a_parameter() -> None:
    document = Document()
    document.message("text", STRING, TEXT)
    key = {"type": "httpApiKey", "in": "query", "name": "api-key"}
    header = {"type": "httpApiKey", "in": "header", "name": "X-Key"}
    text = document.endpoint("it", "/it", ("text",), ("text",), security={"A": key, "B": header}).text()
    assert declaration(text, "ItParameters").endswith('{\n  "api-key"?: string | undefined;\n}')


def test_parameters_are_numbers_where_the_path_takes_numbers() -> None:
    document = Document().endpoint("it", "/it/{number}/{anything}", query={"any": {}})
    document.of_channel("it")["parameters"] = {
        "number": {"description": "Which", "x-schema": {"type": "integer"}},
        "anything": {"x-schema": {}},
    }
    assert declaration(document.text(), "ItParameters").partition("{\n")[2] == (
        "  /** Which */\n"
        "  number: number;\n"
        "  anything: string | number | boolean;\n"
        "  any?: string | number | boolean | undefined;\n"
        "}"
    )


def test_endpoints_of_one_name_and_those_that_types_are_named_like() -> None:
    document = Document(ChatSend=STRING).endpoint("chat", "/1").endpoint("Chat", "/2").endpoint("rooms.chat-2", "/3")
    assert re.findall(r"^export function (\w+)", document.text(), re.MULTILINE) == [
        "connectChat2",
        "connectChat3",
        "connectRoomsChat2",
    ]


def test_the_head_names_the_application_and_nothing_that_changes() -> None:
    assert Document("A\nB").text().startswith("// Generated by `hubbub types` for A B: do not edit.\n")


def test_a_document_without_endpoints_has_no_client() -> None:
    text = Document(A=STRING).endpoint("room", "room", kind="channel").text()
    assert "hubbubConnect" not in text
    assert "export type A = string;" in text


def test_what_an_endpoint_says_of_itself_is_said_of_its_function() -> None:
    document = Document().endpoint("it", "/it")
    document.of_channel("it").update(summary="What it does.", description="What it does.")
    assert "/**\n * Connect to `/it`.\n *\n * What it does.\n */\nexport function connectIt(" in document.text()


# What the compiler says

RIGHT = """
import { connectChat, connectFeed, connectFiles, type ChatReceive, type ChatSend } from "./chat.ts";

const said: string[] = [];
const connection = connectChat(
  { room: "lobby", name: "Ada", tag: ["a"], level: 2, since: undefined },
  {
    url: "/app",
    onMessage(message) {
      if ("epoch" in message) {
        if ("recovered" in message) said.push(String(message.recovered));
        else said.push(message.data.text);
        return;
      }
      switch (message.type) {
        case "said":
          said.push(message.text);
          break;
        case "left":
          said.push(message.name);
          break;
        case "error":
          said.push(message.code);
          break;
        default:
          message satisfies never;
      }
    },
    onStatus(status) {
      if (status.state === "waiting") said.push(`${status.code} ${status.reason} ${status.delayMs}`);
    },
    reconnect: ({ code, attempts }, byDefault) => byDefault && code !== 1013 && attempts < 10,
    WebSocket,
  },
);
const message: ChatSend = { type: "whisper", to: "Bob", text: "Hello" };
const sent: boolean = connection.send(message);
const at: string | undefined = connection.positions.get("room:lobby");
connection.close(1000, String([sent, at, said]));

connectChat((positions) => ({ room: "a", name: "b", since: [...positions.values()].join() }));
connectChat(async () => ({ room: "a", name: await Promise.resolve("a fresh ticket") }));
connectFeed().send("text");
connectFeed({}, { onMessage: (text) => said.push(text) });
connectFiles({ path: "a/b" }, { onMessage: (data) => said.push(typeof data === "string" ? data : "bytes") });
connectFiles({ path: "a/b" }).send(new Uint8Array(2));
export type Heard = Extract<ChatReceive, { type: "said" }>["text"];
"""

WRONG = """
import { connectChat, connectFeed, connectFiles } from "./chat.ts";

const connection = connectChat({ room: "a", name: "b" });
// @ts-expect-error: a type that there is not
connection.send({ type: "shout", text: "x" });
// @ts-expect-error: a field is missing
connection.send({ type: "whisper", text: "x" });
// @ts-expect-error: a field is of the wrong type
connection.send({ type: "say", text: 1 });
// @ts-expect-error: a field that there is not
connection.send({ type: "say", text: "x", txet: "x" });
// @ts-expect-error: what the server sends
connection.send({ type: "said", text: "x" });
// @ts-expect-error: what is JSON already
connection.send('{"type":"say","text":"x"}');
// @ts-expect-error: a parameter is missing
connectChat({ room: "a" });
// @ts-expect-error: a parameter is misspelt
connectChat({ room: "a", nmae: "b" });
// @ts-expect-error: a parameter that need not be given is misspelt
connectChat({ room: "a", name: "b", sinse: "e:1" });
// @ts-expect-error: a parameter is of the wrong type
connectChat({ room: "a", name: "b", level: 3 });
// @ts-expect-error: a parameter of the function is missing
connectChat(() => ({ room: "a" }));
// @ts-expect-error: there are no parameters at all
connectChat();
// @ts-expect-error: an option that there is not
connectChat({ room: "a", name: "b" }, { onmessage: () => {} });
// @ts-expect-error: no message has this
connectChat({ room: "a", name: "b" }, { onMessage: (message) => message.nothing });
// @ts-expect-error: not every message has this
connectChat({ room: "a", name: "b" }, { onMessage: (message) => message.text });
connectChat({ room: "a", name: "b" }, { onMessage: (message) => {
  if ("type" in message && message.type === "left") {
    // @ts-expect-error: this message does not have it
    message.text;
  }
} });
// @ts-expect-error: a state that there is not
connectChat({ room: "a", name: "b" }, { onStatus: (status) => status.state === "lost" });
// @ts-expect-error: this endpoint takes text
connectFeed().send({ type: "say", text: "x" });
// @ts-expect-error: this one takes no such parameter
connectFeed({ name: "b" });
// @ts-expect-error: a position of the wrong type
connectFeed({ since: 3 });
// @ts-expect-error: a number is neither text nor bytes
connectFiles({ path: "a" }).send(1);
// @ts-expect-error: it is read only
connection.positions.set("room:a", "e:1");
"""

RECURSIVE = {
    "Tree": an_object(children={"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}),
    "Json": {
        "anyOf": [
            STRING,
            {"type": "array", "items": {"$ref": "#/components/schemas/Json"}},
            {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Json"}},
        ]
    },
    "Pair": {
        "type": "array",
        "prefixItems": [STRING, {"anyOf": [{"$ref": "#/components/schemas/Pair"}, NULL]}],
        "minItems": 2,
        "maxItems": 2,
    },
    "Open": {
        "type": "object",
        "additionalProperties": STRING,
        "properties": {"a": NUMBER, "b": {"type": "array", "items": False}},
    },
}


def names_like_the_clients() -> Document:
    """A document whose schemas are called like everything that stands in the client."""
    client = typescript(
        {"info": {"title": "x"}, "channels": {"x": {"address": "/x", "x-hubbub": {"kind": "endpoint"}}}}
    )
    words = dict.fromkeys(re.findall(r"\b[A-Za-z_]\w*", re.sub(r"//.*|/\*.*?\*/", "", client, flags=re.DOTALL)))
    document = Document(**{word: an_object(a=STRING) for word in words})
    return document.endpoint("x", "/x", (document.message("Promise"),), (document.message("Error"),))


def document_of_example(name: str) -> dict[str, Any]:
    module = importlib.import_module(f"examples.{name}.app")
    return document_of(module.app, families(module.hub))


def document_of_kitchen_sink() -> dict[str, Any]:
    hubs = (kitchen_sink.hub, kitchen_sink.other_hub)
    return document_of(kitchen_sink.app, [family for hub in hubs for family in families(hub)])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the compiler says of each file, by its name; it is asked once."""
    directory = tmp_path_factory.mktemp("typescript")
    texts = {
        **{name: typescript(document_of_example(name)) for name in EXAMPLES if name != "chat"},
        "example_chat": typescript(document_of_example("chat")),
        "kitchen_sink": typescript(document_of_kitchen_sink()),
        "recursive": Document(**RECURSIVE).text(),
        "names": names_like_the_clients().text(),
        "empty": Document().text() + "export {};\n",
        "chat": a_chat().text(),
        "right": RIGHT,
        "wrong": WRONG,
        "faulty": 'import { connectFeed } from "./chat.ts";\nconnectFeed(1);\n',
    }
    for name, text in texts.items():
        (directory / f"{name}.ts").write_text(text, encoding="utf-8")
    (directory / "tsconfig.json").write_text(json.dumps({"compilerOptions": COMPILER, "include": ["*.ts"]}))
    found: dict[str, list[str]] = {name: [] for name in texts}
    for line in tsc(directory):
        found.setdefault(Path(line.partition("(")[0]).stem, []).append(line)
    return found


@pytest.mark.parametrize(
    "name",
    ["example_chat", "game", "notifications", "stream", "kitchen_sink", "recursive", "names", "empty", "chat"],
)
def test_the_compiler_takes_it(compiled: dict[str, list[str]], name: str) -> None:
    assert compiled[name] == []


def test_the_compiler_finds_faults(compiled: dict[str, list[str]]) -> None:
    assert "TS2559" in compiled["faulty"][0] or "TS2345" in compiled["faulty"][0]
    assert set(compiled) - {"faulty"} == {name for name, lines in compiled.items() if not lines}


def test_what_is_right_compiles(compiled: dict[str, list[str]]) -> None:
    assert compiled["right"] == []


def test_what_is_wrong_does_not(compiled: dict[str, list[str]]) -> None:
    assert compiled["wrong"] == []  # each of its faults stands below a line that expects it


# What the client does


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("client") / "chat.ts"
    path.write_text(a_chat().text(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def outcomes(chat: Path) -> dict[str, str | None]:
    found: dict[str, str | None] = json.loads(run_node(SCENARIOS, str(chat)))
    return found


@pytest.mark.parametrize("scenario", re.findall(r'^  async "(.*)"\(\)', SCENARIOS.read_text("utf-8"), re.MULTILINE))
def test_the_client(outcomes: dict[str, str | None], scenario: str) -> None:
    assert outcomes[scenario] is None, outcomes[scenario]


def test_the_client_is_small(chat: Path) -> None:
    assert minified_size(chat) < CLIENT_BYTES
