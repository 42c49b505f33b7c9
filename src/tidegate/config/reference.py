"""The reference tables of the documentation, written from the schema: `python -m tidegate.config.reference`."""

import sys
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import inspect

from tidegate.config.decode import describe, unwrap
from tidegate.config.origin import written
from tidegate.config.schema import Document
from tidegate.config.units import Dollars, Duration, Size

BEGIN: Final = "<!-- begin: python -m tidegate.config.reference -->"
END: Final = "<!-- end -->"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the documentation."""

    section: str
    """The table it belongs to, such as `[providers.NAME]`."""
    key: str
    form: str
    default: str
    """As TOML has it; `required` or `unset` where there is none."""
    meaning: str


def rows() -> list[Row]:
    """Every key of the document, in the order of the schema."""
    return list(_sections(inspect.type_info(Document), ""))


def tables() -> str:
    """The English tables, one per section, in Markdown."""
    lines: list[str] = []
    section = ""
    for row in rows():
        if row.section != section:
            section = row.section
            lines += ["", f"### `{section}`", "", "| key | value | default | meaning |", "|---|---|---|---|"]
        lines.append(f"| `{row.key}` | {row.form} | {row.default} | {row.meaning} |")
    return "\n".join(lines).strip() + "\n"


def _sections(kind: inspect.Type, path: str) -> Iterator[Row]:
    """The rows of a table, then those of the tables below it."""
    table, _ = unwrap(kind)
    if not isinstance(table, inspect.StructType):
        raise TypeError(f"{path} is not a table")
    below: list[tuple[inspect.Type, str]] = []
    for field in table.fields:
        inner, _ = unwrap(field.type)
        name = f"{path.strip('[]')}.{field.encode_name}".lstrip(".")
        if isinstance(inner, inspect.StructType):
            below.append((inner, f"[{name}]"))
        elif isinstance(inner, inspect.DictType) and isinstance(unwrap(inner.value_type)[0], inspect.StructType):
            below.append((inner.value_type, f"[{name}.{'ALIAS' if name == 'models' else 'NAME'}]"))
        elif isinstance(inner, inspect.VarTupleType) and isinstance(unwrap(inner.item_type)[0], inspect.StructType):
            below.append((inner.item_type, f"[[{name}]]"))
        if path and not isinstance(inner, inspect.StructType):
            yield Row(
                section=path,
                key=field.encode_name,
                form=form(field.type),
                default=_default(field),
                meaning=_meaning(field.type),
            )
    for inner, inner_path in below:
        yield from _sections(inner, inner_path)


def form(kind: inspect.Type) -> str:
    """What a value may be, short enough for a table."""
    kind, limits = unwrap(kind)
    match kind:
        case inspect.VarTupleType():
            return f"list of {_plural(kind.item_type)}"
        case inspect.DictType():
            keys, _ = unwrap(kind.key_type)
            return f"table{_choices(keys)} of {_plural(kind.value_type)}"
        case inspect.CustomType(cls=cls) if cls in (Duration, Size):
            word = "duration" if cls is Duration else "size"
            off = ', or `"off"`' if limits.get("off") else ""
            return f"{word}, {limits['least']} to {limits['most']}{off}"
        case inspect.CustomType(cls=cls) if cls is Dollars:
            return "US dollars"
        case inspect.LiteralType():
            return _choices(kind).strip(" ()")
        case _:
            return describe(kind).removeprefix("an ").removeprefix("a ")


def _plural(kind: inspect.Type) -> str:
    inner, _ = unwrap(kind)
    match inner:
        case inspect.StructType():
            return "tables"
        case inspect.IntType():
            return "integers"
        case inspect.LiteralType():
            return _choices(inner).strip(" ()")
        case inspect.VarTupleType():
            return f"lists of {_plural(inner.item_type)}"
        case _:
            return "strings"


def _choices(kind: inspect.Type) -> str:
    if not isinstance(kind, inspect.LiteralType):
        return ""
    return " (" + ", ".join(f'`"{value}"`' for value in kind.values) + ")"


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{written(field.default_factory())}`"
    return "unset" if field.default is None else f"`{written(field.default)}`"


def _meaning(kind: inspect.Type) -> str:
    while isinstance(kind, inspect.Metadata):
        if kind.extra_json_schema and "description" in kind.extra_json_schema:
            return str(kind.extra_json_schema["description"]).replace("|", "\\|")
        kind = kind.type
    return ""


if __name__ == "__main__":
    sys.stdout.write(tables())
