"""The core: which blocks are kept, and how kept blocks become rows of a vision tower's input. No model, no engine."""
