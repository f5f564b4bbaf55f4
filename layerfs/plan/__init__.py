"""Which modules share a layer: graphs of modules, what a plan costs, the planner. docs/plan.md has the words."""
