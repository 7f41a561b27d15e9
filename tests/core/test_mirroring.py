"""`x-mcp-header`: which annotations are valid, and what headers a call carries (T-30 to T-37)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio import jsonrpc, mirroring
from mcp_stdio.errors import Unsendable
from mcp_stdio.jsonrpc import Message
from mcp_stdio.mirroring import Catalogue, InvalidAnnotation, Mirror

REGION = {"type": "string", "x-mcp-header": "Region"}


def schema_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def tool_with(schema: Any, name: str = "deploy") -> dict[str, Any]:
    return {"name": name, "inputSchema": schema}


def call(arguments: str, name: str = "deploy", method: str = "tools/call") -> Message:
    """A call whose arguments are spelled as given."""
    body = f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"{name}"'
    return jsonrpc.parse(f'{body},"arguments":{arguments}}}}}'.encode())


def catalogue_of(*tools: dict[str, Any]) -> Catalogue:
    catalogue = Catalogue(is_active=True)
    assert [catalogue.learn(tool) for tool in tools] == [None for _ in tools]
    return catalogue


# T-31: what is valid


def test_parameters_are_found_along_properties() -> None:
    schema = schema_of(
        region=REGION,
        plain={"type": "string"},
        place=schema_of(
            zone={"type": "integer", "x-mcp-header": "zone.1"},
            inner={"properties": {"": {"type": "boolean", "x-mcp-header": "!#$%&'*+-.^_`|~"}}},
        ),
    )
    assert mirroring.mirrors_of(tool_with(schema)) == (
        Mirror(("region",), "Mcp-Param-Region"),
        Mirror(("place", "zone"), "Mcp-Param-zone.1"),
        Mirror(("place", "inner", ""), "Mcp-Param-!#$%&'*+-.^_`|~"),
    )


UNANNOTATED: list[Any] = [
    *(None, True, [], "x", {}, {"properties": [REGION]}),
    schema_of(**{"x-mcp-header": {"type": "number"}}),  # a name
    schema_of(a=True, b=None, c=[REGION]),
    *(schema_of(a={word: REGION}) for word in ("default", "const", "x-unknown", "$comment")),
    *(schema_of(a={word: schema_of(b=REGION)}) for word in ("default", "const", "x-unknown")),
    *(schema_of(a={word: [REGION]}) for word in ("enum", "examples")),
    schema_of(a={"$ref": "#/components/a"}) | {"components": {"a": REGION}},
    {"dependencies": {"a": ["x-mcp-header"]}},
]


@pytest.mark.parametrize("schema", UNANNOTATED)
def test_what_is_no_annotation_is_ignored(schema: Any) -> None:
    tool = tool_with(schema) | {"outputSchema": REGION, "x-mcp-header": "A"}
    assert mirroring.mirrors_of(tool) == ()
    assert mirroring.mirrors_of({"name": "deploy"}) == ()


ODD_NAMES: list[Any] = [
    *("", " ", "a b", "a:b", "é", "a\r\nb", "Region\n", "(x)", "x/y"),
    *(None, 5, True, {}),
]


@pytest.mark.parametrize("annotation", ODD_NAMES)
def test_a_name_that_no_header_may_have_is_invalid(annotation: Any) -> None:
    schema = schema_of(a={"type": "string", "x-mcp-header": annotation})
    with pytest.raises(InvalidAnnotation, match=r"`x-mcp-header` of `a` is no name for a header"):
        mirroring.mirrors_of(tool_with(schema))


@pytest.mark.parametrize(
    "typed, fault",
    [
        *(({"type": name}, f"of the type `{name}`") for name in ("number", "object", "array")),
        ({"type": "null"}, "of the type `null`"),
        ({"type": "String"}, "of the type `String`"),
        #
        ({"type": ["string", "null"]}, "with a union of types"),
        ({"type": ["string"]}, "with a union of types"),
        ({"enum": ["a", "b"]}, "without a type"),
        ({"const": "a"}, "without a type"),
        ({"type": None}, "without a type"),
        ({"$ref": "#/$defs/a"}, "without a type"),
    ],
)
def test_only_three_types_may_be_mirrored(typed: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidAnnotation) as raised:
        mirroring.mirrors_of(tool_with(schema_of(a=typed | {"x-mcp-header": "A"})))
    assert str(raised.value).endswith(f"is on a parameter {fault}")


@pytest.mark.parametrize("second", ["Region", "REGION", "region"])
def test_two_parameters_cannot_have_one_header(second: str) -> None:
    other = {"type": "string", "x-mcp-header": second}
    for schema in (schema_of(a=REGION, b=other), schema_of(a=REGION, b=schema_of(c=other))):
        with pytest.raises(InvalidAnnotation, match="a second time"):
            mirroring.mirrors_of(tool_with(schema))


KEYWORDS = [
    *("items", "contains", "unevaluatedItems", "additionalProperties", "propertyNames"),
    *("unevaluatedProperties", "not", "if", "then", "else", "contentSchema", "additionalItems"),
]
LISTS = ["allOf", "anyOf", "oneOf", "prefixItems", "items"]
MAPS = ["patternProperties", "dependentSchemas", "$defs", "definitions", "dependencies"]
ELSEWHERE = [
    *(({word: "HERE"}) for word in KEYWORDS),
    *(({word: [{"type": "string"}, "HERE"]}) for word in LISTS),
    *(({word: {"a": "HERE"}}) for word in MAPS),
]


@pytest.mark.parametrize("around", ELSEWHERE)
def test_elsewhere_an_annotation_is_invalid(around: dict[str, Any]) -> None:
    def put(inner: dict[str, Any]) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(json.dumps(around).replace('"HERE"', json.dumps(inner)))
        return value

    # The last one: a chain of `properties` does not begin anew behind another keyword.
    for schema in (put(REGION), schema_of(a=put(REGION)), put(schema_of(a=REGION))):
        with pytest.raises(InvalidAnnotation, match="can belong to no parameter"):
            mirroring.mirrors_of(tool_with(schema))


def test_the_root_is_no_parameter() -> None:
    with pytest.raises(InvalidAnnotation, match="can belong to no parameter"):
        mirroring.mirrors_of(tool_with(schema_of(a=REGION) | REGION))


def nested(depth: int, word: str = "not") -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {word: schema}
    return schema


def test_what_is_remembered_of_a_tool_is_bounded() -> None:
    """A server must not fill our memory, and each of them is a header of every call."""

    def mirrored(count: int, header: str = "p", name: str = "q") -> dict[str, Any]:
        numbered = range(count)
        return schema_of(
            **{f"{name}{n}": {"type": "string", "x-mcp-header": f"{header}{n}"} for n in numbered}
        )

    most = mirroring.mirrors_of(tool_with(mirrored(mirroring.MAX_MIRRORS)))
    assert len(most) == mirroring.MAX_MIRRORS
    with pytest.raises(InvalidAnnotation, match="more than 100 parameters"):
        mirroring.mirrors_of(tool_with(mirrored(mirroring.MAX_MIRRORS + 1)))
    for long in (
        {"header": "x" * 997},
        {"name": "x" * 997},
        {"header": "x" * 499, "name": "y" * 499},
    ):
        assert mirroring.mirrors_of(tool_with(mirrored(1, **long)))
        with pytest.raises(InvalidAnnotation, match="too long names"):
            mirroring.mirrors_of(tool_with(mirrored(11, **long)))
    for name, is_known in ("x" * mirroring.MAX_NAMES, True), ("x" * 1001, False):
        catalogue = catalogue_of(tool_with(schema_of(a=REGION), name))
        assert bool(catalogue.headers(call('{"a":"x"}', name=name))) is is_known


def test_depth_and_number_are_bounded() -> None:
    assert mirroring.mirrors_of(tool_with(nested(mirroring.MAX_DEPTH))) == ()
    wide: dict[str, Any] = {"anyOf": [{}] * (mirroring.MAX_SCHEMAS - 1)}
    assert mirroring.mirrors_of(tool_with(wide)) == ()
    wide["anyOf"].append({})
    for schema in (nested(mirroring.MAX_DEPTH + 1), nested(100_000, "items"), wide):
        with pytest.raises(InvalidAnnotation, match="too large to be checked"):
            mirroring.mirrors_of(tool_with(schema))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(["string", "integer", "Region", 5, True, None, 2.5, 1e400, {}, "é", "\t"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["properties", "type", "x-mcp-header", "items", "allOf", "$defs", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=30,
)


@given(json_values, json_values)
def test_no_schema_and_no_arguments_are_too_odd(schema: Any, arguments: Any) -> None:
    try:
        mirrors = mirroring.mirrors_of(tool_with(schema))
    except InvalidAnnotation:
        return
    for header, value in mirroring.values(mirrors, arguments):
        assert header.startswith("Mcp-Param-")
        assert value.isascii()


# T-33: values


@pytest.mark.parametrize(
    "argument, value",
    [
        ('"us-west1"', "us-west1"),
        ('""', ""),
        ('" padded "', "=?base64?IHBhZGRlZCA=?="),
        ('"\\u00e9"', "=?base64?w6k=?="),
        ("true", "true"),
        ("false", "false"),
        ("42", "42"),
        ("-7", "-7"),
        ("0", "0"),
        ("-0", "0"),
        ("42.0", "42"),
        ("-0.0", "0"),
        ("1e3", "1000"),
        ("9007199254740993", "9007199254740993"),
        pytest.param("9" * 4000, "9" * 4000, id="long"),
        pytest.param("-" + "9" * 5000, "-" + "9" * 5000, id="longer than Python converts"),
        # The server rejects what is of another type.
        ("null", None),
        ("4.5", None),
        ("1e400", None),
        ("[]", None),
        ('["x"]', None),
        ("{}", None),
        ('{"region":"x"}', None),
    ],
)
@pytest.mark.parametrize("type", ["string", "integer", "boolean"])
def test_a_value_is_spelled_by_its_own_type(type: str, argument: str, value: str | None) -> None:
    # The declared type does not matter; what the server reads in the body does.
    catalogue = catalogue_of(tool_with(schema_of(a={"type": type, "x-mcp-header": "A"})))
    expected = () if value is None else (("Mcp-Param-A", value),)
    assert catalogue.headers(call(f'{{"a":{argument}}}')) == expected


@pytest.mark.parametrize(
    "arguments, value",
    [
        ('{"place":{"zone":"a"},"zone":"b"}', "a"),
        ('{"zone":"b"}', None),
        ('{"place":null}', None),
        ('{"place":"zone"}', None),
        ('{"place":[{"zone":"a"}]}', None),
        ('{"place.zone":"b"}', None),
        ("{}", None),
        ("null", None),
        ("[]", None),
        ('"place"', None),
    ],
)
def test_a_value_is_read_at_its_exact_path(arguments: str, value: str | None) -> None:
    zone = {"type": "string", "x-mcp-header": "Zone"}
    catalogue = catalogue_of(tool_with(schema_of(place=schema_of(zone=zone))))
    expected = () if value is None else (("Mcp-Param-Zone", value),)
    assert catalogue.headers(call(arguments)) == expected


def test_a_call_without_arguments_has_no_headers() -> None:
    catalogue = catalogue_of(tool_with(schema_of(a=REGION)))
    assert catalogue.headers(jsonrpc.request(1, "tools/call", {"name": "deploy"})) == ()
    assert catalogue.headers(jsonrpc.request(1, "tools/call")) == ()


def test_half_a_character_cannot_be_sent() -> None:
    catalogue = catalogue_of(tool_with(schema_of(a=REGION)))
    with pytest.raises(Unsendable) as raised:
        catalogue.headers(call('{"a":"s3cret\\ud83d"}'))
    assert "s3cret" not in str(raised.value)  # T-37


@pytest.mark.parametrize(
    "argument, is_inexact",
    [
        ("9007199254740991", False),
        ("-9007199254740991", False),
        ("9007199254740992", True),
        ("-9007199254740992", True),
        ("1e17", True),
        ("9" * 5000, True),
        ("1e400", False),
        ("true", False),
        ('"9007199254740992"', False),
        ("null", False),
    ],
)
def test_integers_that_not_all_servers_read_exactly_are_known(
    argument: str, is_inexact: bool
) -> None:
    # T-36
    catalogue = catalogue_of(tool_with(schema_of(a=REGION)))
    message = call(f'{{"a":{argument}}}')
    assert catalogue.inexact(message) == (["Mcp-Param-Region"] if is_inexact else [])
    catalogue.is_active = False
    assert catalogue.inexact(message) == []


# What is remembered


def test_only_calls_of_known_tools_have_headers() -> None:
    # T-34
    catalogue = catalogue_of(tool_with(schema_of(a=REGION)))
    assert catalogue.headers(call('{"a":"x"}')) == (("Mcp-Param-Region", "x"),)
    assert catalogue.headers(call('{"a":"x"}', name="other")) == ()
    assert catalogue.headers(call('{"a":"x"}', method="prompts/get")) == ()
    odd = jsonrpc.request(1, "tools/call", {"name": ["deploy"], "arguments": {"a": "x"}})
    assert catalogue.headers(odd) == ()


def test_an_inactive_catalogue_learns_and_adds_nothing() -> None:
    catalogue = Catalogue(is_active=False)
    assert catalogue.learn(tool_with(schema_of(a=REGION))) is None
    assert catalogue.headers(call('{"a":"x"}')) == ()
    catalogue.is_active = True
    assert catalogue.headers(call('{"a":"x"}')) == (("Mcp-Param-Region", "x"),)


def test_the_newest_listing_counts() -> None:
    catalogue = catalogue_of(tool_with(schema_of(a=REGION)), tool_with(schema_of(b=REGION)))
    assert catalogue.headers(call('{"a":"x","b":"y"}')) == (("Mcp-Param-Region", "y"),)
    assert catalogue.learn(tool_with(schema_of(b={"type": "string"}))) is None
    assert catalogue.headers(call('{"a":"x","b":"y"}')) == ()


def test_a_tool_that_has_become_invalid_has_no_headers_any_more() -> None:
    catalogue = catalogue_of(tool_with(schema_of(a=REGION)))
    reason = catalogue.learn(tool_with(schema_of(a={"type": "number", "x-mcp-header": "A"})))
    assert reason == "`x-mcp-header` of `a` is on a parameter of the type `number`"
    assert catalogue.headers(call('{"a":"x"}')) == ()


@pytest.mark.parametrize("tool", [None, 5, "x", [], {}, {"name": 5}, {"inputSchema": 5}])
def test_what_is_no_tool_teaches_nothing(tool: Any) -> None:
    assert Catalogue(is_active=True).learn(tool) is None


def test_the_number_of_tools_remembered_is_bounded() -> None:
    names = [f"tool-{number}" for number in range(mirroring.MAX_TOOLS + 1)]
    catalogue = catalogue_of(*(tool_with(schema_of(a=REGION), name) for name in names[:-1]))
    catalogue_of(tool_with(schema_of(a=REGION), names[0]))
    catalogue.learn(tool_with(schema_of(a=REGION), names[0]))  # seen again: newer than the second
    catalogue.learn(tool_with(schema_of(a=REGION), names[-1]))
    known = [name for name in names if catalogue.headers(call('{"a":"x"}', name=name))]
    assert known == [names[0], *names[2:]]
    plain = [tool_with(schema_of(), f"plain-{number}") for number in range(2 * len(names))]
    assert [catalogue.learn(tool) for tool in plain] == [None] * len(plain)
    assert catalogue.headers(call('{"a":"x"}', name=names[-1]))
