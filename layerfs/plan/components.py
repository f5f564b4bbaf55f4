"""Strongly connected components, by Tarjan's algorithm (1972) without recursion."""

from collections.abc import Sequence


def components(edges: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the components of a graph, each sorted; one comes after all that it depends on."""
    found: list[list[int]] = []
    index, low = [0] * len(edges), [0] * len(edges)  # 0: not seen
    inside = [False] * len(edges)
    open_nodes: list[int] = []
    count = 0
    for root in range(len(edges)):
        work = [] if index[root] else [(root, 0)]
        while work:
            node, place = work.pop()
            if place == 0:
                count += 1
                index[node] = low[node] = count
                open_nodes.append(node)
                inside[node] = True
            deeper = False
            below = edges[node]
            while place < len(below):
                other = below[place]
                place += 1
                if not index[other]:
                    work += [(node, place), (other, 0)]
                    deeper = True
                    break
                if inside[other]:
                    low[node] = min(low[node], index[other])
            if deeper:
                continue
            if low[node] == index[node]:
                found.append(_close(node, open_nodes, inside))
            if work:
                above = work[-1][0]
                low[above] = min(low[above], low[node])
    return found


def _close(node: int, open_nodes: list[int], inside: list[bool]) -> list[int]:
    """Take a whole component from the stack of open nodes."""
    members = []
    while True:
        member = open_nodes.pop()
        inside[member] = False
        members.append(member)
        if member == node:
            return sorted(members)
