"""The Measure tab: many samples of a model in the background, their mean curves, and whether the two tasks conflict."""
