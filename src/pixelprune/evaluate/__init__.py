"""Models whole and pruned on the field's own sets, inside lmms-eval and VLMEvalKit: one command, one table.

Needs ``pixelprune[evaluate]`` and the harness of each set. ``pixelprune evaluate`` is the command;
:mod:`pixelprune.evaluate.config` reads its file, and :mod:`pixelprune.evaluate.run` fills the cells of its table.
"""
