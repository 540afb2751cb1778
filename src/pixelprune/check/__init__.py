"""What the self-check, the doctor and the tests share: an oracle, tiny models, and a check of this installation."""
