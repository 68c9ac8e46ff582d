"""The Compare tab: things side by side, their numbers, sentences, charts and export."""
