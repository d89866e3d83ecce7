"""The rules of the wire contract's style, over protoc's descriptors of the .proto files.

Each rule is a function from the files to what is wrong with them. They follow
Google's API improvement proposals (https://google.aip.dev); where buf's lint
rules (https://buf.build/docs/lint/rules) differ, names of services and messages
follow those.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.rpc import code_pb2

from proto_contract import Contract

Field = descriptor_pb2.FieldDescriptorProto

_PREPOSITIONS = {
    "after",
    "at",
    "before",
    "by",
    "for",
    "from",
    "in",
    "of",
    "on",
    "per",
    "to",
    "with",
}
_UNSIGNED = {Field.TYPE_UINT32, Field.TYPE_UINT64, Field.TYPE_FIXED32, Field.TYPE_FIXED64}
_NOT_NUMBERS = {Field.TYPE_STRING, Field.TYPE_BYTES, Field.TYPE_BOOL, Field.TYPE_MESSAGE}


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def package_is_the_path(contract: Contract) -> Iterator[str]:
    """AIP-185, AIP-191: the package is the folder, and ends in a major version."""
    for name, file in contract.files.items():
        if file.package != ".".join(Path(name).parent.parts):
            yield f"{name}: package {file.package}"
        if not re.search(r"\.v[1-9]\d*((alpha|beta)\d*)?$", file.package):
            yield f"{name}: package {file.package} does not end in a major version"


def file_names_are_modules(contract: Contract) -> Iterator[str]:
    """AIP-191: a file's name becomes a module's."""
    for name in contract.files:
        stem = Path(name).stem
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", stem) or keyword.iskeyword(stem):
            yield f"{name}: not lower_snake_case"
        if re.fullmatch(r"v\d+", stem):
            yield f"{name}: named after a version"


def text_is_laid_out(contract: Contract) -> Iterator[str]:
    """Licence first, 80 columns, no tabs, 2 spaces, `//` comments, sorted imports."""
    for name, text in contract.texts.items():
        lines = text.splitlines()
        if "SPDX-License-Identifier: Apache-2.0" not in "".join(lines[:2]):
            yield f"{name}:1: no licence"
        if lines[3:4] and not lines[3].startswith("// "):
            yield f"{name}:4: no overview"
        for number, line in enumerate(lines, 1):
            if len(line) > 80 or "\t" in line or line != line.rstrip() or "/*" in line:
                yield f"{name}:{number}: over 80 columns, a tab, trailing space or block comment"
            if re.match(r"( {2})* \S", line):
                yield f"{name}:{number}: indented by other than 2 spaces"
        imports = [line for line in lines if line.startswith("import ")]
        if imports != sorted(imports):
            yield f"{name}: imports are not sorted"


def parts_are_in_order(contract: Contract) -> Iterator[str]:
    """AIP-191: services, then messages, requests and responses by method, then enums."""
    for name in contract.files:
        own = [element for element in contract.elements if element.file == name]
        kinds = ["service", "message", "enum"]
        top = sorted((e for e in own if e.kind in kinds), key=lambda e: e.line)
        if [kinds.index(e.kind) for e in top] != sorted(kinds.index(e.kind) for e in top):
            yield f"{name}: not in the order services, messages, enums"
        wanted = [
            f"{e.name}{suffix}"
            for e in own
            if e.kind == "method"
            for suffix in ("Request", "Response")
        ]
        if [e.name for e in top if e.name.endswith(("Request", "Response"))] != wanted:
            yield f"{name}: requests and responses are not those of the methods, in their order"


def nothing_is_nested(contract: Contract) -> Iterator[str]:
    """Messages and enums stand at the top level."""
    for element in contract.of("message"):
        nested = [each for each in element.proto.nested_type if not each.options.map_entry]
        if nested or element.proto.enum_type:
            yield f"{element}: something is declared inside it"


def services_and_methods_are_named(contract: Contract) -> Iterator[str]:
    """Buf: `XService`, `VerbNoun(VerbNounRequest)`; AIP-136: no prepositions."""
    for element in contract.of("service"):
        if not element.name.endswith("Service"):
            yield f"{element}: does not end in Service"
    for element in contract.of("method"):
        words = _snake(element.name).split("_")
        if len(words) < 2 or _PREPOSITIONS & {*words} or "async" in words:
            yield f"{element}: not a verb and a noun"
        for suffix, used in (
            ("Request", element.proto.input_type),
            ("Response", element.proto.output_type),
        ):
            if used.rpartition(".")[2] != element.name + suffix:
                yield f"{element}: takes or gives {used}"


def streams_have_a_unary_sibling(contract: Contract) -> Iterator[str]:
    """AIP-127: what a stream does can be done by unary calls; the comment names them."""
    methods = contract.of("method")
    unary = {e.name for e in methods if not e.proto.client_streaming}
    for element in methods:
        if element.proto.server_streaming != element.proto.client_streaming:
            yield f"{element}: streams one way"
        if element.proto.client_streaming:
            words = {*re.findall(r"\w+", element.comment)}
            if not words & unary or "order" not in words:
                yield f"{element}: the comment names no unary method, or says nothing of order"


def lists_are_paginated(contract: Contract) -> Iterator[str]:
    """AIP-158: page_size and page_token in, results as field 1 and next_page_token out."""
    fields = {(e.owner, e.name): e.proto for e in contract.of("field")}
    for element in contract.of("method"):
        if not element.name.startswith("List"):
            continue
        request, response = f"{element.name}Request", f"{element.name}Response"
        wanted = [(request, "page_size"), (request, "page_token"), (response, "next_page_token")]
        results = [f.name for (owner, _), f in fields.items() if owner == response if f.number == 1]
        repeated = [f for f in results if fields[response, f].label == Field.LABEL_REPEATED]
        if any(key not in fields for key in wanted) or not repeated:
            yield f"{element}: not paginated"


def fields_are_typed(contract: Contract) -> Iterator[str]:
    """AIP-122, 141, 142, 149, 214: ids are strings, times and durations are messages."""
    for element in contract.of("field"):
        field, name = element.proto, element.name
        timed = {".google.protobuf.Timestamp": "_time", ".google.protobuf.Duration": "_duration"}
        suffix = timed.get(field.type_name)
        if field.type in _UNSIGNED:
            yield f"{element}: unsigned"
        if (name == "id" or name.endswith("_id")) and field.type != Field.TYPE_STRING:
            yield f"{element}: an id that is no string"
        if suffix and not name.endswith((suffix, "_offset")):
            yield f"{element}: does not end in {suffix}"
        if not suffix and name.endswith(("_time", "_duration", "ttl")):
            yield f"{element}: neither Timestamp nor Duration"
        if re.search(r"ed_(time|at)$", name):
            yield f"{element}: not imperative, as create_time is"
        if field.proto3_optional and field.type in _NOT_NUMBERS:
            yield f"{element}: optional, where empty or absent says it"


def fields_are_named(contract: Contract) -> Iterator[str]:
    """AIP-140, 141: lower_snake_case nouns; plural if repeated; counts end in _count."""
    for element in contract.of("field"):
        words = element.name.split("_")
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", element.name):
            yield f"{element}: not lower_snake_case"
        if _PREPOSITIONS & {*words} or {"num", "number"} & {*words}:
            yield f"{element}: a preposition, or a count that does not end in _count"
        is_plural = words[-1].endswith("s") and words[-1] != "status"
        is_repeated = element.proto.label == Field.LABEL_REPEATED
        if is_plural != is_repeated and element.proto.type != Field.TYPE_BOOL:
            yield f"{element}: plural if and only if repeated"


def numbers_are_kept(contract: Contract) -> Iterator[str]:
    """A deleted number or value is reserved with its name; what each frame carries is 1 to 15."""
    streamed = {
        used.rpartition(".")[2]
        for e in contract.of("method")
        if e.proto.client_streaming
        for used in (e.proto.input_type, e.proto.output_type)
    }
    for element in contract.of("message"):
        numbers = {field.number for field in element.proto.field}
        kept = {n for span in element.proto.reserved_range for n in range(span.start, span.end)}
        if numbers | kept != {*range(1, len(numbers | kept) + 1)}:
            yield f"{element}: a number is missing and not reserved"
        if len(element.proto.reserved_name) != len(kept):
            yield f"{element}: a reserved number without its name"
        if element.name in streamed and max(numbers) > 15:
            yield f"{element}: a field above 15, which costs a second byte in each message"


def enums_are_safe(contract: Contract) -> Iterator[str]:
    """Buf: prefixed values and a zero that says nothing; AIP-126, AIP-216."""
    values = contract.of("value")
    for element in contract.of("enum"):
        prefix = _snake(element.name).upper() + "_"
        own = [e for e in values if e.owner == element.name]
        if own[0].name != f"{prefix}UNSPECIFIED" or own[0].proto.number != 0:
            yield f"{element}: 0 is not {prefix}UNSPECIFIED"
        if not all(e.name.startswith(prefix) for e in own):
            yield f"{element}: a value without the prefix {prefix}"
        if [e.proto.number for e in own] != [*range(len(own))] and not element.proto.reserved_range:
            yield f"{element}: a number is missing and not reserved"
        if element.proto.options.allow_alias or element.name.endswith("Status"):
            yield f"{element}: an alias, or a Status that should be a State"
        if not re.search(r"\b(may grow|is frozen)\.", element.comment):
            yield f"{element}: the comment does not say whether it may grow or is frozen"


def everything_is_commented(contract: Contract) -> Iterator[str]:
    """AIP-192: leading comments, in whole sentences, on every element."""
    for element in contract.elements:
        comment = element.comment
        if not re.match(r"[A-Z0-9\"]", comment) or not re.search(r"[.:]$", comment):
            yield f"{element}: no comment in whole sentences"
        if element.trailing_comment:
            yield f"{element}: a trailing comment"
        if re.search(r"</?[a-z]+>|[|+=*-]{4}|\b(TODO|FIXME)\b", comment):
            yield f"{element}: HTML, a drawing or a task in the comment"
        if element.kind in ("service", "method") and not re.match(r"[A-Z][a-z]+s\b", comment):
            yield f"{element}: the comment does not begin with a verb, as in: Creates a session"
        if element.kind == "field" and re.search(r".(Required|Output only)\.", comment):
            yield f"{element}: Required. or Output only. is not at the head of the comment"


def reasons_say_what_to_do(contract: Contract) -> Iterator[str]:
    """AIP-193: each reason belongs to one status code, and says whether sending again helps."""
    codes = "|".join(code_pb2.Code.keys())
    for element in contract.of("value"):
        if element.owner != "ErrorReason" or element.proto.number == 0:
            continue
        if not re.fullmatch(rf"({codes})\. [A-Z].*\. Again: [a-z].*\.", element.comment):
            yield f"{element}: not `CODE. What it means. Again: whether it helps.`"
        if len(element.name.removeprefix("ERROR_REASON_")) > 63:
            yield f"{element}: longer than 63 characters"


RULES: tuple[Callable[[Contract], Iterator[str]], ...] = (
    package_is_the_path,
    file_names_are_modules,
    text_is_laid_out,
    parts_are_in_order,
    nothing_is_nested,
    services_and_methods_are_named,
    streams_have_a_unary_sibling,
    lists_are_paginated,
    fields_are_typed,
    fields_are_named,
    numbers_are_kept,
    enums_are_safe,
    everything_is_commented,
    reasons_say_what_to_do,
)
