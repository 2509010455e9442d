"""Write the table of values in charts/frontdesk/README.md from values.yaml, or check that it is current.

python tools/chart/values_docs.py            writes the table
python tools/chart/values_docs.py --check    exits 1 when it differs, when a value has no `# --` line, or when
                                             values.schema.json and values.yaml know different keys
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent.parent.parent / "charts" / "frontdesk"
BEGIN, END = "<!-- values -->", "<!-- end of values -->"
# A block a service: it may override any of serviceDefaults, so values.yaml does not show all of its keys.
SERVICES = "services"
# Not of the chart: Helm gives it to every chart.
HELMS = {"global"}


@dataclass(frozen=True, slots=True)
class Value:
    """A leaf of values.yaml, or an empty or free map. `text` is empty when nothing describes it."""

    path: str
    default: str
    text: str


def main(argv: Sequence[str], chart: Path = CHART) -> int:
    """Write or check."""
    values = list(read((chart / "values.yaml").read_text()))
    schema = json.loads((chart / "values.schema.json").read_text())
    readme = (chart / "README.md").read_text()
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}\n{table(values)}{END}{after}"
    problems = [f"values.yaml: {value.path} has no `# --` line" for value in values if not value.text]
    problems += drift(yaml.safe_load((chart / "values.yaml").read_text()), schema)
    if "--check" in argv:
        if wanted != readme:
            problems.append("charts/frontdesk/README.md is stale: run `make docs`")
    else:
        (chart / "README.md").write_text(wanted)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def read(text: str) -> Iterator[Value]:
    """The values with their comments, in the file's order."""
    lines = text.splitlines()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    yield from _leaves(root, "", lines, "")


def _leaves(node: yaml.MappingNode, prefix: str, lines: list[str], inherited: str) -> Iterator[Value]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        text = _comment(lines, key.start_mark.line) or inherited
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _leaves(value, f"{path}.", lines, text)
        else:
            yield Value(path, json.dumps(yaml.safe_load(yaml.serialize(value)), ensure_ascii=False), text)


def _comment(lines: list[str], line: int) -> str:
    """The `# --` line right above, with the plain comment lines that go on from it."""
    block: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        block.insert(0, lines[line].lstrip().removeprefix("#").strip())
    for index, part in enumerate(block):
        if part.startswith("-- "):
            return " ".join([part.removeprefix("-- "), *block[index + 1 :]])
    return ""


def table(values: Sequence[Value]) -> str:
    """Markdown."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in values:
        text = value.text.replace("|", "\\|")
        rows.append(f"| `{value.path}` | `{value.default}` | {text} |")
    return "\n".join(rows) + "\n"


def drift(values: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Where the schema lets a misspelt key pass, or knows keys that values.yaml does not show."""
    definitions = schema["definitions"]

    def walk(node: dict[str, Any], here: Any, path: str) -> Iterator[str]:
        if "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[-1]]
        properties = node.get("properties")
        if properties is None:
            return
        if node.get("additionalProperties") is not False:
            yield f"values.schema.json: {path or 'the root'} lets any key pass"
        if not isinstance(here, dict) or path.startswith(f"{SERVICES}."):
            return
        for missing in sorted(properties.keys() - here.keys() - HELMS):
            yield f"values.schema.json: {path}.{missing} is not in values.yaml".replace(" .", " ")
        for key, value in properties.items():
            yield from walk(value, here.get(key), f"{path}.{key}".lstrip("."))

    return list(walk(schema, values, ""))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
