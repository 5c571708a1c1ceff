"""From labelled liver CT to a classifier, a report, and the truth about how good it is."""
