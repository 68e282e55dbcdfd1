"""Stand-in for PythonQt's `qt` module on PySide6: Qt as a scripted module of Slicer sees it.

PythonQt shows Qt properties as attributes (`button.enabled = True`), connects signals by their C++ signature
(`button.connect("clicked(bool)", function)`) and converts values to the type of a property; PySide6 does not.
Each class of PySide6 is given these habits when it is asked for.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

# Properties that are also virtual methods which Qt calls: they stay methods.
_METHODS = {"sizeHint", "minimumSizeHint"}
_CONVERSIONS = {"bool": bool, "int": int, "double": float, "QString": str}
_PYTHON_TYPES = {"bool": bool, "int": int, "double": float, "QString": str}

# Widget classes of Slicer and CTK by the name a .ui file calls them; `application` fills it.
custom_widgets: dict[str, type] = {}


class _QtProperty:
    """A Qt property as an attribute of instances; on the class, the C++ method of that name."""

    def __init__(self, raw: type, meta: QtCore.QMetaProperty) -> None:
        self._name = meta.name()
        self._method = getattr(raw, self._name, None)
        self._convert = _CONVERSIONS.get(meta.typeName(), lambda value: value)

    def __get__(self, instance: Any, owner: type) -> Any:
        return self._method if instance is None else QtCore.QObject.property(instance, self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        QtCore.QObject.setProperty(instance, self._name, self._convert(value))


class PythonQtObject:
    """What PythonQt adds to every QObject."""

    name = property(
        lambda self: QtCore.QObject.objectName(self), lambda self, value: QtCore.QObject.setObjectName(self, value)
    )

    def __getattribute__(self, name: str) -> Any:
        # PySide6 answers for `connect` and `disconnect` of an instance before Python looks them up.
        if name in ("connect", "disconnect"):
            return functools.partial(getattr(PythonQtObject, f"_{name}"), self)
        return super().__getattribute__(name)

    def _connect(self, signature: str, function: Any) -> bool:
        signal, types = _signal(self, signature)
        slot = _accepting(function, len(types))
        connections = self.__dict__.setdefault("_connections", {})
        connections[signature, function] = (signal, slot)
        signal.connect(slot)
        return True

    def _disconnect(self, signature: str, function: Any) -> bool:
        signal, slot = self.__dict__["_connections"].pop((signature, function))
        return signal.disconnect(slot)

    def className(self) -> str:
        return self.metaObject().className()


def _signal(sender: Any, signature: str) -> tuple[Any, list[str]]:
    """Return a signal by its C++ signature, and the types of its arguments."""
    name, _, rest = signature.partition("(")
    types = [part for part in rest.rstrip(")").split(",") if part]
    signal = getattr(sender, name, None)
    if not hasattr(signal, "connect"):
        raise ValueError(f"{type(sender).__name__} has no signal {signature}")
    python_types = [_PYTHON_TYPES[part] for part in types if part in _PYTHON_TYPES]
    if len(python_types) == 1 == len(types):
        try:
            return signal[python_types[0]], types
        except (IndexError, KeyError, TypeError):
            return signal, types
    return signal, types


def _accepting(function: Any, count: int) -> Any:
    """Return a slot that hands on at most `count` arguments and no more than the function takes."""
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    variable = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    taken = count if variable else min(count, len(positional))

    def slot(*arguments: Any) -> None:
        function(*arguments[:taken])

    return slot


@functools.cache
def facade(raw: type) -> Any:
    """Return a PySide6 class with the habits of PythonQt."""
    meta = raw.staticMetaObject
    properties = [meta.property(index) for index in range(meta.propertyCount())]
    attributes = {p.name(): _QtProperty(raw, p) for p in properties if p.name() not in _METHODS}
    return type(raw)(raw.__name__, (PythonQtObject, raw), attributes)


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file with all its widgets as PythonQt would show them."""

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        widget_class = custom_widgets.get(class_name) or facade(getattr(QtWidgets, class_name))
        widget = widget_class(parent)
        widget.setObjectName(name)
        return widget

    def load(self, file: Any, parent: Any = None) -> Any:
        root = ElementTree.fromstring(file.readAll().data())
        connections = root.find("connections")  # C++ signatures, which signals made in Python do not have
        if connections is not None:
            root.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        for connection in connections if connections is not None else ():
            sender, signal, receiver, slot = (
                connection.findtext(part) for part in ("sender", "signal", "receiver", "slot")
            )
            slot_method = getattr(_child(widget, receiver), slot.partition("(")[0])
            getattr(_child(widget, sender), signal.partition("(")[0]).connect(slot_method)
        return widget


def _child(widget: Any, name: str) -> Any:
    found = widget if widget.objectName == name else widget.findChild(QtCore.QObject, name)
    if found is None:
        raise ValueError(f"The .ui file connects '{name}', which it does not have.")
    return found


def __getattr__(name: str) -> Any:
    for module in (QtWidgets, QtGui, QtCore):
        if hasattr(module, name):
            found = getattr(module, name)
            is_object = isinstance(found, type) and issubclass(found, QtCore.QObject)
            return facade(found) if is_object else found
    raise AttributeError(f"module 'qt' (stand-in) has no attribute '{name}'")
