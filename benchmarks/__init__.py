"""Speed, as ratios against a floor measured in the same run. `make bench` runs everything; README.md says what."""
