"""Stand-ins for the MRML widgets of the .ui file, over a real scene."""

from __future__ import annotations

from typing import Any

import qt
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

_CREATE = "create "


class qMRMLWidget(qt.facade(QtWidgets.QWidget)):
    """A widget that tells its children which scene is shown."""

    mrmlSceneChanged = QtCore.Signal(object)
    isEntered = False

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


class _FilterModel(qt.facade(QtCore.QObject)):
    """What a node selector leaves out besides other types."""

    def __init__(self, selector: Any) -> None:
        super().__init__(selector)
        self._selector, self._hidden = selector, []

    def _hide(self, node_ids: Any) -> None:
        self._hidden = list(node_ids)
        self._selector.rebuild()

    hiddenNodeIDs = QtCore.Property("QStringList", lambda self: self._hidden, _hide)


class _NodeComboBoxBase(qt.facade(QtWidgets.QWidget)):
    """Lists the nodes of some classes; keeps its choice while the scene changes around it."""

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._options = {
            "nodeTypes": [],
            "noneEnabled": False,
            "noneDisplay": "None",
            "addEnabled": True,
            "removeEnabled": True,
            "renameEnabled": False,
            "showChildNodeTypes": True,
            "selectNodeUponCreation": True,
        }
        self._attributes: dict[str, str] = {}
        self._filter = _FilterModel(self)
        self._scene = None
        self._observations: list[tuple[Any, int]] = []
        self._current_id = ""
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.combo = QtWidgets.QComboBox()
        self.combo.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(8)
        self.combo.activated.connect(self._on_activated)
        layout.addWidget(self.combo)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        for observed, tag in self._observations:
            observed.RemoveObserver(tag)
        self._scene = scene
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent) if scene else ()
        self._observations = [(scene, scene.AddObserver(event, self._on_scene)) for event in events]
        self.rebuild()

    def nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        found = [self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes())]
        hidden = self._filter.hiddenNodeIDs
        return [
            node
            for node in found
            if not node.GetHideFromEditors()
            and node.GetID() not in hidden
            and self._has_type(node)
            and self._has_attributes(node)
        ]

    def sortFilterProxyModel(self) -> Any:
        return self._filter

    def addAttribute(self, class_name: str, attribute: str) -> None:
        self._attributes[class_name] = attribute
        self.rebuild()

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current_id) if self._scene and self._current_id else None

    def setCurrentNode(self, node: Any) -> None:
        self._select(node.GetID() if node is not None and node in self.nodes() else "")

    def addNode(self, class_name: str = "") -> Any:
        node = self._scene.AddNewNodeByClass(class_name or self._options["nodeTypes"][0])
        if self._options["selectNodeUponCreation"]:
            self._select(node.GetID())
        return node

    def rebuild(self) -> None:
        nodes = self.nodes()
        self.combo.blockSignals(True)
        self.combo.clear()
        if self._options["noneEnabled"]:
            self.combo.addItem(self._options["noneDisplay"], "")
        for node in nodes:
            self.combo.addItem(node.GetName(), node.GetID())
        if self._options["addEnabled"]:
            for class_name in self._options["nodeTypes"]:
                self.combo.addItem(f"Create new {class_name[len('vtkMRML') : -len('Node')]}", _CREATE + class_name)
        self.combo.blockSignals(False)
        ids = [node.GetID() for node in nodes]
        kept = self._current_id in ids
        self._select(self._current_id if kept else "" if self._options["noneEnabled"] or not ids else ids[0])

    def _has_type(self, node: Any) -> bool:
        if self._options["showChildNodeTypes"]:
            return any(node.IsA(name) for name in self._options["nodeTypes"])
        return node.GetClassName() in self._options["nodeTypes"]

    def _has_attributes(self, node: Any) -> bool:
        wanted = [name for class_name, name in self._attributes.items() if node.IsA(class_name)]
        return all(node.GetAttribute(name) is not None for name in wanted)

    def _on_scene(self, caller: Any, event: Any) -> None:
        if not self._scene.IsBatchProcessing():
            self.rebuild()

    def _on_activated(self, index: int) -> None:
        data = self.combo.itemData(index)
        if data.startswith(_CREATE):
            self.addNode(data[len(_CREATE) :])
        else:
            self._select(data)

    def _select(self, node_id: str) -> None:
        self.combo.setCurrentIndex(self.combo.findData(node_id))
        if node_id != self._current_id:
            self._current_id = node_id
            self.currentNodeChanged.emit(self.currentNode())


def _option(name: str, qt_type: Any) -> QtCore.Property:
    def read(self: Any) -> Any:
        return self._options[name]

    def write(self: Any, value: Any) -> None:
        self._options[name] = list(value) if qt_type == "QStringList" else value
        self.rebuild()

    return QtCore.Property(qt_type, read, write)


class qMRMLNodeComboBox(_NodeComboBoxBase):
    """Choice of one node."""

    nodeTypes = _option("nodeTypes", "QStringList")
    noneEnabled = _option("noneEnabled", bool)
    noneDisplay = _option("noneDisplay", str)
    addEnabled = _option("addEnabled", bool)
    removeEnabled = _option("removeEnabled", bool)
    renameEnabled = _option("renameEnabled", bool)
    showChildNodeTypes = _option("showChildNodeTypes", bool)
    selectNodeUponCreation = _option("selectNodeUponCreation", bool)


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Choice of several nodes by check marks; the marks are kept by node ID."""

    checkedNodesChanged = QtCore.Signal()

    def __init__(self, parent: Any = None) -> None:
        self._checked: set[str] = set()
        super().__init__(parent)
        self._options["addEnabled"] = False

    def rebuild(self) -> None:
        nodes = self.nodes()
        self._checked &= {node.GetID() for node in nodes}
        model = QtGui.QStandardItemModel()
        for node in nodes:
            item = QtGui.QStandardItem(node.GetName())
            item.setCheckable(True)
            item.setCheckState(self.checkState(node))
            model.appendRow(item)
        self.combo.setModel(model)
        self.combo.setPlaceholderText(f"{len(self._checked)} of {len(nodes)} nodes")
        self.combo.setCurrentIndex(-1)

    def checkState(self, node: Any) -> Any:
        return QtCore.Qt.CheckState.Checked if node.GetID() in self._checked else QtCore.Qt.CheckState.Unchecked

    def setCheckState(self, node: Any, state: Any) -> None:
        change = self._checked.add if state == QtCore.Qt.CheckState.Checked else self._checked.discard
        change(node.GetID())
        self.rebuild()
        self.checkedNodesChanged.emit()

    def _on_activated(self, index: int) -> None:
        node = self.nodes()[index]
        checked = self.checkState(node) == QtCore.Qt.CheckState.Checked
        self.setCheckState(node, QtCore.Qt.CheckState.Unchecked if checked else QtCore.Qt.CheckState.Checked)


class qMRMLTableView(qt.facade(QtWidgets.QTableWidget)):
    """Shows a table node."""

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def setMRMLTableNode(self, node: Any) -> None:
        table = node.GetTable() if node else vtk.vtkTable()
        self.setRowCount(table.GetNumberOfRows())
        self.setColumnCount(table.GetNumberOfColumns())
        self.setHorizontalHeaderLabels([table.GetColumnName(c) for c in range(table.GetNumberOfColumns())])
        for row in range(table.GetNumberOfRows()):
            for column in range(table.GetNumberOfColumns()):
                text = table.GetValue(row, column).ToString()
                self.setItem(row, column, QtWidgets.QTableWidgetItem(text))
        self.verticalHeader().hide()
        self.resizeColumnsToContents()
        self.resizeRowsToContents()


WIDGETS = (qMRMLWidget, qMRMLNodeComboBox, qMRMLCheckableNodeComboBox, qMRMLTableView)
