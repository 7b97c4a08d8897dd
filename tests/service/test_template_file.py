"""Template files: what is taken, how a mistake is told, and that the published schema is the one in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError
from executor_api.service.template_file import TemplateFile, Templates
from executor_api.service.yaml_model import schema_text

REPOSITORY = Path(__file__).parents[2]

GOOD = """\
templates:
  - name: gpu
    image: registry.example/gpu:1
    max_resources: {cpu: "8", memory: 16Gi, ephemeral_storage: 10Gi}
    gpu: {max_count: 2}
    job_template: jobs/gpu.yaml.j2
    env:
      MODE: "1"
"""


def write(folder: Path, text: str) -> TemplateFile:
    path = folder / "templates.yaml"
    path.write_text(text)
    return TemplateFile(str(path))


def mistakes(folder: Path, text: str) -> list[str]:
    """The lines of the refusal, without the folder."""
    with pytest.raises(ConfigurationError) as raised:
        write(folder, text).reload()
    return str(raised.value).replace(f"{folder}/", "").splitlines()


def test_no_file_means_the_built_in_default() -> None:
    """An empty path gives `default` alone."""
    assert TemplateFile("").reload() == {"default": Template(name="default")}


def test_a_file_adds_to_the_default(tmp_path: Path) -> None:
    """Templates come by name, quantities as text, and a Job template's path is relative to the file."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "gpu.yaml.j2").touch()
    templates = write(tmp_path, GOOD).reload()
    assert list(templates) == ["default", "gpu"]
    assert templates["gpu"].max_resources.memory == "16Gi"
    assert templates["gpu"].job_template == str(tmp_path / "jobs" / "gpu.yaml.j2")


def test_a_file_can_replace_the_default(tmp_path: Path) -> None:
    """`default` of the file stands in for the built-in one; numbers may be quantities."""
    text = "templates:\n- name: default\n  resources: {cpu: 2, memory: 1Gi, ephemeral_storage: 1Gi}\n"
    templates = write(tmp_path, text).reload()
    assert templates["default"].resources.cpu == "2"


def test_merged_mappings(tmp_path: Path) -> None:
    """YAML's anchors and merges work, an overriding key included, and mistakes in what overrides are placed."""
    text = """\
templates:
- &base
  name: small
  timeout_seconds: 5
  env: {A: one}
- <<: *base
  name: large
  timeout_seconds: 50
"""
    templates = write(tmp_path, text).reload()
    assert (templates["large"].timeout_seconds, templates["large"].env) == (50, {"A": "one"})
    assert mistakes(tmp_path, text.replace("50", "-1")) == [
        "templates.yaml:8:20: templates[1].timeout_seconds: must be greater than 0"
    ]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "templates.yaml", "the file must be a mapping of field names to values"),
        ("- a\n", "templates.yaml:1:1", "the file must be a mapping"),
        ("template: []\n", "templates.yaml:1:1", "template: unknown field; did you mean 'templates'?"),
        ("templates: {}\n", "templates.yaml:1:12", "templates: must be a list"),
        (
            "templates:\n- name: x\n  imagee: y\n",
            "templates.yaml:3:3",
            "did you mean 'image'? There are: artifact_bytes,",
        ),
        ("templates:\n- image: y\n", "templates.yaml:2:3", "templates[0].name: is missing"),
        ("templates:\n- name: X\n", "templates.yaml:2:9", "must be 1 to 40 lowercase letters"),
        (
            "templates:\n- name: x\n  image_pull_policy: Sometimes\n",
            "templates.yaml:3:22",
            "must be 'Always', 'IfNotPresent' or 'Never'",
        ),
        (
            "templates:\n- name: x\n  isolation: [single_use, both]\n",
            "templates.yaml:3:27",
            "templates[0].isolation[1]: must be 'single_use' or 'reuse'",
        ),
        ("templates:\n- name: x\n  env: {A: 1}\n", "templates.yaml:3:12", "must be text; put it in quotes"),
        (
            "templates:\n- name: x\n  tolerations:\n  - {key: a, effects: b}\n",
            "templates.yaml:4:14",
            "did you mean 'effect'? There are: effect, key, operator, value",
        ),
        (
            "templates:\n- name: x\n  languages: {node: {argv: [node], sufix: .js}}\n",
            "templates.yaml:3:36",
            "did you mean 'suffix'? There are: argv, suffix",
        ),
        (
            "templates:\n- name: x\n  resources: {cpu: 9, memory: 1Gi, ephemeral_storage: 1Gi}\n",
            "templates.yaml:2:3",
            "templates[0]: resources.cpu is more than max_resources.cpu",
        ),
        ("templates:\n- name: x\n  job_template: no.j2\n", "templates.yaml:3:17", "there is no file no.j2"),
        ("templates:\n- name: x\n- name: x\n", "templates.yaml:3:9", "'x' is also the name of templates[0]"),
        ("templates:\n- name: x\n  name: y\n", "templates.yaml:3:3", "'name' appears twice"),
        ("templates: [\n", "templates.yaml:2:1", "not YAML: "),
        ("templates: !!python/name:os.system\n", "templates.yaml:1:12", "could not determine a constructor"),
        ("templates: []\n---\ntemplates: []\n", "templates.yaml:2:1", "not YAML: but found another document"),
        ("templates:\n- name: !!int x\n", "templates.yaml", "a value does not fit its `!!` tag"),
        ("- " * 990, "templates.yaml", "is nested too deeply"),
        ("templates: &a [*a]\n", "templates.yaml:1:12", "templates[0]"),
        ("a\n\x07\n", "templates.yaml:2", "YAML does not allow the character"),
    ],
)
def test_a_mistake_is_placed_and_explained(tmp_path: Path, text: str, place: str, words: str) -> None:
    """Each mistake names file, line and column, the field, and what is allowed there."""
    lines = mistakes(tmp_path, text)
    assert any(line.startswith(f"{place}: ") and words in line for line in lines), lines


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    """One line for each, so that a file is repaired in one go."""
    text = "templates:\n- name: x\n  max_processes: 0\n  output: {keep_bytes: 1}\n- {}\n"
    assert mistakes(tmp_path, text) == [
        "templates.yaml:3:18: templates[0].max_processes: must be greater than or equal to 1",
        "templates.yaml:4:24: templates[0].output.keep_bytes: must be greater than or equal to 1024",
        "templates.yaml:5:3: templates[1].name: is missing",
    ]


def test_unreadable_files(tmp_path: Path) -> None:
    """A missing file and one that is no text are named with the reason."""
    with pytest.raises(ConfigurationError, match=r"absent.yaml can't be read: No such file"):
        TemplateFile(str(tmp_path / "absent.yaml")).reload()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        TemplateFile(str(tmp_path / "binary")).reload()


def test_reload_sees_a_changed_file_and_refuses_a_broken_one(tmp_path: Path) -> None:
    """What was loaded before stays as it is when the new content is wrong."""
    file = write(tmp_path, "templates: [{name: one}]\n")
    before = file.reload()
    write(tmp_path, "templates: [{name: one}, {name: two}]\n")
    assert list(file.reload()) == ["default", "one", "two"]
    write(tmp_path, "templates: [{name: one, extra: 1}]\n")
    with pytest.raises(ConfigurationError):
        file.reload()
    assert list(before) == ["default", "one"]


def test_the_committed_schema_is_the_one_in_force() -> None:
    """docs/templates.schema.json is what `executor-api templates schema` prints."""
    assert (REPOSITORY / "docs" / "templates.schema.json").read_text() == schema_text(Templates)


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        ({"templates": [{"name": "x", "resources": {"cpu": 1, "memory": "1Gi", "ephemeral_storage": "1Gi"}}]}, True),
        ({"templates": [{"name": "x", "imagee": "y"}]}, False),
        ({"templates": [{"name": "x", "isolation": ["both"]}]}, False),
        ({}, False),
    ],
)
def test_the_schema_accepts_what_the_loader_does(document: Any, valid: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    """An editor with the schema agrees with the service."""
    schema = json.loads(schema_text(Templates))
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(document) is valid
