"""One folder of the subject hierarchy for each registration, with all that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import vtk

from .marks import run_of
from .transforms import fixed_of

_OWNER = "FoundationRegistration.Registration"


def put_into_folder(transform_node: Any, nodes: Iterable[Any]) -> None:
    """Put a registration and what it made into its folder, beside the fixed volume; made if there is none.

    What the user has already moved elsewhere keeps its place. Call it after a batch of changes of the scene, in which
    nodes have no place in the hierarchy yet.

    Args:
        transform_node: the registration.
        nodes: what belongs to it; None for what there is not.
    """
    tree = transform_node.GetScene().GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    if tree is None:  # outside the application
        return
    fixed, top = fixed_of(transform_node), tree.GetSceneItemID()
    fixed_item = tree.GetItemByDataNode(fixed) if fixed is not None else 0
    beside = tree.GetItemParent(fixed_item) if fixed_item else top
    folder = _folder_of(tree, transform_node) or _new_folder(tree, transform_node, beside)
    for node in (transform_node, *nodes):
        if node is None:
            continue
        item = tree.GetItemByDataNode(node)
        if not item:  # the application adds nodes to the hierarchy by itself, other programs do not
            tree.CreateItem(folder, node)
        elif tree.GetItemParent(item) in (top, beside):
            tree.SetItemParent(item, folder)


def _folder_of(tree: Any, transform_node: Any) -> int:
    """Return the folder of a registration, 0 if there is none."""
    items = vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID(), items, True)
    identity = run_of(transform_node)[0]
    children = (items.GetId(number) for number in range(items.GetNumberOfIds()))
    return next((item for item in children if tree.GetItemAttribute(item, _OWNER) == identity), 0)


def _new_folder(tree: Any, transform_node: Any, beside: int) -> int:
    folder = tree.CreateFolderItem(beside, tree.GenerateUniqueItemName(transform_node.GetName()))
    tree.SetItemAttribute(folder, _OWNER, run_of(transform_node)[0])
    return folder
