"""Tables of scores, made only from records: cells by task, arm and N, and the scores of their curves."""
