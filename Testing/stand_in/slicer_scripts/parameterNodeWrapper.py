"""Stand-in for `slicer.parameterNodeWrapper`: typed parameters kept in a node and shown in widgets.

Covers the types and widgets that this extension's parameter node uses: numbers within a range, words of a choice,
strings, switches and nodes.
"""

from __future__ import annotations

import types
import typing
from typing import Any

import qt
import slicer
import slicer.util
import vtk

__all__ = ["Choice", "WithinRange", "parameterNodeWrapper"]


class WithinRange:
    """A number lies between two, both included."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within [{self.minimum}, {self.maximum}], is {value}")


class Choice:
    """A value is one of these."""

    def __init__(self, choices: Any) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be one of {self.choices}")


class _Parameter:
    """One typed value in a parameter node."""

    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        annotated = typing.get_origin(annotation) is typing.Annotated
        self.name = name
        self.type = typing.get_args(annotation)[0] if annotated else annotation
        self.validators = typing.get_args(annotation)[1:] if annotated else ()
        union = typing.get_origin(self.type) in (typing.Union, types.UnionType)
        members = typing.get_args(self.type) if union else (self.type,)
        self.node_classes = tuple(m for m in members if isinstance(m, type) and issubclass(m, slicer.vtkMRMLNode))
        self.default = default if default is not None or self.node_classes else self.type()

    def read(self, node: Any) -> Any:
        if self.node_classes:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        return text == "True" if self.type is bool else self.type(text)

    def write(self, node: Any, value: Any) -> None:
        if self.node_classes:
            if value is not None and not isinstance(value, self.node_classes):
                raise TypeError(f"{self.name} cannot be a {value.GetClassName()}")
            with slicer.util.NodeModify(node):
                node.SetParameter(self.name, "")
                node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        if type(value) is not self.type and not (self.type is float and isinstance(value, int)):
            raise TypeError(f"{self.name} must be a {self.type.__name__}, not {value!r}")
        for validator in self.validators:
            validator.validate(value)
        node.SetParameter(self.name, str(value))

    def find(self, kind: type) -> Any:
        return next((validator for validator in self.validators if isinstance(validator, kind)), None)


class _Connector:
    """Shows one parameter in one widget and takes the user's changes from it."""

    def __init__(self, widget: Any, parameter: _Parameter) -> None:
        self._widget, self._choice, self._name = widget, None, ""
        limits = parameter.find(WithinRange)
        if isinstance(widget, slicer.qMRMLNodeComboBox):
            widget.nodeTypes = [node_class().GetClassName() for node_class in parameter.node_classes]
            self._signal = widget.currentNodeChanged
        elif isinstance(widget, qt.QComboBox):
            self._choice = parameter.find(Choice).choices
            widget.clear()
            widget.addItems([str(choice) for choice in self._choice])
            self._signal = widget.currentIndexChanged
        elif isinstance(widget, qt.QCheckBox):
            self._signal, self._name = widget.toggled, "checked"
        elif isinstance(widget, qt.QLineEdit):
            self._signal, self._name = widget.textChanged, "text"
        elif isinstance(widget, (qt.QSlider, qt.QSpinBox, qt.QDoubleSpinBox)) and limits is not None:
            widget.minimum, widget.maximum = limits.minimum, limits.maximum
            self._signal, self._name = widget.valueChanged, "value"
        else:
            raise RuntimeError(f"Cannot show {parameter.name} ({parameter.type}) in a {widget.className()}")

    def connect(self, callback: Any) -> None:
        self._slot = lambda *arguments: callback()
        self._signal.connect(self._slot)

    def disconnect(self) -> None:
        self._signal.disconnect(self._slot)

    def read(self) -> Any:
        if self._name:
            return getattr(self._widget, self._name)
        return self._choice[self._widget.currentIndex] if self._choice else self._widget.currentNode()

    def write(self, value: Any) -> None:
        if self._name:
            setattr(self._widget, self._name, value)
        elif self._choice:
            self._widget.currentIndex = list(self._choice).index(value)
        else:
            self._widget.setCurrentNode(value)


class _Wrapper:
    """The methods every wrapped parameter node has."""

    _parameters: typing.ClassVar[dict[str, _Parameter]]

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._shown: dict[int, dict[str, _Connector]] = {}
        self._observers: dict[int, int] = {}
        self._updating = False
        for parameter in self._parameters.values():
            if not parameterNode.HasParameter(parameter.name):
                parameter.write(parameterNode, parameter.default)

    def getValue(self, name: str) -> Any:
        return self._parameters[name].read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self._parameters[name].write(self.parameterNode, value)

    def connectGui(self, gui: Any) -> int:
        named = {widget.property("SlicerParameterName"): widget for widget in vars(gui).values()}
        shown = {name: _Connector(widget, self._parameters[name]) for name, widget in named.items() if name}
        tag = len(self._observers)
        self._shown[tag] = shown
        self._refresh()
        for name, connector in shown.items():
            connector.connect(lambda name=name, connector=connector: self._take(name, connector))
        self._observers[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._refresh())
        return tag

    def disconnectGui(self, guiTag: Any) -> None:
        if guiTag in self._shown:
            for connector in self._shown.pop(guiTag).values():
                connector.disconnect()
            self.RemoveObserver(self._observers[guiTag])

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModifying: int) -> int:
        return self.parameterNode.EndModify(wasModifying)

    def _take(self, name: str, connector: _Connector) -> None:
        if not self._updating:
            self.setValue(name, connector.read())

    def _refresh(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for shown in self._shown.values():
                for name, connector in shown.items():
                    connector.write(self.getValue(name))
        finally:
            self._updating = False


def parameterNodeWrapper(classtype: Any) -> Any:
    """Class decorator: the annotated names become parameters of a node."""
    hints = typing.get_type_hints(classtype, include_extras=True)
    parameters = {name: _Parameter(name, hint, getattr(classtype, name, None)) for name, hint in hints.items()}
    accessors = {
        name: property(lambda self, n=name: self.getValue(n), lambda self, value, n=name: self.setValue(n, value))
        for name in parameters
    }
    attributes = {**accessors, "_parameters": parameters, "__doc__": classtype.__doc__}
    return type(classtype.__name__, (_Wrapper, classtype), attributes)
