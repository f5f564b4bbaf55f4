"""git clones by hard links, renames its temporary packs and maps them: all of it on lower and upper files."""

from pathlib import Path

from .stage import Stage, differences

NEEDS = ("git",)

IDENTITY = {
    name: value
    for who in ("AUTHOR", "COMMITTER")
    for name, value in ((f"GIT_{who}_NAME", "A"), (f"GIT_{who}_EMAIL", "a@example.org"))
}
HISTORY = """
git init -q -b main .
for n in 1 2 3 4 5 6 7 8; do
    mkdir -p src/d$n && seq 1 ${n}00 > src/d$n/lines && echo $n > version
    git add -A && git commit -q -m "commit $n"
done
"""


def git(stage: Stage, script: str, cwd: Path) -> str:
    return stage.sh(script, cwd=cwd, env=IDENTITY)


def test_repository_cloned_committed_to_and_collected_on_the_mount_stays_sound(stage: Stage) -> None:
    lower = stage.layer("lower", {"origin": None})
    git(stage, HISTORY, cwd=lower / "origin")
    union = stage.mount(lower)
    git(
        stage,
        """
        git clone -q origin clone
        cd clone
        git checkout -q -b topic && git mv src moved && git rm -qf moved/d8/lines && git commit -q -am 'move'
        git checkout -q main && echo 9 > version && git commit -q -am 'nine' && git merge -q --no-edit topic
        git push -q origin topic
        git gc -q --prune=now && git fsck --full --strict
        cd ../origin && git gc -q --aggressive --prune=now && git fsck --full --strict
        git worktree add -q ../tree topic && test -f ../tree/moved/d7/lines
        """,
        cwd=union.merged,
    )
    stage.remount(union)
    report = "git fsck --full && git status --porcelain && git rev-list --count HEAD && git count-objects -v"
    assert git(stage, report, cwd=union.merged / "clone").split()[:3] == ["11", "count:", "0"]
    assert git(stage, report, cwd=union.merged / "origin").split()[:1] == ["8"]
    assert git(stage, report, cwd=lower / "origin").split()[0] == "8"


def test_rebase_and_stash_in_a_lower_repository_leave_the_lower_alone(stage: Stage) -> None:
    lower = stage.layer("lower", {"origin": None})
    git(stage, HISTORY, cwd=lower / "origin")
    before = stage.look(lower)
    union = stage.mount(lower)
    git(
        stage,
        """
        git checkout -q -b side HEAD~3 && echo side > side && git add side && git commit -q -m side
        git rebase -q main && echo dirty >> version && git stash -q && git stash pop -q
        test "$(git status --porcelain)" = " M version" && git reset -q --hard && git clean -qfdx && git fsck --full
        """,
        cwd=union.merged / "origin",
    )
    assert differences(stage.look(lower), before) == {}
