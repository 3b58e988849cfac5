"""If it is written down, a test reads it."""

import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from experiments.lifecycle import mermaid
from experiments.spec import read_declaration
from serving.cli import app
from serving.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")]


def blocks(language: str) -> list[str]:
    """Return what documents for users show in a language, the README's first."""
    texts = [README, *(path.read_text() for path in sorted(ROOT.glob("docs/*.md")))]
    return re.findall(rf"```{language}\n(.*?)```", "\n".join(texts), re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the places in a document that links may lead to, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def settings_table() -> str:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = str(field.default).replace(str(Path.home()), "~")
        rows.append(f"| `{name}` | `{default}` | {field.description} |")
    return "\n".join(rows)


def test_the_readme_lists_every_setting_as_it_is() -> None:
    found = re.search(r"<!-- settings.*?-->\n(.*?)\n?<!-- /settings -->", README, re.DOTALL)
    assert found, "README.md has lost its table of settings"
    assert found[1] == settings_table(), "paste this into README.md:\n" + settings_table()


def test_every_make_target_in_the_readme_exists() -> None:
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE)
    assert named
    assert set(named) <= made


def test_every_tiltyard_command_in_the_readme_exists() -> None:
    lines = re.findall(r"^tiltyard (.+?)\s*(?:#.*)?$", "\n".join(blocks("sh")), re.MULTILINE)
    assert lines
    for line in lines:
        command = get_command(app)
        for word in line.split():
            subcommands = getattr(command, "commands", None)
            if subcommands is None:
                break
            assert word in subcommands, f"`tiltyard {line}`: there is no {word!r}"
            command = subcommands[word]


@pytest.mark.parametrize("text", [*blocks("yaml"), (ROOT / "examples/digits.yaml").read_text()])
def test_every_experiment_that_is_shown_can_be_started(text: str) -> None:
    assert read_declaration(text).name == "digits-v2"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        target, _, place = link.partition("#")
        found = path.parent / target if target else path
        assert found.exists(), f"{path.name} links to {link}"
        assert not place or place in anchors(found.read_text()), f"{path.name} links to {link}"


def test_the_architecture_shows_the_lifecycle_as_it_is() -> None:
    assert mermaid() in (ROOT / "ARCHITECTURE.md").read_text()


def test_the_architecture_names_every_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for package in ("registry", "experiments", "serving"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.parent.name if path.name == "__init__.py" else path.stem
            assert name in text, f"ARCHITECTURE.md does not say what {path} is for"


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    decisions = (ROOT / "DECISIONS.md").read_text()
    for dependency in project["dependencies"]:
        name = re.split(r"[\[<>=!~ ]", dependency)[0]
        assert f"`{name}" in decisions, f"DECISIONS.md does not say why {name} is needed"


@pytest.mark.parametrize("path", ["requirements.txt", "tests/clients/requirements.txt"])
def test_pinned_versions_have_hashes_and_name_no_server(path: str) -> None:
    lines = (ROOT / path).read_text().splitlines()
    pins = [number for number, line in enumerate(lines) if re.match(r"[a-z0-9]", line)]
    assert pins
    for number in pins:
        assert "==" in lines[number]
        assert "--hash=sha256:" in lines[number + 1]
    assert not [line for line in lines if "://" in line or "index" in line]
