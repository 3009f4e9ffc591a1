"""What the documents say is so: commands exist, pictures are there, pins cover the dependencies."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import typer

from core.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "docs" / "user-guide.md",
    ROOT / "docs" / "training.md",
    ROOT / "CONTRIBUTING.md",
]


def commands() -> set[str]:
    """Names of all commands, groups with their subcommands as ``group sub``."""
    group = typer.main.get_command(app)
    names = set()
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        names.add(name)
        names |= {f"{name} {sub}" for sub in getattr(command, "commands", {})}
    return names


def test_every_command_in_the_documents_exists_and_each_is_in_the_guide() -> None:
    known = commands()
    for document in DOCUMENTS:
        for name in re.findall(r"`overread ([a-z]+)", document.read_text(encoding="utf-8")):
            assert name in known, f"{document.name} names the command {name}"
    guide = (ROOT / "docs" / "user-guide.md").read_text(encoding="utf-8")
    missing = {name for name in known if " " not in name and not re.search(rf"overread {name}\b", guide)}
    assert not missing


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in [*DOCUMENTS, *sorted((ROOT / "docs" / "adr").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_each_dependency_is_pinned_by_the_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for name, extra in project["optional-dependencies"].items():
        if name != "fast":
            wanted += extra
    constraints = (
        (ROOT / "installer" / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    )
    pinned = set(re.findall(r"^([a-z0-9.\-]+)==", constraints, flags=re.M))
    for requirement in wanted:
        name = re.split(r"[\[<>=!~ ]", requirement)[0].lower().replace("_", "-")
        assert name == "overread" or name in pinned, name


def test_no_file_names_a_place_of_one_machine_or_a_package_host() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    pattern = re.compile(r"(/home/[a-z]+/|/root/|/work/|index-url)")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if (
            path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".spec"}
            and path.name != Path(__file__).name
        ):
            found = pattern.search(path.read_text(encoding="utf-8"))
            assert not found, f"{name}: {found and found.group()}"


def test_the_training_page_names_every_network_loss_source_and_transform_of_ours() -> None:
    from core.compute.training.data.transforms import transform_names
    from core.compute.training.losses.registry import names as losses
    from core.recipes.sources.registry import SOURCES
    from models.networks.registry import names as networks

    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    wanted = {*networks(), *losses(), *SOURCES, *(name for name in transform_names() if "." not in name)}
    # A row may give a series of sizes as its first and last.
    wanted -= {"efficientnet_b1", "efficientnet_b2", "efficientnet_b3"}
    assert {name for name in wanted if f"`{name}`" not in page} == set()
