"""The benchmark harness: one honest table of what storage drivers cost, made by one command.

    options, __main__   the command line: run, rows, compare, peers
    requirements, rows  what is asked beside the strongest peers, in groups; a run of these alone, and its table
    model               the words: Case, Value, BuiltTree, and the two doors Subject and Question
    subjects/           what is measured, one file each: ours and the peers
    questions/          what is asked, one file each; its docstring is the question
    trees/              what is mounted: own, shared, wide, big, million, real; built once, kept in a cache
    probe*.c, probe.py  the compiled timing loops
    mounted_site.py     one mount of one subject: its directories, its processes, its caches
    runner.py           rounds, interleaved over subjects; writes records
    records.py          JSON lines and their schema
    stats.py, compare.py, targets.py
    report/             Markdown, plots, one HTML page
    results/            what was measured

A new subject: a file in subjects/ with a class that satisfies `model.Subject`, named in `subjects.all_subjects`.
A new question: a file in questions/ with a class that satisfies `model.Question`, named in `questions.all_questions`.
"""
