"""The public names: one list, which is what is there, what type checkers see, and what the documentation uses."""

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import FoundationRegistrationLib as library

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "SimpleITK", "scipy", "sklearn", "nibabel", "matplotlib", "timm")
FUNCTIONS = [name for name in library.__all__ if inspect.isfunction(getattr(library, name))]
CLASSES = [name for name in library.__all__ if inspect.isclass(getattr(library, name))]


def run(*lines):
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", ["FoundationRegistrationLib", "FoundationRegistrationLib.cli.main"])
def test_importing_the_package_or_its_command_line_loads_no_heavy_library(module):
    loaded = run(f"import sys, {module}", f"print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded == "[]\n"


def test_reading_and_converting_volumes_loads_no_torch():
    loaded = run(
        "import sys",
        "from FoundationRegistrationLib import array_from_volume, evaluate_landmarks, read_volume, volume_from_array",
        "print('torch' in sys.modules)",
    )
    assert loaded == "False\n"


def test_each_name_of_the_list_is_there():
    assert len(set(library.__all__)) == len(library.__all__)
    listed = run(
        "from FoundationRegistrationLib import *",
        "import FoundationRegistrationLib as library",
        "assert all(globals()[name] is getattr(library, name) for name in library.__all__)",
        "print(set(library.__all__) <= set(dir(library)))",
    )
    assert listed == "True\n"


def test_what_is_loaded_later_is_what_type_checkers_see():
    """The imports below TYPE_CHECKING and the table of names loaded on demand."""
    tree = ast.parse((ROOT / "FoundationRegistrationLib/__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: f".{node.module}" for node in block.body for alias in node.names}
    assert seen == library._LAZY
    assert set(seen) <= set(library.__all__)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'regsiter'"):
        _ = library.regsiter


def test_the_version_is_the_one_installed_packages_are_sorted_by():
    assert re.fullmatch(r"\d+\.\d+\.\d+", library.__version__)


def sections(docstring):
    """The text below each heading of a Google docstring."""
    parts = re.split(r"^(Args|Attributes|Returns|Raises|Yields):$", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return {"Summary": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(section):
    return re.findall(r"^    (\w+): \S", section, flags=re.MULTILINE)


def check_described(function, name):
    """Each argument under its name, what is returned, and the errors of this package that are raised."""
    found = sections(function.__doc__)
    signature = inspect.signature(function)
    arguments = [each for each in signature.parameters if each not in ("self", "cls")]
    assert described(found.get("Args", "")) == arguments, name
    returns = signature.return_annotation not in (None, "None")
    assert not returns or "Returns" in found or found["Summary"].startswith(("Return", "Resample")), name
    assert set(described(found.get("Raises", ""))) <= set(library.__all__), name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_describes_its_arguments_its_result_and_its_errors(name):
    check_described(getattr(library, name), name)


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_describes_its_fields_and_its_methods(name):
    cls = getattr(library, name)
    assert cls.__doc__.count(".") >= 1
    fields = [] if issubclass(cls, Exception) else dataclasses.fields(cls)
    if "Attributes" in sections(cls.__doc__):
        assert described(sections(cls.__doc__)["Attributes"]) == [field.name for field in fields]
    else:
        assert all(field.metadata["help"] for field in fields)
    for method, function in inspect.getmembers(cls, inspect.isroutine):
        if not method.startswith("_") and not issubclass(cls, Exception):
            check_described(function, f"{name}.{method}")


def pages():
    return [ROOT / "README.md", *(ROOT / "Resources").rglob("*.md")]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_the_documentation_imports_what_is_there_and_of_the_package_itself_public_names_only(page):
    text = page.read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == library.__name__:
                names = {alias.name for alias in node.names}
                module = importlib.import_module(node.module)
                assert names <= set(library.__all__ if module is library else dir(module)), ast.unparse(node)


def test_every_name_is_of_this_package():
    for name in library._LAZY:
        value = getattr(library, name)
        assert getattr(importlib.import_module(value.__module__), name) is value
        assert value.__module__.startswith(library.__name__)
