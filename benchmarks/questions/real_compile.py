"""How long does it take to compile a small C and a small C++ program?

gcc and g++ in a chroot of the mount, preprocessor to linker. cold: a fresh mount, all caches dropped; warm: once more.
"""

from __future__ import annotations

from benchmarks.questions.programs import Program, ProgramQuestion

C = "printf '#include <stdio.h>\\nint main(void) { puts(\"hello\"); }\\n' | gcc -O1 -x c - -o /tmp/c && /tmp/c"
CXX = """printf '#include <iostream>\\n#include <vector>\\n#include <algorithm>\\n#include <regex>\\n
int main() { std::cout << std::vector<int>{1,2}.size(); }\\n' | g++ -O1 -x c++ - -o /tmp/cc && /tmp/cc"""


class Compile(ProgramQuestion):
    """The headers of the program are the work, not its code."""

    name = "real_compile"
    tree = "real"
    rounds = 0.6
    writes = False
    programs = (
        Program("c", C, inside=True),
        Program("c++", CXX, inside=True),
    )


QUESTION = Compile()
