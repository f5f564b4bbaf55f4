"""Large trees copied, moved and removed with coreutils."""

import pytest

from .stage import Stage, Tree, Union, differences

FOLDERS, FILES = 40, 50
SHAPE = {f"d{folder}": {f"f{file}": f"{folder}/{file}\n" for file in range(FILES)} for folder in range(FOLDERS)}


@pytest.fixture
def union(stage: Stage) -> Union:
    """Three layers that share every directory, each with a third of its files."""
    return stage.mount(*(stage.layer(f"lower{part}", {"tree": third(part)}) for part in range(3)))


def third(part: int) -> Tree:
    return {d: dict(list(files.items())[part::3]) for d, files in SHAPE.items()}


def count(stage: Stage, union: Union, path: str) -> int:
    return len(stage.run("find", union.merged / path, "-type", "f").splitlines())


def test_copied_tree_is_the_same_and_stays_when_the_original_is_removed(stage: Stage, union: Union) -> None:
    stage.sh("cp -a tree copy && diff -r tree copy && touch marker", cwd=union.merged)
    original = stage.look(union.merged / "tree")
    assert differences(stage.look(union.merged / "copy"), original) == {}
    stage.sh("rm -rf tree && test ! -e tree", cwd=union.merged)
    stage.remount(union)
    assert stage.sh("ls -A", cwd=union.merged).split() == ["copy", "marker"]
    assert differences(stage.look(union.merged / "copy"), original) == {}
    stage.sh("mkdir tree && rmdir tree && rm -rf copy marker", cwd=union.merged)
    assert stage.sh("ls -A", cwd=union.merged) == ""


def test_tree_made_again_after_rm_shows_nothing_of_the_lowers(stage: Stage, union: Union) -> None:
    stage.sh("rm -rf tree && mkdir -p tree/d1 && echo new > tree/d1/f1", cwd=union.merged)
    assert stage.sh("find tree", cwd=union.merged).split() == ["tree", "tree/d1", "tree/d1/f1"]
    stage.remount(union)
    assert stage.sh("find tree", cwd=union.merged).split() == ["tree", "tree/d1", "tree/d1/f1"]


def test_moved_tree_arrives_whole_and_its_old_name_can_be_used_again(stage: Stage, union: Union) -> None:
    stage.sh("mv tree moved && mv moved/d0 d0 && mkdir tree && mv d0 tree/ && mv moved tree/d0/deep", cwd=union.merged)
    stage.remount(union)
    assert count(stage, union, "tree") == FOLDERS * FILES
    assert count(stage, union, "tree/d0/deep") == (FOLDERS - 1) * FILES
    stage.sh("rm -rf tree/d0/deep/d1 && mv tree/d0/deep new && rm -r tree && mv new tree", cwd=union.merged)
    stage.remount(union)
    assert count(stage, union, "tree") == (FOLDERS - 2) * FILES


def test_tree_is_rewritten_in_place_by_sed_chmod_and_hard_links(stage: Stage, union: Union) -> None:
    stage.sh(
        """
        find tree -type f -print0 | xargs -0 sed -i s,/,:,
        cp -al tree linked && chmod -R go-rwx tree
        test "$(find linked -type f -perm 600 | wc -l)" = 2000
        test "$(find linked -type f -links 2 | wc -l)" = 2000
        """,
        cwd=union.merged,
    )
    stage.remount(union)
    contents = set(stage.sh("find linked -type f -exec cat {} +", cwd=union.merged).split())
    assert contents == {f"{folder}:{file}" for folder in range(FOLDERS) for file in range(FILES)}
